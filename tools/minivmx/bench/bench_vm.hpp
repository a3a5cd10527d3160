// SPDX-License-Identifier: GPL-2.0-only
//
// A VM for one measurement: vCPUs in 64-bit mode with four levels of page tables, code, and an
// interrupt handler if it wants one.
#pragma once

#include "kvm.hpp"
#include "start_state.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace minivmx::tool {

/// Where things are in the guest; what is below is the tool's (guest_abi.h).
constexpr std::uint64_t kBenchCode = 0x100000;
constexpr std::uint64_t kBenchHandler = 0x101000;
constexpr std::uint64_t kBenchIdt = 0x102000;
constexpr std::uint64_t kBenchData = 0x103000;
constexpr std::uint64_t kBenchLowMemory = 0x200000;
/// A second slot, for cases about memory.
constexpr std::uint64_t kBenchMemory = 0x10000000;
/// Nothing is there: MMIO for the VMM.
constexpr std::uint64_t kBenchMmio = 0xd0000000;

constexpr std::uint8_t kBenchVector = 0x40;

class BenchVm {
  public:
    explicit BenchVm(const Device &device, bool interrupts = false);

    const Vm &vm() const { return vm_; }

    /// A vCPU that starts with `code`, which is put at kBenchCode + index * 0x400. With interrupts
    /// its APIC is in x2APIC mode.
    Vcpu &add_vcpu(std::span<const std::uint8_t> code);

    /// What vector kBenchVector does; all vCPUs made later have it.
    void set_handler(std::span<const std::uint8_t> code);

    /// Where vector `vector` goes, which is in memory() already.
    void set_gate(std::uint8_t vector, std::uint64_t handler);

    /// Runs to the guest's end and returns its R13. Throws at any other exit.
    std::uint64_t run_to_end(Vcpu &vcpu) const;

    /// The same, for a guest that measures itself `rounds` times, which it finds in R15. It has run
    /// once before, so that no page is new to it.
    struct Rounds {
        std::uint64_t r13;
        std::optional<std::uint64_t> exits; ///< without the one that ends it
    };
    Rounds run_rounds(Vcpu &vcpu, unsigned rounds) const;

    /// The guest's low memory.
    const GuestMemory &memory() const { return memory_; }

    /// All VM exits so far, but those by interrupts of the host; nothing where debugfs doesn't
    /// tell.
    std::optional<std::uint64_t> exits() const;

  private:
    bool interrupts_;
    GuestMemory memory_;
    Vm vm_;
    std::uint64_t cr3_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
};

/// An ioctl on a VM or vCPU that must succeed; returns its value.
int bench_ioctl(const Device &device, int fd, unsigned long request, const char *name,
                void *argument);

} // namespace minivmx::tool
