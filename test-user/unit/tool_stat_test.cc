// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx stat`: the module's files in a directory of the test's own, and what becomes of them.
#include "error.hpp"
#include "stat/statistics.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

namespace minivmx::tool {
namespace {

namespace fs = std::filesystem;

std::string error_of(const std::function<void()> &action)
{
    try {
        action();
    } catch (const Error &error) {
        return fmt::format("{} {}", static_cast<int>(error.status()), error.what());
    }
    return "no error";
}

class Stat : public testing::Test {
  protected:
    Stat()
    {
        char name[] = "/tmp/minivmx-stat-XXXXXX";
        directory = mkdtemp(name);
    }
    ~Stat() override { fs::remove_all(directory); }

    void vcpu(const std::string &name, const std::string &exits, const std::string &events)
    {
        fs::create_directories(directory / name);
        std::ofstream(directory / name / "exits") << exits;
        std::ofstream(directory / name / "events") << events;
    }
    std::vector<VcpuCounters> read(const std::string &selection = "")
    {
        return read_counters(parse_vcpu_selection(selection), directory.string());
    }
    static std::vector<std::string> names(const std::vector<VcpuCounters> &vcpus)
    {
        std::vector<std::string> all;
        for (const VcpuCounters &one : vcpus)
            all.push_back(one.name.text());
        return all;
    }

    fs::path directory;
};

using Names = std::vector<std::string>;

TEST_F(Stat, ReadsEachVcpuInTheOrderOfNumbers)
{
    vcpu("20/0/10", "HLT 1\n", "halts 0\n");
    vcpu("20/0/9", "HLT 2\nCPUID 7\n", "halts 3\n");
    vcpu("3/1/0", "", "halts 0\n");
    std::ofstream(directory / "20/0/exits") << "HLT 3\n"; // the VM's own
    const auto all = read();
    EXPECT_EQ(names(all), (Names{"3/1/0", "20/0/9", "20/0/10"}));
    EXPECT_EQ(all[1].exits, (Counters{{"CPUID", 7}, {"HLT", 2}}));
    EXPECT_EQ(all[1].events, (Counters{{"halts", 3}}));
}

TEST_F(Stat, Selections)
{
    vcpu("1/0/0", "", "");
    vcpu("1/0/1", "", "");
    vcpu("1/1/0", "", "");
    vcpu("11/0/0", "", "");
    EXPECT_EQ(names(read("1")), (Names{"1/0/0", "1/0/1", "1/1/0"}));
    EXPECT_EQ(names(read("1/0")), (Names{"1/0/0", "1/0/1"}));
    EXPECT_EQ(names(read("1/0/1")), Names{"1/0/1"});
    EXPECT_EQ(names(read("2")), Names{});
    for (const char *wrong :
         {"x", "1/", "/0", "1/0/1/2", "1//2", "-1", "1/0x1", "99999999999999999999", "1/0/0/"})
        EXPECT_EQ(error_of([&] { parse_vcpu_selection(wrong); }).rfind("2 ", 0), 0u) << wrong;
}

TEST_F(Stat, AVmThatGoesIsLeftOut)
{
    vcpu("1/0/0", "HLT 1\n", "halts 0\n");
    fs::create_directories(directory / "1/0/1"); // its files are gone already
    EXPECT_EQ(names(read()), Names{"1/0/0"});
}

TEST_F(Stat, WhatIsNoCounterIsRefusedByLine)
{
    for (const char *wrong : {"HLT\n", "HLT x\n", "HLT 1 2\n", "HLT -1\n", "\x1b[2J 1x\n"}) {
        vcpu("1/0/0", std::string("CPUID 1\n") + wrong, "");
        const std::string error = error_of([&] { read(); });
        EXPECT_NE(error.find("1/0/0/exits, line 2: expected a name and a number"),
                  std::string::npos)
            << error;
        EXPECT_EQ(error.find('\x1b'), std::string::npos);
    }
}

TEST_F(Stat, AProcessMayCallItselfAnything)
{
    EXPECT_EQ(process_name_text("qemu-system-x86\n"), "qemu-system-x86");
    EXPECT_EQ(process_name_text("a\x1b[2Jb c\x7f\n"), "a?[2Jb c?");
    EXPECT_EQ(process_name_text("two\nlines\n"), "two");
    EXPECT_EQ(process_name_text(""), "");
}

TEST_F(Stat, WithoutTheModule)
{
    const std::string error =
        error_of([&] { read_counters({}, (directory / "nowhere").string()); });
    EXPECT_EQ(error.rfind("1 cannot read", 0), 0u) << error;
    EXPECT_NE(error.find("load the module"), std::string::npos) << error;
}

std::vector<VcpuCounters> reading(std::uint64_t cpuid, std::uint64_t hlt)
{
    return {{.name = {5, 0, 0},
             .process = "qemu",
             .exits = {{"CPUID", cpuid}, {"HLT", hlt}},
             .events = {{"halts", hlt}, {"returns_to_user", 0}}}};
}

TEST(StatRates, AreTheDifferencesPerSecond)
{
    const Statistics s = make_statistics(reading(1000, 10), reading(3000, 11), 2.0);
    ASSERT_EQ(s.exits.size(), 2u);
    EXPECT_EQ(s.exits[0].name, "CPUID");
    EXPECT_EQ(s.exits[0].total, 3000u);
    EXPECT_DOUBLE_EQ(s.exits[0].per_second, 1000);
    EXPECT_DOUBLE_EQ(s.exits[1].per_second, 0.5);
    EXPECT_EQ(s.all_exits.total, 3011u);
    EXPECT_DOUBLE_EQ(s.all_exits.per_second, 1000.5);
    EXPECT_EQ(s.by_vcpu[0].name, "5/0/0 qemu");
    EXPECT_EQ(s.vms, 1u);
}

TEST(StatRates, TheMostFrequentComesFirst)
{
    const Statistics s = make_statistics(reading(1000, 10), reading(1001, 50), 1.0);
    EXPECT_EQ(s.exits[0].name, "HLT");
}

TEST(StatRates, AYoungerVcpuOfTheSameNameCountsFromZero)
{
    const Statistics s = make_statistics(reading(1000, 10), reading(4, 10), 1.0);
    EXPECT_DOUBLE_EQ(s.exits[0].per_second, 4);
    EXPECT_DOUBLE_EQ(make_statistics({}, reading(7, 0), 1.0).exits[0].per_second, 7);
}

TEST(StatText, Table)
{
    const Statistics s = make_statistics(reading(1000, 10), reading(1'003'000, 11), 1.0);
    EXPECT_EQ(statistics_text(s, StatRows::kReason, 10),
              "1 VM, 1 vCPU\n"
              "\n"
              "exits by reason                  per second    share            total\n"
              "CPUID                             1,002,000  100.0 %        1,003,000\n"
              "HLT                                     1.0    0.0 %               11\n"
              "all exits                         1,002,001                 1,003,011\n"
              "\n"
              "halts                                   1.0                        11\n");
}

TEST(StatText, OneReadingHasNoRates)
{
    const Statistics s = make_statistics({}, reading(30, 10), 0);
    const std::string text = statistics_text(s, StatRows::kVm, 10);
    EXPECT_EQ(text.find("per second"), std::string::npos);
    EXPECT_NE(text.find("5/0 qemu"), std::string::npos) << text;
    EXPECT_NE(text.find("100.0 %"), std::string::npos) << text;
}

TEST(StatText, RowsThatDoNotFitAreCounted)
{
    const Statistics s = make_statistics({}, reading(30, 10), 0);
    EXPECT_NE(statistics_text(s, StatRows::kReason, 1).find("... and 1 more\n"), std::string::npos);
    EXPECT_EQ(statistics_text(make_statistics({}, {}, 1), StatRows::kReason, 1), "no vCPU\n");
}

TEST(StatJson, HasTotalsRatesAndEachVcpu)
{
    const auto json = statistics_json(make_statistics(reading(1, 1), reading(5, 1), 2.0));
    EXPECT_EQ(json["seconds"], 2.0);
    EXPECT_EQ(json["exits"]["CPUID"]["total"], 5);
    EXPECT_EQ(json["exits"]["CPUID"]["per_second"], 2.0);
    EXPECT_EQ(json["all_exits"]["total"], 6);
    EXPECT_EQ(json["vcpus"][0]["name"], "5/0/0");
    EXPECT_EQ(json["vcpus"][0]["exits"]["HLT"], 1);
    EXPECT_FALSE(statistics_json(make_statistics({}, reading(1, 1), 0))["exits"]["CPUID"].contains(
        "per_second"));
}

} // namespace
} // namespace minivmx::tool
