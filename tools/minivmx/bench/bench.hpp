// SPDX-License-Identifier: GPL-2.0-only
//
// What an exit costs: the cases of `minivmx bench`, each measured alike on any device that speaks
// KVM's API.
#pragma once

#include "kvm.hpp"

#include <cstdint>
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
    kLife,       ///< VMs that come and go
};

/// One measurement; ticks are those of the TSC: instructions in Bochs, cycles on hardware.
struct BenchSample {
    double ticks = 0;              ///< for one operation
    std::optional<double> waiting; ///< of these, with the only CPU idle
    std::optional<double> exits;   ///< VM exits for one operation, where the kernel counts them
};

struct BenchCase {
    const char *name; ///< "pio-out"
    BenchGroup group;
    const char *operation; ///< what is counted once, in words
    /// VM exits that one operation takes; another number is an error. 0: not checked.
    unsigned exits;
    /// Throws Error.
    BenchSample (*measure)(const Device &device);
};

/// All of them, by group.
std::vector<BenchCase> bench_cases();

// By file; bench_cases() joins them.
std::span<const BenchCase> exit_bench_cases();
std::span<const BenchCase> interrupt_bench_cases();
std::span<const BenchCase> memory_bench_cases();
std::span<const BenchCase> life_bench_cases();

} // namespace minivmx::tool
