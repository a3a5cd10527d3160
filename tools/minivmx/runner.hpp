// SPDX-License-Identifier: GPL-2.0-only
//
// Runs a guest's vCPUs, a thread each, until the guest ends, fails, or somebody stops it.
#pragma once

#include "board.hpp"
#include "error.hpp"
#include "kvm.hpp"
#include <minivmx.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace minivmx::tool {

/// Why a vCPU stopped.
enum class Ending {
    kHalted,        // HLT
    kExitPort,      // it wrote to GUEST_PORT_EXIT
    kPowerOff,      // it turned the machine off
    kReset,         // it reset the machine
    kShutdown,      // triple fault
    kFailedEntry,   // the hardware refused the VM entry
    kInternalError, // the hypervisor gave up
    kUnknownExit,   // an exit that this VMM does not handle
    kError,         // an ioctl failed
    kStopped,       // another vCPU's ending, the timeout or a signal stopped it
};

/// The ending's name in JSON.
const char *ending_name(Ending ending);

/// How one vCPU ended. Registers are those behind its last instruction.
struct CpuReport {
    Ending ending = Ending::kStopped;
    std::string sentence;                         // for every ending but kStopped
    std::map<std::uint32_t, std::uint64_t> exits; // by KVM_EXIT_*
    kvm_regs regs = {};
    kvm_sregs sregs = {};
};

/// How the whole run ended.
struct RunReport {
    ExitStatus status = ExitStatus::kOk;
    std::string sentence;
    std::vector<CpuReport> cpus;
};

struct RunLimits {
    std::uint64_t timeout_ms = 0; // 0: none
    bool allow_shutdown = false;  // a triple fault is a good end
    bool trace = false;           // a line on stderr for each exit
};

/// Runs all `vcpus` to the end. Meanwhile SIGINT, SIGTERM and SIGHUP stop the run; SIGUSR1 and
/// SIGUSR2 are used inside. Call from the thread that the process started with, when it is the only
/// one.
RunReport run_guest(const std::vector<std::unique_ptr<Vcpu>> &vcpus, Board &board,
                    const RunLimits &limits);

} // namespace minivmx::tool
