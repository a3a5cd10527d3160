// SPDX-License-Identifier: GPL-2.0-only
//
// The KVM API as a program uses it: the device, a VM, a vCPU. Works alike on /dev/minivmx and
// /dev/kvm. Every function throws Error, naming the device and the ioctl, unless it says otherwise.
#pragma once

#include "guest_memory.hpp"
#include "unique_fd.hpp"
#include <minivmx.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace minivmx::tool {

/// The open device file.
class Device {
  public:
    /// Opens `path` and checks that it speaks KVM's API version 12.
    explicit Device(std::string path);

    const std::string &path() const { return path_; }
    int fd() const { return fd_.get(); }

    /// KVM_CHECK_EXTENSION: 0 when `capability` is absent.
    int capability(int capability) const;

    /// Bytes to map of each vCPU's descriptor.
    std::size_t vcpu_mapping_size() const;

    /// What KVM_GET_SUPPORTED_CPUID lists.
    std::vector<kvm_cpuid_entry2> supported_cpuid() const;

  private:
    std::string path_;
    UniqueFd fd_;
};

/// A virtual machine. Its Device and the memory given to it must outlive it.
class Vm {
  public:
    explicit Vm(const Device &device);

    const Device &device() const { return device_; }
    int fd() const { return fd_.get(); }

    /// Lets the guest see `memory` at its base, as slot `slot`.
    void add_memory(std::uint32_t slot, const GuestMemory &memory) const;

    /// Tells KVM where it may keep the pages that it needs for real mode on CPUs without
    /// unrestricted guest: four pages from `address` on, unused by the guest.
    void reserve_tss(std::uint64_t address) const;

    /// Makes the PC's interrupt controllers and its interval timer, in the kernel. Before vCPUs.
    void create_interrupt_controllers() const;

    /// Sets the line of that global system interrupt. From any thread.
    void set_interrupt_line(std::uint32_t gsi, bool level) const;

  private:
    const Device &device_;
    UniqueFd fd_;
};

/// A virtual CPU. One thread at a time uses it, except for request_exit().
class Vcpu {
  public:
    Vcpu(const Vm &vm, unsigned index);
    Vcpu(const Vcpu &) = delete;
    Vcpu &operator=(const Vcpu &) = delete;
    ~Vcpu();

    unsigned index() const { return index_; }
    int fd() const { return fd_.get(); }

    /// KVM_RUN. Returns 0 after an exit that state() describes, otherwise the errno.
    int run();

    /// Makes the current or next run() return EINTR. From any thread; a signal must also interrupt
    /// the thread that is in run().
    void request_exit();

    /// Finishes the instruction of the last exit without running on, so that registers are those
    /// behind it. Keeps what state() says.
    void complete_exit();

    /// The page that the kernel shares with us about the last exit.
    kvm_run &state() { return *state_; }

    /// The data of a KVM_EXIT_IO exit: size * count bytes.
    std::span<std::uint8_t> io_data();

    kvm_regs regs() const;
    void set_regs(const kvm_regs &regs);
    kvm_sregs sregs() const;
    void set_sregs(const kvm_sregs &sregs);
    void set_cpuid(const std::vector<kvm_cpuid_entry2> &entries);

  private:
    unsigned index_;
    const Device &device_;
    UniqueFd fd_;
    std::size_t mapping_size_;
    kvm_run *state_;
};

} // namespace minivmx::tool
