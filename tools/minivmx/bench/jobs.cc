// SPDX-License-Identifier: GPL-2.0-only
//
// What takes seconds and has arguments: a Linux kernel's boot, any command.
#include "bench.hpp"
#include "clock.hpp"
#include "error.hpp"
#include "guest_setup.hpp"
#include "linux_guest.hpp"
#include "runner.hpp"
#include "streams.hpp"

#include <sys/wait.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kLinuxMemory = std::uint64_t{128} << 20;
constexpr std::uint64_t kLinuxTimeoutMs = 600'000;

/// Once, with what was waited for beside it.
template <typename Operation>
BenchSample once(Operation operation)
{
    const IdleClock idle;
    const std::uint64_t begin = now_ticks();
    operation();
    BenchSample sample;
    sample.ticks = static_cast<double>(now_ticks() - begin);
    sample.waiting = idle.ticks();
    return sample;
}

void boot(const Device &device, const LinuxPlan &plan, const GuestMemory &ram)
{
    const Vm vm(device);
    vm.reserve_tss(kTssAddress);
    vm.create_interrupt_controllers();
    SerialLine line(vm);
    StringSink serial, debug;
    NoSource input;
    Board board(serial, input, debug, GUEST_PORT_DEBUG);
    board.make_pc(line);
    const auto vcpus = build_linux_vcpus(plan, ram, vm);
    RunLimits limits;
    limits.timeout_ms = kLinuxTimeoutMs;
    const RunReport report = run_guest(vcpus, board, limits);
    if (report.status != ExitStatus::kOk)
        fail("{}: the kernel did not boot: {}", device.path(), report.sentence);
}

/// What system(3) said, as a sentence about a command that failed; empty for one that did not.
std::string failure_of(int status)
{
    if (status == -1)
        return errno_text(errno);
    if (WIFSIGNALED(status))
        return fmt::format("it was ended by signal {}", WTERMSIG(status));
    return WEXITSTATUS(status) == 0 ? "" : fmt::format("exit status {}", WEXITSTATUS(status));
}

} // namespace

BenchJob linux_bench_job(const std::string &kernel, const std::string &initrd)
{
    LinuxRequest request;
    request.kernel = kernel;
    request.initrd = initrd;
    request.cmdline = "console=ttyS0 quiet";
    request.memory_size = kLinuxMemory;
    const auto plan = std::make_shared<const LinuxPlan>(plan_linux(request));
    return {{"linux-boot", BenchGroup::kLife, "a Linux kernel, from its entry to power-off", 0,
             nullptr},
            [plan](const Device &device) {
                const GuestMemory ram = build_linux_ram(*plan);
                return once([&] { boot(device, *plan, ram); });
            }};
}

BenchJob command_bench_job(const std::string &command)
{
    return {{"command", BenchGroup::kLife, "a command, from its start to its end", 0, nullptr},
            // Standard output is the report's.
            [command, to_stderr = "exec >&2\n" + command](const Device &device) {
                if (setenv("DEVICE", device.path().c_str(), 1) != 0)
                    fail("setenv: {}", errno_text(errno));
                int status = 0;
                const BenchSample sample = once([&] { status = std::system(to_stderr.c_str()); });
                if (const std::string failure = failure_of(status); !failure.empty())
                    fail("{}: '{}' failed: {}", device.path(), command, failure);
                return sample;
            }};
}

} // namespace minivmx::tool
