// SPDX-License-Identifier: GPL-2.0-only
//
// What an exit costs: the cases of `minivmx bench`, each measured alike on any device that speaks
// KVM's API.
#pragma once

#include "kvm.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace minivmx::tool {

/// What the cases have in common, and how they are ordered.
enum class BenchGroup : std::uint8_t {
    kFloor,      ///< what no hypervisor can save
    kInKernel,   ///< exits that the kernel answers
    kToUser,     ///< exits that go to the VMM and back
    kInterrupts, ///< from an event to the guest's handler
    kMemory,     ///< the first touch of memory, and who wrote it
    kPaging,     ///< what the guest does to its page tables
    kLife,       ///< VMs that come and go
    kGrowth,     ///< the same in a VM that has much of something
};

/// What a figure counts: ticks of the TSC are instructions in Bochs, cycles on hardware.
enum class BenchUnit : std::uint8_t { kTicks, kBytes };

/// One measurement.
struct BenchSample {
    double ticks = 0;              ///< for one operation; bytes, where the case says so
    std::optional<double> waiting; ///< of these, with the only CPU idle
    /// VM exits for one operation, without those by interrupts of the host; nothing where the
    /// kernel doesn't tell.
    std::optional<double> exits;

    /// Without the time in which nobody ran.
    double busy() const { return ticks - waiting.value_or(0); }
};

struct BenchCase {
    const char *name; ///< "pio-out"
    BenchGroup group;
    const char *operation; ///< what is counted once, in words
    /// VM exits that one operation takes; another number is an error. 0: not checked.
    unsigned exits;
    /// Throws Error; with ExitStatus::kIncomplete where this machine can't show it.
    BenchSample (*measure)(const Device &device);
    BenchUnit unit = BenchUnit::kTicks;
};

/// A case that is about to be measured; one with arguments has a function of its own.
struct BenchJob {
    BenchCase what;
    std::function<BenchSample(const Device &device)> measure;
};

/// All that need no arguments, by group.
std::vector<BenchCase> bench_cases();

// By file; bench_cases() joins them.
std::span<const BenchCase> exit_bench_cases();
std::span<const BenchCase> floor_bench_cases();
std::span<const BenchCase> footprint_bench_cases();
std::span<const BenchCase> growth_bench_cases();
std::span<const BenchCase> interrupt_bench_cases();
std::span<const BenchCase> life_bench_cases();
std::span<const BenchCase> memory_bench_cases();
std::span<const BenchCase> paging_bench_cases();

/// Boots this Linux kernel (as `minivmx run --kernel`) until it turns its machine off. Throws a
/// usage Error when the files are none that could be booted.
BenchJob linux_bench_job(const std::string &kernel, const std::string &initrd);

/// Runs this command of the shell, which finds the device's path in $DEVICE.
BenchJob command_bench_job(const std::string &command);

} // namespace minivmx::tool
