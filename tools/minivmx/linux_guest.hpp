// SPDX-License-Identifier: GPL-2.0-only
//
// From a Linux kernel's file to a guest that is ready to run: the 64-bit boot protocol
// (Documentation/x86/boot.rst of the kernel).
#pragma once

#include "bzimage.hpp"
#include "guest_memory.hpp"
#include "kvm.hpp"
#include "serial.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace minivmx::tool {

/// What was asked for.
struct LinuxRequest {
    std::string kernel;
    std::string initrd; // empty: none
    std::string cmdline;
    std::uint64_t memory_size = 0; // bytes
    unsigned cpus = 1;
};

/// What was decided: all addresses are guest-physical.
struct LinuxPlan {
    std::uint64_t memory_size; // whole pages
    unsigned cpus;
    std::uint64_t kernel_at;
    std::uint64_t initrd_at;
    std::string cmdline;
    BzImage image;
    std::vector<std::uint8_t> initrd;
};

/// Reads the files and checks everything that can be checked without a device. Throws a usage Error
/// that names the option or the file.
LinuxPlan plan_linux(const LinuxRequest &request);

/// Decides where kernel and initrd go, and checks the command line: plan_linux() without the files.
/// In `plan`, memory_size, image, initrd and cmdline are set.
void place_linux(const LinuxRequest &request, LinuxPlan &plan);

/// The guest's memory with kernel, initrd, zero page, ACPI's tables, GDT and page tables in it.
GuestMemory build_linux_ram(const LinuxPlan &plan);

/// Gives `vm`, which has its interrupt controllers, the memory, then makes the vCPUs: the first one
/// is about to enter the kernel, the others wait for it to start them. `vm` and `ram` must outlive
/// them.
std::vector<std::unique_ptr<Vcpu>> build_linux_vcpus(const LinuxPlan &plan, const GuestMemory &ram,
                                                     const Vm &vm);

/// The serial port's interrupt, at the controllers of `vm`, which outlives it.
class SerialLine : public InterruptLine {
  public:
    explicit SerialLine(const Vm &vm) : vm_(vm) {}
    void set(bool level) override
    {
        constexpr std::uint32_t kCom1 = 4;
        vm_.set_interrupt_line(kCom1, level);
    }

  private:
    const Vm &vm_;
};

} // namespace minivmx::tool
