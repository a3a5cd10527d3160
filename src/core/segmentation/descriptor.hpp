// SPDX-License-Identifier: GPL-2.0-only
// Selectors and descriptors: SDM Vol. 3A, 3.4.2 and 3.4.5; gates: 5.8.3 and 6.11.
#pragma once

#include <minivmx.h>

#include <minivmx/real_mode.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

// The parts of a selector: SDM Vol. 3A, 3.4.2.
inline constexpr u16 kSelectorRpl = 3, kSelectorLocal = 4;

inline constexpr bool is_null_selector(u16 selector)
{
    return (selector & ~kSelectorRpl) == 0;
}

// Types of system descriptors: SDM Vol. 3A, 3.5, table 3-2. In IA-32e mode the 32-bit ones are the
// 64-bit ones, and the 16-bit ones don't exist.
enum SystemType : u8 {
    kTypeTss16 = 1,
    kTypeLdt = 2,
    kTypeCallGate16 = 4,
    kTypeTaskGate = 5,
    kTypeInterruptGate16 = 6,
    kTypeTrapGate16 = 7,
    kTypeTss32 = 9,
    kTypeCallGate32 = 12,
    kTypeInterruptGate32 = 14,
    kTypeTrapGate32 = 15,
};

// A descriptor of the GDT, an LDT or the IDT: SDM Vol. 3A, 3.4.5, figure 3-8, and 3.5.
struct Descriptor {
    u64 raw = 0;
    u64 linear = 0; // where it is
    u64 high = 0;   // in IA-32e mode system descriptors are twice as long: figures 6-8, 8-4

    u64 base() const
    {
        return bit_field(raw, 39, 16) | bit_field(raw, 63, 56) << 24 | (high & 0xffffffff) << 32;
    }
    u32 limit() const
    {
        const u32 limit = static_cast<u32>(bit_field(raw, 15, 0) | bit_field(raw, 51, 48) << 16);
        return raw & bit64(55) ? limit << 12 | 0xfff : limit;
    }
    u8 type() const { return static_cast<u8>(bit_field(raw, 43, 40)); }
    bool system() const { return (raw & bit64(44)) == 0; }
    u8 dpl() const { return static_cast<u8>(bit_field(raw, 46, 45)); }
    bool present() const { return (raw & bit64(47)) != 0; }
    bool long_code() const { return (raw & bit64(53)) != 0; } // L
    bool big() const { return (raw & bit64(54)) != 0; }       // D/B

    bool code() const { return !system() && (type() & 8) != 0; }
    bool conforming() const { return code() && (type() & 4) != 0; }
    bool readable() const { return !system() && (!code() || (type() & 2) != 0); }
    bool writable() const { return !system() && !code() && (type() & 2) != 0; }
    // SDM Vol. 3A, 8.2.2: 1 and 9 are available, 3 and 11 busy.
    bool tss() const { return system() && (type() & 5) == 1; }
    bool busy() const { return (type() & 2) != 0; }

    // Of gates.
    u16 target() const { return static_cast<u16>(bit_field(raw, 31, 16)); }
    u64 offset() const
    {
        return bit_field(raw, 15, 0) | bit_field(raw, 63, 48) << 16 | (high & 0xffffffff) << 32;
    }
    u8 parameters() const { return static_cast<u8>(bit_field(raw, 36, 32)); }
    u8 stack_table() const { return static_cast<u8>(bit_field(raw, 34, 32)); } // IST

    // The access rights lie as in the VMCS: SDM Vol. 3C, 25.4.1, table 25-2.
    SegmentRegister to_register(u16 selector) const
    {
        constexpr u32 kRights = 0xf0ff;
        return {.base = base(),
                .limit = limit(),
                .rights = static_cast<u32>(raw >> 40) & kRights,
                .selector = selector};
    }
};
// Its byte with the type in it, whose bits the CPU changes.
inline constexpr u32 kDescriptorAccess = 5;
inline constexpr u8 kDescriptorAccessed = 1, kTssBusy = 2;

} // namespace minivmx
