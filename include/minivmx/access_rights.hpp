// SPDX-License-Identifier: GPL-2.0-only
// A segment's access rights as the VMCS has them (SDM Vol. 3C, 25.4.1, table 25-2), and what VM
// entry insists on of types and privilege levels (27.3.1.2).
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// The access-rights word, bit by bit.
inline constexpr u32 AR_TYPE_MASK = 0xf, AR_S = 1u << 4, AR_DPL_SHIFT = 5,
                     AR_DPL_MASK = 3u << AR_DPL_SHIFT, AR_PRESENT = 1u << 7, AR_AVL = 1u << 12,
                     AR_L = 1u << 13, AR_DB = 1u << 14, AR_G = 1u << 15, AR_UNUSABLE = 1u << 16;
// The type's bits of code and data: SDM Vol. 3A, 3.4.5.1, table 3-1. Of data, "readable" means
// writable, and "conforming" expand-down.
inline constexpr u32 AR_TYPE_ACCESSED = 1, AR_TYPE_READABLE = 2, AR_TYPE_CONFORMING = 4,
                     AR_TYPE_CODE = 8;
// Whole types: writable data and readable code, accessed both.
inline constexpr u32 AR_TYPE_WRITABLE_DATA = AR_TYPE_READABLE | AR_TYPE_ACCESSED,
                     AR_TYPE_READABLE_CODE = AR_TYPE_CODE | AR_TYPE_READABLE | AR_TYPE_ACCESSED;
// Types of system descriptors: SDM Vol. 3A, 3.5, table 3-2.
inline constexpr u32 AR_TYPE_LDT = 2, AR_TYPE_BUSY_TSS16 = 3, AR_TYPE_BUSY_TSS = 11;

struct AccessRights {
    u32 word;

    constexpr u32 type() const { return word & AR_TYPE_MASK; }
    constexpr u32 dpl() const { return (word & AR_DPL_MASK) >> AR_DPL_SHIFT; }
    constexpr bool usable() const { return (word & AR_UNUSABLE) == 0; }
    constexpr bool present() const { return (word & AR_PRESENT) != 0; }
    constexpr bool big() const { return (word & AR_DB) != 0; }
    // Code or data; else of the system.
    constexpr bool is_memory() const { return (word & AR_S) != 0; }
    // Of code and data.
    constexpr bool accessed() const { return (word & AR_TYPE_ACCESSED) != 0; }
    constexpr bool code() const { return (word & AR_TYPE_CODE) != 0; }
    constexpr bool conforming() const { return code() && (word & AR_TYPE_CONFORMING) != 0; }
    constexpr bool expand_down() const { return !code() && (word & AR_TYPE_CONFORMING) != 0; }
    constexpr bool readable() const { return !code() || (word & AR_TYPE_READABLE) != 0; }
    constexpr bool writable() const { return !code() && (word & AR_TYPE_READABLE) != 0; }
};

// ----- SDM Vol. 3C, 27.3.1.2 "Checks on Guest Segment Registers" ---------------------------------

// Every segment of virtual-8086 mode is like this, the code segment, too.
inline constexpr u32 kVirtual8086Rights = AR_TYPE_WRITABLE_DATA | AR_S | AR_DPL_MASK | AR_PRESENT;
inline constexpr u32 kVirtual8086Limit = 0xffff;

// So in real mode, too.
constexpr u64 real_mode_base(u16 selector)
{
    return u64{selector} << 4;
}

constexpr bool code_type_valid(AccessRights cs)
{
    return cs.code() && cs.accessed();
}

constexpr bool stack_type_valid(AccessRights ss)
{
    return (ss.type() & ~AR_TYPE_CONFORMING) == AR_TYPE_WRITABLE_DATA;
}

constexpr bool task_type_valid(AccessRights tr, bool ia32e)
{
    return tr.type() == AR_TYPE_BUSY_TSS || (tr.type() == AR_TYPE_BUSY_TSS16 && !ia32e);
}

constexpr bool code_dpl_valid(AccessRights cs, AccessRights ss)
{
    return cs.conforming() ? cs.dpl() <= ss.dpl() : cs.dpl() == ss.dpl();
}

// Without "unrestricted guest".
constexpr bool data_dpl_valid(AccessRights ds, u32 rpl)
{
    return ds.conforming() || ds.dpl() >= rpl;
}

} // namespace minivmx
