// SPDX-License-Identifier: GPL-2.0-only
//
// The first vCPU at a Linux kernel's 64-bit entry point.
#pragma once

#include "guest_memory.hpp"
#include <minivmx.h>

#include <cstdint>

namespace minivmx::tool {

/// Writes the GDT and the page tables, which map the low 4 GiB to themselves.
void write_linux_tables(const GuestMemory &memory);

/// Special registers, made from those that KVM gave the vCPU after its reset.
kvm_sregs linux_start_sregs(const kvm_sregs &after_reset);

/// General registers for a kernel that lies at `kernel`.
kvm_regs linux_start_regs(std::uint64_t kernel);

} // namespace minivmx::tool
