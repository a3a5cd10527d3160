// SPDX-License-Identifier: GPL-2.0-only
// What `minivmx bench` makes of measurements that are made up here: table, JSON, picture,
// comparison.
#include "bench/bench_vm.hpp"
#include "bench/choice.hpp"
#include "bench/compare.hpp"
#include "bench/exit_count.hpp"
#include "bench/groups.hpp"
#include "bench/measure.hpp"
#include "bench/paging_guest.hpp"
#include "bench/report.hpp"
#include "tool_support.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace minivmx::tool {
namespace {

using Strings = std::vector<std::string>;

bool contains(const std::string &text, const std::string &part)
{
    return text.find(part) != std::string::npos;
}

BenchSample sample(double ticks)
{
    BenchSample one;
    one.ticks = ticks;
    return one;
}

BenchRow row(const std::string &name, BenchGroup group, const std::vector<double> &ticks)
{
    BenchRow one;
    one.name = name;
    one.group = group;
    one.operation = "what " + name + " does";
    for (const double each : ticks)
        one.samples.push_back(sample(each));
    return one;
}

BenchReport report_of(std::vector<BenchRow> rows)
{
    BenchReport report;
    report.devices = {"/dev/kvm", "/dev/minivmx"};
    report.machine = {"6.1.0", "A CPU", "l1tf: Mitigation: PTE Inversion"};
    report.exits_counted = true;
    report.rows = std::move(rows);
    return report;
}

BenchReport typical()
{
    BenchRow cpuid = row("cpuid", BenchGroup::kInKernel, {840, 1320});
    cpuid.exits = 1;
    cpuid.samples[0].exits = cpuid.samples[1].exits = 1;
    BenchRow life = row("vm-1-vcpu", BenchGroup::kLife, {5'000'000, 200'000});
    life.samples[0].waiting = 4'000'000;
    life.samples[0].exits = 2.5;
    BenchRow memory = row("vm-memory", BenchGroup::kLife, {540'800, 99'328});
    memory.unit = BenchUnit::kBytes;
    BenchRow broken = row("ipi", BenchGroup::kLife, {});
    broken.problem = "/dev/kvm: it did not answer";
    return report_of(
        {row("null-ioctl", BenchGroup::kFloor, {311, 300}), cpuid, life, memory, broken});
}

// ---- The cases
// ------------------------------------------------------------------------------------

TEST(BenchCases, NamesAreUniqueAndGroupsAreTogether)
{
    std::set<std::string> names;
    BenchGroup last = BenchGroup::kFloor;
    for (const BenchCase &one : bench_cases()) {
        EXPECT_TRUE(names.insert(one.name).second) << one.name;
        EXPECT_LE(last, one.group) << one.name;
        EXPECT_NE(one.measure, nullptr) << one.name;
        EXPECT_EQ(group_of_key(group_facts(one.group).key), one.group) << one.name;
        last = one.group;
    }
    for (const char *name :
         {"null-ioctl", "cpuid",        "vmcall",          "rdmsr",       "wrmsr",
          "cr0-write",  "halt-wakeup",  "self-ipi",        "ipi",         "apic-timer",
          "pio-out",    "pio-in",       "pio-string",      "mmio-write",  "mmio-read",
          "ioeventfd",  "touch-fresh",  "touch-populated", "touch-large", "dirty-round",
          "vm-memory",  "eventfd-ping", "host-touch",      "l1d-flush",   "cr3-switch",
          "fork",       "demand-fault", "cr3-switch-many", "mprotect"})
        EXPECT_TRUE(names.contains(name)) << name;
}

TEST(BenchCases, EveryExitThatTheKernelAnswersIsCounted)
{
    for (const BenchCase &one : bench_cases()) {
        const unsigned expected = one.group == BenchGroup::kInKernel ? 1 : one.exits;
        EXPECT_EQ(one.exits, expected) << one.name;
    }
}

TEST(BenchCases, WhatRunsInTheGuestIsInItsSection)
{
    const auto begin = reinterpret_cast<std::uint64_t>(__start_bench_paging);
    const auto end = reinterpret_cast<std::uint64_t>(__stop_bench_paging);
    for (void (*const entry)() :
         {paging_setup, paging_switch, paging_demand, paging_fork, paging_protect, paging_fault}) {
        EXPECT_GE(reinterpret_cast<std::uint64_t>(entry), begin);
        EXPECT_LT(reinterpret_cast<std::uint64_t>(entry), end);
    }
    EXPECT_LE(kPagingCode + (end - begin), kPagingState);
    EXPECT_LE(kPagingState + sizeof(PagingState), kBenchLowMemory);
}

Strings chosen(const Strings &names)
{
    constexpr auto kNothing = [](const Device &) { return BenchSample(); };
    const std::vector<BenchCase> all = {
        {"ipi", BenchGroup::kInterrupts, "", 0, kNothing},
        {"self-ipi", BenchGroup::kInterrupts, "", 0, kNothing},
        {"pio-out", BenchGroup::kToUser, "", 0, kNothing},
        {"pio-in", BenchGroup::kToUser, "", 0, kNothing},
    };
    Strings result;
    for (const BenchCase &one : choose_cases(all, names))
        result.emplace_back(one.name);
    return result;
}

TEST(BenchChoice, WholeNamesBeforeParts)
{
    EXPECT_EQ(chosen({}), (Strings{"ipi", "self-ipi", "pio-out", "pio-in"}));
    EXPECT_EQ(chosen({"ipi"}), (Strings{"ipi"}));
    EXPECT_EQ(chosen({"pi"}), (Strings{"ipi", "self-ipi", "pio-out", "pio-in"}));
    EXPECT_EQ(chosen({"pio-", "ipi"}), (Strings{"ipi", "pio-out", "pio-in"}));
    EXPECT_EQ(chosen({"pio-in", "pio-in"}), (Strings{"pio-in"}));
}

TEST(BenchChoice, AnUnknownNameIsTheCallersMistake)
{
    EXPECT_EQ(usage_error([] { chosen({"pio-oot"}); }),
              "CASE: no case is called 'pio-oot'; did you mean pio-out?; --list names them");
    EXPECT_TRUE(contains(usage_error([] { chosen({"ipi", ""}); }), "no case is called ''"));
    EXPECT_FALSE(contains(usage_error([] { chosen({"\033[2J"}); }), "\033"));
    EXPECT_NE(usage_error([] { chosen({std::string(100'000, 'x')}); }), "");
}

// ---- Measuring
// ------------------------------------------------------------------------------------

const Strings kTwo = {"/dev/kvm", "/dev/minivmx"};

TEST(BenchMeasure, DevicesTakeTurnsAndTheLeastCounts)
{
    const BenchCase what = {"cpuid", BenchGroup::kInKernel, "", 0, nullptr};
    std::string order;
    ExitStatus worst = ExitStatus::kOk;
    double ticks = 100;
    const BenchRow result = measure_row(
        what, kTwo, 3,
        [&](std::size_t device) {
            order += device == 0 ? 'k' : 'm';
            return sample(ticks--);
        },
        worst);
    EXPECT_EQ(order, "kmkmkm");
    ASSERT_EQ(result.samples.size(), 2u);
    EXPECT_EQ(result.samples[0].ticks, 96);
    EXPECT_EQ(result.samples[1].ticks, 95);
    EXPECT_EQ(worst, ExitStatus::kOk);
}

TEST(BenchMeasure, WaitingIsNoReasonToPreferATurn)
{
    const BenchCase what = {"vm", BenchGroup::kLife, "", 0, nullptr};
    ExitStatus worst = ExitStatus::kOk;
    unsigned turn = 0;
    const BenchRow result = measure_row(
        what, {"/dev/kvm"}, 2,
        [&](std::size_t) {
            BenchSample one =
                sample(turn == 0 ? 1000 : 500); // the second waited less, but did more
            one.waiting = turn++ == 0 ? 900 : 100;
            return one;
        },
        worst);
    EXPECT_EQ(result.samples[0].busy(), 100);
}

TEST(BenchMeasure, OfMemoryTheMostCounts)
{
    const BenchCase what = {"m", BenchGroup::kLife, "", 0, nullptr, BenchUnit::kBytes};
    ExitStatus worst = ExitStatus::kOk;
    double bytes = 4096;
    const BenchRow result = measure_row(
        what, {"/dev/kvm"}, 2, [&](std::size_t) { return sample(bytes /= 2); }, worst);
    EXPECT_EQ(result.samples[0].ticks, 2048);
}

TEST(BenchMeasure, ExitsMustBeExact)
{
    const BenchCase what = {"cpuid", BenchGroup::kInKernel, "", 1, nullptr};
    const auto with_exits = [&](std::vector<double> each, ExitStatus &worst) {
        std::size_t at = 0;
        return measure_row(
            what, {"/dev/minivmx"}, 1,
            [&](std::size_t) {
                BenchSample one = sample(300);
                one.exits = each[std::min(at++, each.size() - 1)];
                return one;
            },
            worst);
    };
    ExitStatus worst = ExitStatus::kOk;
    EXPECT_EQ(with_exits({1}, worst).problem, "");
    EXPECT_EQ(with_exits({1.000625, 1}, worst).problem, "") << "a stray one is tried again";
    EXPECT_EQ(worst, ExitStatus::kOk);
    const BenchRow wrong = with_exits({0}, worst);
    EXPECT_TRUE(contains(wrong.problem, "/dev/minivmx: 0.000 VM exits for each, expected 1"));
    EXPECT_TRUE(wrong.samples.empty());
    EXPECT_EQ(worst, ExitStatus::kFailed);
    EXPECT_NE(with_exits({2}, worst).problem, "");
    EXPECT_NE(with_exits({1.000625}, worst).problem, "");
}

TEST(BenchMeasure, NobodyCountsAndThatIsNoProblem)
{
    const BenchCase what = {"cpuid", BenchGroup::kInKernel, "", 1, nullptr};
    ExitStatus worst = ExitStatus::kOk;
    EXPECT_EQ(measure_row(
                  what, {"a"}, 1, [](std::size_t) { return sample(1); }, worst)
                  .problem,
              "");
}

TEST(BenchMeasure, TheGravestStatusStays)
{
    const BenchCase what = {"cpuid", BenchGroup::kInKernel, "", 0, nullptr};
    ExitStatus worst = ExitStatus::kOk;
    const auto failing = [&](ExitStatus status) {
        return measure_row(
            what, {"a"}, 1, [&](std::size_t) -> BenchSample { throw Error(status, "because"); },
            worst);
    };
    EXPECT_EQ(failing(ExitStatus::kIncomplete).problem, "because");
    EXPECT_EQ(worst, ExitStatus::kIncomplete);
    failing(ExitStatus::kFailed);
    EXPECT_EQ(worst, ExitStatus::kFailed);
    failing(ExitStatus::kIncomplete);
    EXPECT_EQ(worst, ExitStatus::kFailed);
}

// ---- The table
// ------------------------------------------------------------------------------------

TEST(BenchReport, ATableWithGroups)
{
    const std::string text = bench_text(typical());
    EXPECT_TRUE(contains(text, "What no hypervisor can save\n  null-ioctl  ")) << text;
    EXPECT_TRUE(contains(text, "840           1,320    1.57   what cpuid does\n")) << text;
    EXPECT_FALSE(contains(text, "0.96")) << "floors have no ratio: " << text;
    EXPECT_TRUE(contains(text, "1,000,000         200,000    0.20   what vm-1-vcpu does")) << text;
    EXPECT_TRUE(contains(text, "    VM exits                    2.50               ?\n")) << text;
    EXPECT_TRUE(contains(text, "    waiting                4,000,000               ?\n")) << text;
    EXPECT_TRUE(contains(text, "what vm-memory does (bytes)\n")) << text;
    EXPECT_TRUE(contains(text, "ipi                 not measured: /dev/kvm: it did not answer"))
        << text;
    EXPECT_FALSE(contains(text, "were not counted")) << text;
}

TEST(BenchReport, OneDeviceHasNoRatios)
{
    BenchReport report = report_of({row("cpuid", BenchGroup::kInKernel, {320})});
    report.devices = {"/dev/minivmx"};
    report.exits_counted = false;
    const std::string text = bench_text(report);
    EXPECT_FALSE(contains(text, "ratio ")) << text;
    EXPECT_TRUE(contains(text, "cpuid                          320   what cpuid does\n")) << text;
    EXPECT_TRUE(contains(text, "VM exits were not counted: that takes root, and debugfs")) << text;
    EXPECT_EQ(report.rows[0].ratio(), 0);
}

TEST(BenchReport, NothingIsDividedByZero)
{
    EXPECT_EQ(row("a", BenchGroup::kLife, {0, 5}).ratio(), 0);
    EXPECT_EQ(row("a", BenchGroup::kLife, {-4, 5}).ratio(), 0);
    EXPECT_EQ(row("a", BenchGroup::kLife, {4, 1}).ratio(), 0.25);
    EXPECT_FALSE(row("a", BenchGroup::kLife, {-4, 5}).has_ratio());
    EXPECT_TRUE(row("a", BenchGroup::kLife, {4, 1}).has_ratio());
    EXPECT_FALSE(row("a", BenchGroup::kGrowth, {4, 1}).has_ratio()) << "that is a difference";
}

// ---- JSON, there and back
// -------------------------------------------------------------------------

TEST(BenchJson, ComesBackAsItWas)
{
    const BenchReport before = typical();
    const BenchReport after = bench_report_from("f", bench_json(before).dump());
    EXPECT_EQ(after.devices, before.devices);
    EXPECT_EQ(after.machine.kernel, "6.1.0");
    EXPECT_EQ(after.machine.mitigations, before.machine.mitigations);
    EXPECT_EQ(bench_text(after), bench_text(before));
    EXPECT_EQ(bench_json(after).dump(), bench_json(before).dump());
}

TEST(BenchJson, RatiosAreThereToRead)
{
    const auto json = bench_json(typical());
    EXPECT_EQ(json["cases"][2]["ratio"], 0.2);
    EXPECT_EQ(json["cases"][2]["devices"][0]["waiting"], 4'000'000);
    EXPECT_EQ(json["cases"][3]["devices"][1]["bytes"], 99'328);
    EXPECT_FALSE(json["cases"][4].contains("ratio"));
    EXPECT_EQ(json["cases"][4]["problem"], "/dev/kvm: it did not answer");
}

std::string refusal(const std::string &text)
{
    return usage_error([&] { bench_report_from("the file", text); });
}

/// The typical report's JSON with this change.
template <typename Change>
std::string changed(Change change)
{
    auto json = bench_json(typical());
    change(json);
    return json.dump();
}

TEST(BenchJson, AnythingElseIsRefusedByName)
{
    EXPECT_EQ(refusal("root:x:0"), "the file: not JSON");
    EXPECT_EQ(refusal(""), "the file: not JSON");
    EXPECT_TRUE(contains(refusal("[]"), "the file: not what bench --json writes: 'devices'"));
    EXPECT_TRUE(contains(refusal("{}"), "'devices' is missing"));
    using Json = nlohmann::ordered_json;
    const auto refused = [](auto change) { return refusal(changed(change)); };
    EXPECT_TRUE(contains(refused([](Json &j) { j["devices"] = {"a", "b", "c"}; }), "at most 2"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["devices"] = Json::array(); }), "no device"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["devices"] = {1, 2}; }), "no text"));
    EXPECT_TRUE(contains(refused([](Json &j) { j.erase("machine"); }), "'machine' is missing"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"] = 5; }), "'cases'"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"][0]["group"] = "x"; }), "no group"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"][0]["unit"] = "x"; }), "no unit"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"][0]["name"] = 4; }), "'name' is no text"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"][0]["name"] = "cpuid"; }), "twice"));
    EXPECT_TRUE(
        contains(refused([](Json &j) { j["cases"][0]["devices"].erase(0); }), "1 figures for 2"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"][0]["devices"][0]["ticks"] = "1"; }),
                         "'ticks' is no number"));
    EXPECT_TRUE(contains(refused([](Json &j) { j["cases"][0]["devices"][0]["ticks"] = 1e300; }),
                         "'ticks' is no number"));
    EXPECT_TRUE(contains(refusal(std::string(100'000, '[')), "the file: not"));
}

TEST(BenchJson, NothingInItSpeaksToTheTerminal)
{
    const std::string text = changed([](nlohmann::ordered_json &j) {
        j["cases"][0]["operation"] = "a\033[2Jb";
        j["devices"][0] = "/dev/\x07kvm";
        j["cases"][4]["problem"] = "x\ry";
    });
    const std::string table = bench_text(bench_report_from("f", text));
    for (const char c : {'\033', '\x07', '\r'})
        EXPECT_EQ(table.find(c), std::string::npos);
    EXPECT_TRUE(contains(table, "b\n"));
}

// ---- The picture
// ----------------------------------------------------------------------------------

TEST(BenchPlot, ABarForEachRatio)
{
    const std::string svg = bench_svg(typical());
    EXPECT_TRUE(contains(svg, ">cpuid</text>")) << svg;
    EXPECT_TRUE(contains(svg, "class='more'><title>what cpuid does: 1320 of 840 ticks")) << svg;
    EXPECT_TRUE(contains(svg, "class='less'><title>what vm-1-vcpu does: 200000 of 1000000 ticks"))
        << svg;
    EXPECT_TRUE(contains(svg, "99328 of 540800 bytes")) << svg;
    EXPECT_TRUE(contains(svg, ">1.57</text>")) << svg;
    EXPECT_TRUE(contains(svg, "The cost on minivmx for one on kvm (6.1.0)")) << svg;
    EXPECT_FALSE(contains(svg, "null-ioctl")) << "a floor is nobody's";
    EXPECT_FALSE(contains(svg, ">ipi<")) << "it has no ratio";
    // Both bars end at the same place: the axis is at most 1.2.
    BenchReport far =
        report_of({row("a", BenchGroup::kLife, {1, 1.2}), row("b", BenchGroup::kLife, {1, 1e9})});
    const std::string cut = bench_svg(far);
    EXPECT_EQ(cut.find("width='480.0'"),
              cut.find("<rect") + cut.substr(cut.find("<rect")).find("width"));
    EXPECT_NE(cut.find("width='480.0'"), cut.rfind("width='480.0'"));
}

TEST(BenchPlot, NamesAreNoMarkup)
{
    BenchReport report = report_of({row("<b>&", BenchGroup::kLife, {2, 1})});
    report.devices = {"/tmp/<script>'", "/dev/m\"&"};
    report.rows[0].operation = "</title><x>";
    const std::string svg = bench_svg(report);
    EXPECT_FALSE(contains(svg, "<script>")) << svg;
    EXPECT_FALSE(contains(svg, "<x>")) << svg;
    EXPECT_FALSE(contains(svg, "<b>")) << svg;
}

// ---- Beside saved figures
// -------------------------------------------------------------------------

using Verdict = BenchChange::Verdict;

Verdict verdict(double saved, double now, double tolerated = 3)
{
    const auto changes = compare_reports(
        report_of({row("cpuid", BenchGroup::kInKernel, {1000, now})}),
        report_of({row("cpuid", BenchGroup::kInKernel, {500, saved / 2})}), tolerated);
    return changes.at(0).verdict;
}

TEST(BenchCompare, RatiosMayGrowByThatMuch)
{
    EXPECT_EQ(verdict(300, 300), Verdict::kAsExpected);
    EXPECT_EQ(verdict(300, 308), Verdict::kAsExpected);
    EXPECT_EQ(verdict(300, 310), Verdict::kGrew);
    EXPECT_EQ(verdict(300, 310, 4), Verdict::kAsExpected);
    EXPECT_EQ(verdict(300, 301, 0), Verdict::kGrew);
    EXPECT_EQ(verdict(300, 292), Verdict::kAsExpected);
    EXPECT_EQ(verdict(300, 290), Verdict::kShrank);
}

TEST(BenchCompare, WhatIsMissingIsWrong)
{
    const BenchReport saved = report_of({row("cpuid", BenchGroup::kInKernel, {500, 150}),
                                         row("rdmsr", BenchGroup::kInKernel, {500, 150})});
    BenchRow broken = row("cpuid", BenchGroup::kInKernel, {});
    broken.problem = "it failed";
    const auto changes =
        compare_reports(report_of({broken, row("new", BenchGroup::kInKernel, {500, 150}),
                                   row("floor", BenchGroup::kFloor, {500, 150})}),
                        saved, 3);
    ASSERT_EQ(changes.size(), 2u) << "floors are not compared, nor what was not to be measured";
    EXPECT_EQ(changes[0].verdict, Verdict::kNotMeasured);
    EXPECT_EQ(changes[1].verdict, Verdict::kNotSaved);
    EXPECT_TRUE(changes[0].is_wrong());
    EXPECT_TRUE(changes[1].is_wrong());
}

TEST(BenchCompare, TellsWhatToDo)
{
    BenchChange grew = {
        .name = "cpuid", .expected = 0.3, .now = 0.33, .percent = 10, .verdict = Verdict::kGrew};
    const std::string bad = changes_text({grew}, "data/lean.json", 3);
    EXPECT_TRUE(contains(bad, "beside those of data/lean.json, 3 % tolerated")) << bad;
    EXPECT_TRUE(contains(bad, "cpuid                0.330 was 0.300   +10.0 %: GREW\n")) << bad;
    EXPECT_TRUE(contains(bad, "`make bench` renews")) << bad;
    grew.verdict = Verdict::kShrank;
    EXPECT_FALSE(contains(changes_text({grew}, "f", 3), "make bench"));
    EXPECT_FALSE(grew.is_wrong());
}

// ---- Exit counters
// --------------------------------------------------------------------------------

TEST(BenchExits, InterruptsOfTheHostAreNobodysFault)
{
    EXPECT_EQ(exits_of_reasons("EXTERNAL_INTERRUPT 7\nCPUID 100\nIO_INSTRUCTION 1\n"), 101u);
    EXPECT_EQ(exits_of_reasons(""), 0u);
    EXPECT_EQ(exits_of_reasons("CPUID x\nCPUID\nCPUID 99999999999999999999999\n1 2 3\n"), 0u);
    EXPECT_EQ(exits_of_counts("120\n", "20\n"), 100u);
    EXPECT_EQ(exits_of_counts("", "20"), std::nullopt);
    EXPECT_EQ(exits_of_counts("1", "20"), std::nullopt) << "they are not of one moment";
    EXPECT_EQ(exits_of_counts("-1", "0"), std::nullopt);
}

TEST(BenchExits, OfThisProcess)
{
    namespace fs = std::filesystem;
    char name[] = "/tmp/minivmx-bench-XXXXXX";
    const fs::path directory = mkdtemp(name);
    const long pid = getpid();
    EXPECT_EQ(count_exits(7, directory.string()), std::nullopt);
    const fs::path kvm = directory / "kvm" / fmt::format("{}-7", pid);
    fs::create_directories(kvm);
    std::ofstream(kvm / "exits") << "120\n";
    EXPECT_EQ(count_exits(7, directory.string()), std::nullopt) << "an older kvm";
    std::ofstream(kvm / "irq_exits") << "20\n";
    EXPECT_EQ(count_exits(7, directory.string()), 100u);
    EXPECT_EQ(count_exits(8, directory.string()), std::nullopt) << "another VM";
    const fs::path ours = directory / "minivmx" / std::to_string(pid) / "3";
    fs::create_directories(ours);
    std::ofstream(ours / "exits") << "CPUID 5\n";
    EXPECT_EQ(count_exits(7, directory.string()), 5u);
    fs::remove_all(directory);
}

} // namespace
} // namespace minivmx::tool
