// SPDX-License-Identifier: GPL-2.0-only
#include "bench_command.hpp"

#include "bench/bench.hpp"
#include "bench/report.hpp"
#include "output.hpp"

#include <cmath>
#include <fstream>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
With --device given twice, each case runs on both in turn, never at the same time, and the ratio is
that of the second to the first:

  minivmx bench --device /dev/kvm --device /dev/minivmx

Figures are ticks of the time-stamp counter: cycles on hardware, instructions in Bochs. Exits are
the least of many short windows; "waiting" is time in which the machine's only CPU was idle, and is
not part of the figure above it. As root, VM exits are counted too, through debugfs, and a case
that did not take the exits it says is an error.

Exit status: 0 all were measured; 1 one could not be; 2 an option is wrong.)";

class BenchCommand : public Command {
  public:
    explicit BenchCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    std::vector<BenchCase> chosen() const;
    BenchReport measure(const std::vector<BenchCase> &cases) const;
    void write_plot(const BenchReport &report) const;

    std::vector<std::string> devices_;
    std::vector<std::string> names_;
    std::string plot_;
    bool list_ = false;
    bool json_ = false;
};

BenchCommand::BenchCommand(CLI::App &app)
    : Command(app, "bench", "Measure what exits cost, on one device or on two side by side")
{
    CLI::App &o = options();
    o.add_option("CASE", names_, "Cases whose names contain this; all without");
    o.add_option("-d,--device", devices_,
                 "A device to measure (" MINIVMX_DEVICE "); a second one to compare")
        ->allow_extra_args(false);
    o.add_option("--plot", plot_, "Write a picture of the ratios to this file (SVG)");
    o.add_flag("--list", list_, "Name the cases and measure nothing");
    o.add_flag("--json", json_, "One JSON object");
    o.footer(kFooter);
}

std::vector<BenchCase> BenchCommand::chosen() const
{
    std::vector<BenchCase> cases = bench_cases();
    if (names_.empty())
        return cases;
    for (const std::string &name : names_)
        if (std::ranges::none_of(cases, [&](const BenchCase &row) {
                return std::string_view(row.name).find(name) != std::string_view::npos;
            }))
            fail_usage("CASE: no case has '{}' in its name; --list names them", name);
    std::erase_if(cases, [&](const BenchCase &row) {
        return std::ranges::none_of(names_, [&](const std::string &name) {
            return std::string_view(row.name).find(name) != std::string_view::npos;
        });
    });
    return cases;
}

void check_exits(const Device &device, const BenchCase &row, const BenchSample &sample)
{
    // An interrupt of the host may end a window's run through the guest, too.
    constexpr double kStray = 0.05;
    if (row.exits != 0 && sample.exits && std::abs(*sample.exits - row.exits) > kStray)
        fail("{}: {} took {:.2f} VM exits, expected {}", device.path(), row.name, *sample.exits,
             row.exits);
}

BenchReport BenchCommand::measure(const std::vector<BenchCase> &cases) const
{
    constexpr unsigned kTurns = 2;
    BenchReport report;
    report.devices = devices_.empty() ? std::vector<std::string>{MINIVMX_DEVICE} : devices_;
    std::vector<Device> devices;
    for (const std::string &path : report.devices)
        devices.emplace_back(path);
    for (const BenchCase &row : cases) {
        if (!json_)
            fmt::print(stderr, "\r\033[K{}", row.name);
        std::vector<BenchSample> best(devices.size());
        for (unsigned turn = 0; turn < kTurns; turn++)
            for (std::size_t i = 0; i < devices.size(); i++) {
                const BenchSample sample = row.measure(devices[i]);
                check_exits(devices[i], row, sample);
                if (turn == 0 || sample.ticks < best[i].ticks)
                    best[i] = sample;
            }
        report.rows.push_back({row, best});
    }
    if (!json_)
        fmt::print(stderr, "\r\033[K");
    return report;
}

void BenchCommand::write_plot(const BenchReport &report) const
{
    std::ofstream out(plot_);
    out << bench_svg(report);
    out.close();
    if (!out)
        fail("cannot write {}", plot_);
}

ExitStatus BenchCommand::execute()
{
    if (devices_.size() > 2)
        fail_usage("--device: {} devices, expected one or two", devices_.size());
    if (!plot_.empty() && devices_.size() != 2)
        fail_usage("--plot: needs --device twice, since it shows the ratios");
    const std::vector<BenchCase> cases = chosen();
    if (list_) {
        for (const BenchCase &row : cases)
            fmt::print("{:<18} {}\n", row.name, row.operation);
        return ExitStatus::kOk;
    }
    const BenchReport report = measure(cases);
    if (!plot_.empty())
        write_plot(report);
    if (json_)
        print_json(bench_json(report));
    else
        print_text(bench_text(report));
    return ExitStatus::kOk;
}

} // namespace

std::unique_ptr<Command> make_bench_command(CLI::App &app)
{
    return std::make_unique<BenchCommand>(app);
}

} // namespace minivmx::tool
