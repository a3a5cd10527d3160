// SPDX-License-Identifier: GPL-2.0-only
//
// The page by which a loader tells a Linux kernel about its machine
// (Documentation/x86/zero-page.rst of the kernel).
#pragma once

#include "guest_memory.hpp"
#include "linux_guest.hpp"

#include <cstdint>

namespace minivmx::tool {

/// Where it lies, and the command line. Below it are the tables of linux_start.hpp.
constexpr std::uint64_t kZeroPage = 0x8000;
constexpr std::uint64_t kCmdline = 0x20000;
constexpr std::uint64_t kMostCmdline = 0xffff; // without its NUL

/// Writes both. `acpi_tables` is the address of the RSDP.
void write_zero_page(const GuestMemory &memory, const LinuxPlan &plan, std::uint64_t acpi_tables);

} // namespace minivmx::tool
