// SPDX-License-Identifier: GPL-2.0-only
#include "bench_command.hpp"

#include "bench/bench.hpp"
#include "bench/choice.hpp"
#include "bench/compare.hpp"
#include "bench/marks.hpp"
#include "bench/measure.hpp"
#include "bench/report.hpp"
#include "number.hpp"
#include "output.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
A CASE is one of --list, or a part of the names of several. With --device given twice, each case runs
on both in turn, never at the same time; the ratio is that of the second to the first:

  minivmx bench --device /dev/kvm --device /dev/minivmx
  minivmx bench --device /dev/kvm --device /dev/minivmx --json pio mmio >saved.json
  minivmx bench --device /dev/kvm --device /dev/minivmx --expect saved.json pio mmio
  minivmx bench --from saved.json --plot ratios.svg

Figures are ticks of the time-stamp counter for one operation: cycles on hardware, instructions in
Bochs. They are the least of many short windows. "waiting" is time in which the machine's only CPU
was idle; it is not part of the figure above it. As root, and with debugfs at /sys/kernel/debug, VM
exits are counted, too, and a case that does not take exactly those that it should is an error.

Both modules may be loaded. While a VM of one is open, as a QEMU's, the other can't be measured.

Exit status: 0 all was measured (and nothing grew); 1 a device can't be used, a case failed or grew;
2 an option or a file is wrong; 4 this machine can't show a case.)";

struct BenchOptions {
    std::vector<std::string> names;
    std::vector<std::string> devices;
    std::string from;
    std::string plot;
    std::string expect;
    std::string tolerance = "3";
    std::string turns = "2";
    std::string kernel;
    std::string initrd;
    std::string command;
    bool list = false;
    bool mark = false;
    bool json = false;
};

class BenchCommand : public Command {
  public:
    explicit BenchCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    void check() const;
    std::vector<std::string> devices() const;
    std::vector<BenchJob> jobs() const;
    void list() const;
    void mark() const;
    BenchReport measure(ExitStatus &status) const;
    void write_plot(const BenchReport &report) const;

    BenchOptions given_;
};

BenchCommand::BenchCommand(CLI::App &app)
    : Command(app, "bench", "Measure what exits cost, on one device or on two side by side")
{
    CLI::App &o = options();
    o.add_option("CASE", given_.names, "Cases to measure; all without");
    o.add_option("-d,--device", given_.devices,
                 "A device to measure (" MINIVMX_DEVICE "); a second one to compare");
    o.add_option("--turns", given_.turns, "How often each device has its turn, 1 to 100")
        ->capture_default_str();
    o.add_option("--kernel", given_.kernel,
                 "One more case, linux-boot: this kernel (bzImage) until it turns the machine off");
    o.add_option("--initrd", given_.initrd, "That kernel's initial ram disk");
    o.add_option("--command", given_.command,
                 "One more case, command: this shell command, which finds the device in $DEVICE");
    o.add_option("--expect", given_.expect,
                 "Fail where a ratio is greater than in this file, which --json wrote");
    o.add_option("--tolerance", given_.tolerance, "By so many percent it may be greater")
        ->capture_default_str();
    o.add_option("--from", given_.from, "Measure nothing, show this file, which --json wrote");
    o.add_option("--plot", given_.plot, "Write a picture of the ratios to this file (SVG)");
    o.add_flag("--list", given_.list, "Name the cases and measure nothing");
    o.add_flag("--mark", given_.mark,
               "Few windows, between magic breakpoints of Bochs, for tools/machine/count-exits");
    o.add_flag("--json", given_.json, "One JSON object");
    o.footer(kFooter);
}

std::string read_file(const std::string &path)
{
    constexpr std::size_t kMost = 16 << 20;
    std::ifstream file(path, std::ios::binary);
    if (!file)
        fail_usage("{}: cannot open: {}", path, errno_text(errno));
    std::string text(kMost + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad())
        fail_usage("{}: cannot read: {}", path, errno_text(errno));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (text.size() > kMost)
        fail_usage("{}: more than {} bytes", path, kMost);
    return text;
}

BenchReport load(const std::string &path)
{
    return bench_report_from(path, read_file(path));
}

double parse_percent(const std::string &text)
{
    constexpr std::uint64_t kMost = 1000;
    return static_cast<double>(parse_number("--tolerance", text, 0, kMost));
}

/// Refuses what can't be, before minutes are spent on measuring.
void BenchCommand::check() const
{
    if (given_.devices.size() > 2)
        fail_usage("--device: {} devices, expected one or two", given_.devices.size());
    if (!given_.initrd.empty() && given_.kernel.empty())
        fail_usage("--initrd: is for --kernel, which is not given");
    parse_number("--turns", given_.turns, 1, 100);
    parse_percent(given_.tolerance);
    const bool measures = given_.from.empty();
    if (!measures && !(given_.devices.empty() && given_.names.empty() && given_.kernel.empty() &&
                       given_.command.empty()))
        fail_usage("--from: nothing is measured, so it goes with neither CASE, --device, --kernel "
                   "nor --command");
    if (measures && given_.devices.size() != 2)
        for (const auto &[option, value] :
             {std::pair{"--plot", &given_.plot}, std::pair{"--expect", &given_.expect}})
            if (!value->empty())
                fail_usage("{}: is about ratios, so --device must be given twice", option);
    if (given_.mark && given_.devices.size() > 1)
        fail_usage("--mark: {} devices, expected one", given_.devices.size());
}

std::vector<std::string> BenchCommand::devices() const
{
    return given_.devices.empty() ? std::vector<std::string>{MINIVMX_DEVICE} : given_.devices;
}

std::vector<BenchJob> BenchCommand::jobs() const
{
    std::vector<BenchJob> extra;
    if (!given_.kernel.empty())
        extra.push_back(linux_bench_job(given_.kernel, given_.initrd));
    if (!given_.command.empty())
        extra.push_back(command_bench_job(given_.command));
    // Who asks for one of these, and for nothing else, is not told the rest as well.
    std::vector<BenchJob> jobs;
    if (extra.empty() || !given_.names.empty())
        for (const BenchCase &one : choose_cases(bench_cases(), given_.names))
            jobs.push_back({one, one.measure});
    jobs.insert(jobs.end(), extra.begin(), extra.end());
    std::ranges::stable_sort(jobs, {}, [](const BenchJob &job) { return job.what.group; });
    return jobs;
}

void BenchCommand::list() const
{
    std::string text;
    for (const BenchCase &row : choose_cases(bench_cases(), given_.names))
        text += fmt::format("{:<18} {}\n", row.name, row.operation);
    print_text(text);
}

void BenchCommand::mark() const
{
    const Device device(devices().front());
    bench_marking().on = true;
    for (const BenchCase &row : choose_cases(bench_cases(), given_.names)) {
        bench_marking().exits.reset();
        row.measure(device);
        if (!bench_marking().exits)
            fail("{}: {} can't be marked, or nobody counts its exits (as root, in debugfs)",
                 device.path(), row.name);
        fmt::print("marked {} {}\n", row.name, *bench_marking().exits);
    }
}

BenchReport BenchCommand::measure(ExitStatus &status) const
{
    const bool live = isatty(STDERR_FILENO) != 0;
    const auto turns = static_cast<unsigned>(parse_number("--turns", given_.turns, 1, 100));
    const std::vector<BenchJob> all = jobs();
    const BenchReport report = measure_jobs(
        devices(), all, turns,
        [&](const char *name) {
            if (live)
                fmt::print(stderr, "\r\033[K{}", name);
        },
        status);
    if (live)
        fmt::print(stderr, "\r\033[K");
    return report;
}

void BenchCommand::write_plot(const BenchReport &report) const
{
    std::ofstream out(given_.plot);
    out << bench_svg(report);
    out.close();
    if (!out)
        fail("{}: cannot write: {}", given_.plot, errno_text(errno));
}

ExitStatus BenchCommand::execute()
{
    check();
    if (given_.list || given_.mark) {
        given_.list ? list() : mark();
        return ExitStatus::kOk;
    }
    const auto expected = given_.expect.empty() ? std::nullopt : std::optional(load(given_.expect));
    ExitStatus status = ExitStatus::kOk;
    const BenchReport report = given_.from.empty() ? measure(status) : load(given_.from);
    if (!given_.plot.empty()) {
        if (report.devices.size() != 2)
            fail_usage("--plot: {} is about one device, and has no ratios", given_.from);
        write_plot(report);
    }
    std::string changes;
    if (expected) {
        const double percent = parse_percent(given_.tolerance);
        const auto all = compare_reports(report, *expected, percent);
        changes = changes_text(all, given_.expect, percent);
        if (std::ranges::any_of(all, &BenchChange::is_wrong))
            status = ExitStatus::kFailed;
    }
    if (given_.json) {
        print_json(bench_json(report));
        fmt::print(stderr, "{}", changes);
    } else {
        print_text(bench_text(report) + changes);
    }
    return status;
}

} // namespace

std::unique_ptr<Command> make_bench_command(CLI::App &app)
{
    return std::make_unique<BenchCommand>(app);
}

} // namespace minivmx::tool
