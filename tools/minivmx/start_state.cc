// SPDX-License-Identifier: GPL-2.0-only
#include "start_state.hpp"

#include "error.hpp"
#include "guest_abi.h"
#include "segments.hpp"

#include <array>

namespace minivmx::tool {
namespace {

constexpr std::array<const char *, kModeCount> kModeNames = {"real", "protected", "paged",
                                                             "pae",  "long",      "reset"};

constexpr std::uint64_t kPage = 0x1000;
constexpr std::uint64_t kLargePage = 0x200000; // PAE and 4-level paging
constexpr std::uint64_t kLargePage32 = 0x400000;

// Page-table entry bits: SDM Vol. 3A, tables 4-5 and 4-17.
constexpr std::uint64_t kPresent = 1 << 0;
constexpr std::uint64_t kWritable = 1 << 1;
constexpr std::uint64_t kLarge = 1 << 7;

// Control register bits: SDM Vol. 3A, 2.5, and IA32_EFER: 2.2.1.
constexpr std::uint64_t kCr0Pe = 1 << 0;
constexpr std::uint64_t kCr0Et = 1 << 4;
constexpr std::uint64_t kCr0Ne = 1 << 5;
constexpr std::uint64_t kCr0Pg = std::uint64_t{1} << 31;
constexpr std::uint64_t kCr4Pse = 1 << 4;
constexpr std::uint64_t kCr4Pae = 1 << 5;
constexpr std::uint64_t kEferLme = 1 << 8;
constexpr std::uint64_t kEferLma = 1 << 10;
constexpr std::uint64_t kRflagsFixed = 1 << 1;

bool has_paging(Mode mode)
{
    return mode == Mode::kPaged || mode == Mode::kPae || mode == Mode::kLong;
}

bool has_segments(Mode mode)
{
    return mode == Mode::kProtected || has_paging(mode);
}

void write_gdt(const GuestMemory &memory)
{
    const std::array<std::uint64_t, GUEST_GDT_ENTRIES> gdt = {
        0,
        flat_descriptor(kCodeSegment, false),
        flat_descriptor(kDataSegment, false),
        flat_descriptor(kCodeSegment, true),
    };
    memory.store(GUEST_GDT, gdt);
}

/// One page directory of 4 MiB pages.
std::uint64_t write_identity_32(const GuestMemory &memory, std::uint64_t directory)
{
    for (std::uint32_t i = 0; i < 1024; i++)
        memory.store(directory + i * 4,
                     static_cast<std::uint32_t>(i * kLargePage32 | kPresent | kWritable | kLarge));
    return directory;
}

/// Four page directories of 2 MiB pages, one after the other: 4 GiB.
void write_directories(const GuestMemory &memory, std::uint64_t first)
{
    for (std::uint64_t i = 0; i < 4 * 512; i++)
        memory.store(first + i * 8, i * kLargePage | kPresent | kWritable | kLarge);
}

/// The four entries that name those directories. A PDPTE of PAE paging has no R/W bit: SDM Vol. 3A,
/// table 4-8.
void write_directory_pointers(const GuestMemory &memory, std::uint64_t at, std::uint64_t first,
                              std::uint64_t flags)
{
    for (std::uint64_t i = 0; i < 4; i++)
        memory.store(at + i * 8, (first + i * kPage) | flags);
}

std::uint64_t write_identity_pae(const GuestMemory &memory, std::uint64_t pointers)
{
    write_directory_pointers(memory, pointers, pointers + kPage, kPresent);
    write_directories(memory, pointers + kPage);
    return pointers;
}

std::uint64_t write_identity_long(const GuestMemory &memory, std::uint64_t top)
{
    const std::uint64_t pointers = top + kPage;
    memory.store(top, pointers | kPresent | kWritable);
    write_directory_pointers(memory, pointers, pointers + kPage, kPresent | kWritable);
    write_directories(memory, pointers + kPage);
    return top;
}

void set_flat_segments(kvm_sregs &sregs, bool long_mode)
{
    sregs.cs = long_mode ? long_code_segment(GUEST_SEL_CODE64)
                         : flat_segment(GUEST_SEL_CODE32, kCodeSegment);
    const kvm_segment data = flat_segment(GUEST_SEL_DATA, kDataSegment);
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.gdt.base = GUEST_GDT;
    sregs.gdt.limit = GUEST_GDT_ENTRIES * 8 - 1;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
}

/// The code segment's start for a real-mode entry: IP keeps the low 16 bits.
std::uint64_t real_mode_cs_base(std::uint64_t entry)
{
    return entry & 0xf0000;
}

} // namespace

const char *mode_name(Mode mode)
{
    return kModeNames.at(static_cast<std::size_t>(mode));
}

Mode parse_mode(std::string_view name)
{
    for (unsigned i = 0; i < kModeCount; i++)
        if (name == kModeNames.at(i))
            return static_cast<Mode>(i);
    fail_usage("--mode: '{}' is no mode, expected {}", name, fmt::join(kModeNames, ", "));
}

TableRange table_range(Mode mode)
{
    constexpr std::uint64_t kTables = GUEST_PAGE_TABLES;
    switch (mode) {
    case Mode::kReal:
    case Mode::kReset:
        return {0, 0};
    case Mode::kProtected:
        return {GUEST_GDT, GUEST_GDT + GUEST_GDT_ENTRIES * 8};
    case Mode::kPaged:
        return {GUEST_GDT, kTables + kPage};
    case Mode::kPae:
        return {GUEST_GDT, kTables + 5 * kPage};
    case Mode::kLong:
        return {GUEST_GDT, kTables + 6 * kPage};
    }
    return {0, 0};
}

std::uint64_t write_tables(Mode mode, const GuestMemory &memory)
{
    if (has_segments(mode))
        write_gdt(memory);
    switch (mode) {
    case Mode::kPaged:
        return write_identity_32(memory, GUEST_PAGE_TABLES);
    case Mode::kPae:
        return write_identity_pae(memory, GUEST_PAGE_TABLES);
    case Mode::kLong:
        return write_identity_long(memory, GUEST_PAGE_TABLES);
    default:
        return 0;
    }
}

kvm_sregs start_sregs(Mode mode, const kvm_sregs &after_reset, std::uint64_t cr3,
                      const StartFacts &facts)
{
    kvm_sregs sregs = after_reset;
    if (mode == Mode::kReset)
        return sregs;
    if (mode == Mode::kReal) {
        sregs.cs.base = real_mode_cs_base(facts.entry);
        sregs.cs.selector = static_cast<std::uint16_t>(sregs.cs.base >> 4);
        return sregs;
    }
    set_flat_segments(sregs, mode == Mode::kLong);
    // RESET leaves caching off (CD and NW): SDM Vol. 3A, table 9-1. A loader would have turned it
    // on.
    sregs.cr0 = kCr0Pe | kCr0Et | kCr0Ne;
    if (has_paging(mode)) {
        sregs.cr0 |= kCr0Pg;
        sregs.cr3 = cr3;
        sregs.cr4 |= mode == Mode::kPaged ? kCr4Pse : kCr4Pae;
    }
    if (mode == Mode::kLong)
        sregs.efer |= kEferLme | kEferLma;
    return sregs;
}

std::optional<kvm_regs> start_regs(Mode mode, const StartFacts &facts)
{
    if (mode == Mode::kReset)
        return std::nullopt;
    const bool real = mode == Mode::kReal;
    const std::uint64_t stack_top = real ? GUEST_STACK_TOP_REAL : GUEST_STACK_TOP;
    const std::uint64_t stack_size = real ? GUEST_STACK_SIZE_REAL : GUEST_STACK_SIZE;
    kvm_regs regs = {};
    regs.rax = GUEST_MAGIC;
    regs.rbx = facts.memory_size / 1024;
    regs.rcx = facts.cpu_index;
    regs.rdx = facts.cpu_count;
    regs.rsp = stack_top - facts.cpu_index * stack_size;
    regs.rip = real ? facts.entry - real_mode_cs_base(facts.entry) : facts.entry;
    regs.rflags = kRflagsFixed;
    return regs;
}

} // namespace minivmx::tool
