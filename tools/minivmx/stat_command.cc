// SPDX-License-Identifier: GPL-2.0-only
#include "stat_command.hpp"

#include "number.hpp"
#include "output.hpp"
#include "stat/statistics.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <limits>
#include <thread>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
What the vCPUs of /dev/minivmx have counted: exits from the guest by reason, events injected, sleeps.
It reads the module's files in debugfs, as root; guests are not disturbed.

WHICH is PID, PID/VM or PID/VM/VCPU: the process that made the VM, the VM's number among that
process's VMs (from 0), the vCPU's id. On a terminal the table is refreshed until Ctrl-C.

Exit status: 0; 1 nothing can be read; 2 an option is wrong, or there is no such VM.)";

using Clock = std::chrono::steady_clock;

class StatCommand : public Command {
  public:
    explicit StatCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    void show(const Statistics &statistics) const;
    void require_one(const std::vector<VcpuCounters> &vcpus) const;

    std::string which_;
    std::string interval_ = "1";
    std::string by_ = "reason";
    bool once_ = false;
    bool json_ = false;
};

StatCommand::StatCommand(CLI::App &app)
    : Command(app, "stat", "Watch how often running guests exit, and why")
{
    CLI::App &o = options();
    o.add_option("which", which_, "PID, PID/VM or PID/VM/VCPU; all of them if not given")
        ->type_name("WHICH");
    o.add_option("-i,--interval", interval_, "Seconds between two readings (default 1)")
        ->type_name("SECONDS");
    o.add_option("--by", by_, "A row for each: reason (default), vm or vcpu")
        ->type_name("WHAT")
        ->check(CLI::IsMember({"reason", "vm", "vcpu"}));
    o.add_flag("-1,--once", once_,
               "One table, and end; with --interval 0 at once, and without rates");
    o.add_flag("--json", json_, "JSON: one object, or one a line for each interval");
    o.footer(kFooter);
}

/// How many rows of exits fit on the screen.
std::size_t rows_that_fit()
{
    constexpr std::size_t kOtherLines = 14;
    winsize size = {};
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0)
        return std::numeric_limits<std::size_t>::max();
    return size.ws_row > kOtherLines + 4 ? size.ws_row - kOtherLines : 4;
}

void StatCommand::show(const Statistics &statistics) const
{
    const StatRows rows = by_ == "vm"     ? StatRows::kVm
                          : by_ == "vcpu" ? StatRows::kVcpu
                                          : StatRows::kReason;
    if (json_ && once_)
        print_json(statistics_json(statistics));
    else if (json_)
        print_text(statistics_json(statistics).dump() + "\n");
    else if (once_)
        print_text(statistics_text(statistics, rows, std::numeric_limits<std::size_t>::max()));
    else if (isatty(STDOUT_FILENO)) // to the top, and what is below it goes
        print_text("\033[H\033[J" + statistics_text(statistics, rows, rows_that_fit()));
    else
        print_text(statistics_text(statistics, rows, rows_that_fit()) + "\n");
}

void StatCommand::require_one(const std::vector<VcpuCounters> &vcpus) const
{
    if (which_.empty() || !vcpus.empty())
        return;
    std::vector<std::string> names;
    for (const VcpuCounters &vcpu : read_counters({}))
        names.push_back(vcpu.name.text());
    fail_usage("no vCPU {}; {}", which_,
               names.empty() ? "no VM exists"
                             : fmt::format("there are {}", fmt::join(names, ", ")));
}

ExitStatus StatCommand::execute()
{
    const VcpuSelection selection = parse_vcpu_selection(which_);
    const std::chrono::milliseconds interval(parse_seconds("--interval", interval_));
    if (interval.count() == 0 && !once_)
        fail_usage("--interval 0 is for --once: the table would be refreshed without a pause");

    std::vector<VcpuCounters> before = read_counters(selection);
    Clock::time_point read_at = Clock::now();
    require_one(before);
    if (interval.count() == 0) {
        show(make_statistics({}, before, 0));
        return ExitStatus::kOk;
    }
    for (;;) {
        std::this_thread::sleep_for(interval);
        std::vector<VcpuCounters> now = read_counters(selection);
        const Clock::time_point now_at = Clock::now();
        show(make_statistics(before, now, std::chrono::duration<double>(now_at - read_at).count()));
        if (once_)
            return ExitStatus::kOk;
        before = std::move(now);
        read_at = now_at;
    }
}

} // namespace

std::unique_ptr<Command> make_stat_command(CLI::App &app)
{
    return std::make_unique<StatCommand>(app);
}

} // namespace minivmx::tool
