// SPDX-License-Identifier: GPL-2.0-only
//
// ACPI's tables for a board without PCI: the CPUs, the interrupt controllers, and how to turn it
// off.
#pragma once

#include "guest_memory.hpp"

#include <cstdint>

namespace minivmx::tool {

/// The tables lie here, where an operating system also looks for them without being told.
constexpr std::uint64_t kAcpiTables = 0xe0000;
constexpr std::uint64_t kAcpiTablesEnd = 0x100000;

/// Writes the tables for vCPUs whose APIC ids are 0 to `cpus` - 1, at most 255 of them. Returns
/// where the first one is (the RSDP). `memory` has the 1 MiB below 0x100000.
std::uint64_t write_acpi_tables(const GuestMemory &memory, unsigned cpus);

} // namespace minivmx::tool
