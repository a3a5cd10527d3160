// SPDX-License-Identifier: GPL-2.0-only
//
// What a vCPU and the guest's low memory look like when a flat binary gets control, for each mode
// of guest_abi.h.
#pragma once

#include "guest_memory.hpp"
#include <minivmx.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace minivmx::tool {

/// The values are those of GUEST_MODE_*.
enum class Mode : std::uint8_t {
    kReal,
    kProtected,
    kPaged,
    kPae,
    kLong,
    kReset,
};
constexpr unsigned kModeCount = 6;

/// The word that --mode takes.
const char *mode_name(Mode mode);

/// The mode of that name. Throws a usage Error naming --mode.
Mode parse_mode(std::string_view name);

/// The guest-physical range that the VMM fills with its own tables in this mode, as [first, end);
/// empty where it needs none.
struct TableRange {
    std::uint64_t first;
    std::uint64_t end;
};
TableRange table_range(Mode mode);

/// Writes the GDT and the identity-mapping page tables that `mode` needs into `memory`, which
/// contains table_range(mode). Returns the value for CR3, 0 without paging.
std::uint64_t write_tables(Mode mode, const GuestMemory &memory);

/// The facts that a guest is told in its registers.
struct StartFacts {
    std::uint64_t entry; // guest-physical address of the first instruction; unused for kReset
    std::uint64_t memory_size;
    unsigned cpu_index;
    unsigned cpu_count;
};

/// Special registers at the start, made from those that KVM gave the vCPU after its reset.
kvm_sregs start_sregs(Mode mode, const kvm_sregs &after_reset, std::uint64_t cr3,
                      const StartFacts &facts);

/// General registers at the start. For Mode::kReset nothing is to be set: empty.
std::optional<kvm_regs> start_regs(Mode mode, const StartFacts &facts);

} // namespace minivmx::tool
