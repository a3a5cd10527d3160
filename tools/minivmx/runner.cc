// SPDX-License-Identifier: GPL-2.0-only
#include "runner.hpp"

#include "exit_text.hpp"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <thread>

namespace minivmx::tool {
namespace {

constexpr int kKickSignal = SIGUSR1;  // interrupts KVM_RUN
constexpr int kEndedSignal = SIGUSR2; // tells the main thread that a vCPU has ended

/// One vCPU, run by one thread.
class CpuLoop {
  public:
    CpuLoop(Vcpu &vcpu, Board &board, const RunLimits &limits)
        : vcpu_(vcpu), board_(board), limits_(limits)
    {}

    CpuLoop(const CpuLoop &) = delete;
    CpuLoop &operator=(const CpuLoop &) = delete;
    ~CpuLoop()
    {
        stop();
        join();
    }

    /// The main thread's handles on the vCPU's thread.
    void start() { thread_ = std::thread(&CpuLoop::run, this); }
    void stop(); // it will end soon
    void join();

    bool ended() const { return ended_.load(); }
    const CpuReport &report() const { return report_; }
    CpuReport take_report() { return std::move(report_); }

  private:
    void run(); // throws nothing: what goes wrong is in the report
    void loop();
    bool handle_exit();
    void handle_io();
    void handle_mmio();
    void end(Ending ending, std::string sentence);
    void trace_exit();

    Vcpu &vcpu_;
    Board &board_;
    const RunLimits &limits_;
    std::thread thread_;
    CpuReport report_;
    std::atomic<bool> stop_ = false;
    std::atomic<bool> ended_ = false;
};

void CpuLoop::run()
{
    try {
        loop();
        vcpu_.complete_exit();
        report_.regs = vcpu_.regs();
        report_.sregs = vcpu_.sregs();
    } catch (const std::exception &error) {
        if (report_.ending == Ending::kStopped)
            end(Ending::kError, error.what());
    }
    ended_.store(true);
    kill(getpid(), kEndedSignal);
}

void CpuLoop::stop()
{
    if (!thread_.joinable())
        return;
    stop_.store(true);
    vcpu_.request_exit();
    pthread_kill(thread_.native_handle(), kKickSignal);
}

void CpuLoop::join()
{
    if (thread_.joinable())
        thread_.join();
}

void CpuLoop::loop()
{
    while (!stop_.load()) {
        const int error = vcpu_.run();
        // A vCPU that waits for another one to start it may come back with EAGAIN.
        if (error == EINTR || error == EAGAIN)
            continue;
        if (error != 0) {
            end(Ending::kError, fmt::format("KVM_RUN failed: {}", errno_text(error)));
            return;
        }
        report_.exits[vcpu_.state().exit_reason]++;
        if (limits_.trace)
            trace_exit();
        if (!handle_exit())
            return;
    }
}

/// Whether the vCPU goes on.
bool CpuLoop::handle_exit()
{
    const kvm_run &state = vcpu_.state();
    switch (state.exit_reason) {
    case KVM_EXIT_IO:
        handle_io();
        return report_.ending == Ending::kStopped;
    case KVM_EXIT_MMIO:
        handle_mmio();
        return true;
    case KVM_EXIT_SET_TPR:         // CR8 fell; no interrupt of ours waits for that
    case KVM_EXIT_IRQ_WINDOW_OPEN: // nor for this
        return true;
    case KVM_EXIT_HLT:
        end(Ending::kHalted, "it halted");
        return false;
    case KVM_EXIT_SHUTDOWN:
        end(Ending::kShutdown, "it shut down by a triple fault");
        return false;
    case KVM_EXIT_FAIL_ENTRY:
        end(Ending::kFailedEntry,
            fmt::format("VM entry failed with hardware reason {} on CPU {}; load the module with "
                        "dump_invalid_vmcs=1 to see the VMCS in dmesg",
                        describe_failed_entry(state.fail_entry.hardware_entry_failure_reason),
                        std::uint32_t{state.fail_entry.cpu}));
        return false;
    case KVM_EXIT_INTERNAL_ERROR:
        end(Ending::kInternalError, fmt::format("the hypervisor gave up: {}; dmesg may say more",
                                                describe_internal_error(state)));
        return false;
    default:
        end(Ending::kUnknownExit, fmt::format("it left with {}, which this VMM does not handle",
                                              exit_name(state.exit_reason)));
        return false;
    }
}

void CpuLoop::handle_io()
{
    const kvm_run &state = vcpu_.state();
    const std::span<std::uint8_t> data = vcpu_.io_data();
    const std::size_t size = state.io.size;
    for (std::size_t at = 0; size != 0 && at + size <= data.size(); at += size) {
        if (state.io.direction == KVM_EXIT_IO_OUT)
            board_.port_write(state.io.port, data.subspan(at, size));
        else
            board_.port_read(state.io.port, data.subspan(at, size));
    }
    if (state.io.direction != KVM_EXIT_IO_OUT)
        return;
    if (state.io.port == GUEST_PORT_EXIT)
        end(Ending::kExitPort,
            fmt::format("it ended the run with status {}", board_.exit_status().value_or(0)));
    else if (const auto request = board_.power_request(); request == PowerRequest::kOff)
        end(Ending::kPowerOff, "it turned the machine off");
    else if (request == PowerRequest::kReset)
        end(Ending::kReset, "it reset the machine");
}

void CpuLoop::handle_mmio()
{
    kvm_run &state = vcpu_.state();
    const std::size_t length = std::min<std::size_t>(state.mmio.len, sizeof(state.mmio.data));
    const std::span<std::uint8_t> data(state.mmio.data, length);
    if (state.mmio.is_write != 0)
        board_.mmio_write(state.mmio.phys_addr, data);
    else
        board_.mmio_read(state.mmio.phys_addr, data);
}

void CpuLoop::end(Ending ending, std::string sentence)
{
    report_.ending = ending;
    report_.sentence = std::move(sentence);
}

void CpuLoop::trace_exit()
{
    const kvm_run &state = vcpu_.state();
    const std::span<std::uint8_t> data =
        state.exit_reason == KVM_EXIT_IO ? vcpu_.io_data() : std::span<std::uint8_t>();
    fmt::print(stderr, "vcpu {}: {}\n", vcpu_.index(), describe_exit(state, data));
}

/// Signals as run_guest needs them, put back at the end. Those that the main thread waits for are
/// blocked in all threads; the kick has a handler that does nothing, since only a handled signal
/// interrupts KVM_RUN.
class SignalSetup {
  public:
    SignalSetup()
    {
        sigemptyset(&waited_);
        for (const int number : {SIGINT, SIGTERM, SIGHUP, kEndedSignal})
            sigaddset(&waited_, number);
        pthread_sigmask(SIG_BLOCK, &waited_, &old_mask_);
        struct sigaction kick = {};
        kick.sa_handler = [](int) {};
        sigaction(kKickSignal, &kick, &old_kick_);
    }
    SignalSetup(const SignalSetup &) = delete;
    SignalSetup &operator=(const SignalSetup &) = delete;
    ~SignalSetup()
    {
        // A vCPU that ended late has left its signal pending: its default action would end us.
        const timespec now = {};
        sigset_t ended;
        sigemptyset(&ended);
        sigaddset(&ended, kEndedSignal);
        while (sigtimedwait(&ended, nullptr, &now) > 0)
            ;
        sigaction(kKickSignal, &old_kick_, nullptr);
        pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
    }

    /// The next of these signals; 0 after `timeout`.
    int wait(std::chrono::nanoseconds timeout) const
    {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
        const timespec limit = {seconds.count(), (timeout - seconds).count()};
        const int number = sigtimedwait(&waited_, nullptr, &limit);
        return number > 0 ? number : 0;
    }

  private:
    sigset_t waited_ = {};
    sigset_t old_mask_ = {};
    struct sigaction old_kick_ = {};
};

/// Whether this ending is one vCPU's only: the others go on.
bool others_go_on(const CpuReport &report)
{
    return report.ending == Ending::kHalted;
}

using Loops = std::vector<std::unique_ptr<CpuLoop>>;

/// The first ended vCPU whose ending ends the run; null while there is none.
const CpuLoop *decisive(const Loops &loops)
{
    for (const auto &loop : loops)
        if (loop->ended() && !others_go_on(loop->report()))
            return loop.get();
    return nullptr;
}

bool all_ended(const Loops &loops)
{
    return std::all_of(loops.begin(), loops.end(), [](const auto &loop) { return loop->ended(); });
}

/// Waits for the end of the run. Returns the signal that ended it, SIGALRM for the timeout, 0 when
/// the guest ended by itself.
int wait_for_end(const Loops &loops, const SignalSetup &signals, std::uint64_t timeout_ms)
{
    using Clock = std::chrono::steady_clock;
    constexpr std::chrono::hours kLong(24);
    const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    while (!all_ended(loops) && decisive(loops) == nullptr) {
        std::chrono::nanoseconds left = kLong;
        if (timeout_ms != 0) {
            left = deadline - Clock::now();
            if (left.count() <= 0)
                return SIGALRM;
        }
        const int number = signals.wait(left);
        if (number != 0 && number != kEndedSignal)
            return number;
    }
    return 0;
}

ExitStatus status_of(const CpuReport &report, const Board &board, const RunLimits &limits)
{
    switch (report.ending) {
    case Ending::kHalted:
    case Ending::kPowerOff:
    case Ending::kReset:
        return ExitStatus::kOk;
    case Ending::kExitPort:
        return board.exit_status().value_or(0) == 0 ? ExitStatus::kOk : ExitStatus::kGuestStatus;
    case Ending::kShutdown:
        return limits.allow_shutdown ? ExitStatus::kOk : ExitStatus::kFailed;
    default:
        return ExitStatus::kFailed;
    }
}

void summarize(RunReport &report, const CpuLoop *decider, int stopped_by, const Board &board,
               const RunLimits &limits)
{
    if (decider != nullptr) {
        report.status = status_of(decider->report(), board, limits);
        report.sentence = fmt::format("the guest's end: {}", decider->report().sentence);
    } else if (stopped_by == SIGALRM) {
        report.status = ExitStatus::kTimeout;
        report.sentence = fmt::format("stopped after {} ms, as --timeout says", limits.timeout_ms);
    } else if (stopped_by != 0) {
        report.status = ExitStatus::kInterrupted;
        report.sentence = "stopped by a signal";
    } else {
        report.status = ExitStatus::kOk;
        report.sentence = "the guest's end: it halted";
    }
}

} // namespace

const char *ending_name(Ending ending)
{
    switch (ending) {
    case Ending::kHalted:
        return "hlt";
    case Ending::kExitPort:
        return "exit-port";
    case Ending::kPowerOff:
        return "power-off";
    case Ending::kReset:
        return "reset";
    case Ending::kShutdown:
        return "shutdown";
    case Ending::kFailedEntry:
        return "fail-entry";
    case Ending::kInternalError:
        return "internal-error";
    case Ending::kUnknownExit:
        return "unknown-exit";
    case Ending::kError:
        return "error";
    case Ending::kStopped:
        return "stopped";
    }
    return "unknown";
}

RunReport run_guest(const std::vector<std::unique_ptr<Vcpu>> &vcpus, Board &board,
                    const RunLimits &limits)
{
    const SignalSetup signals;
    Loops loops;
    for (const auto &vcpu : vcpus)
        loops.push_back(std::make_unique<CpuLoop>(*vcpu, board, limits));
    for (const auto &loop : loops)
        loop->start();

    const int stopped_by = wait_for_end(loops, signals, limits.timeout_ms);
    const CpuLoop *decider = decisive(loops);
    for (const auto &loop : loops)
        loop->stop();
    for (const auto &loop : loops)
        loop->join();
    board.flush();

    RunReport report;
    summarize(report, decider, stopped_by, board, limits);
    for (const auto &loop : loops)
        report.cpus.push_back(loop->take_report());
    return report;
}

} // namespace minivmx::tool
