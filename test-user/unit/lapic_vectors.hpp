// SPDX-License-Identifier: GPL-2.0-only
//
// The vectors that have arrived at a local APIC, wherever it keeps them.
#pragma once

#include <minivmx/lapic.hpp>

#include <cstring>

namespace minivmx::test {

/// Whether the vector waits there, posted or in IRR; takes it back.
inline bool take_arrived(Lapic &apic, u8 vector)
{
    u64 &word = apic.posted[vector / 64];
    const bool posted = word & bit64(vector % 64);
    word &= ~bit64(vector % 64);
    u32 irr;
    u8 *const at = apic.page + kApicIrr + vector / 32 * 16;
    std::memcpy(&irr, at, sizeof(irr));
    const bool requested = irr & bit32(vector % 32);
    irr &= ~bit32(vector % 32);
    std::memcpy(at, &irr, sizeof(irr));
    return posted || requested;
}

} // namespace minivmx::test
