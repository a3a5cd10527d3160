// SPDX-License-Identifier: GPL-2.0-only
// What the files of the local APIC share.
#pragma once

#include <minivmx/lapic.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// Spurious-interrupt vector register: SDM Vol. 3A, 11.9, figure 11-23. Bit 12 exists only where the
// version register says so.
inline constexpr u32 kSvrEnabled = bit32(8), kSvrDirectedEoi = bit32(12), kSvrBits = 0x3ff;
inline constexpr u32 kVersionDirectedEoi = bit32(24);

// Local vector table: SDM Vol. 3A, 11.5.1, figure 11-8.
inline constexpr u32 kLvtVector = 0xff, kLvtDelivery = 7u << 8, kLvtPending = bit32(12),
                     kLvtPolarity = bit32(13), kLvtRemoteIrr = bit32(14), kLvtLevel = bit32(15),
                     kLvtMasked = bit32(16), kLvtTimerMode = 3u << 17, kLvtPeriodic = bit32(17),
                     kLvtTscDeadline = bit32(18);
inline constexpr u32 kLvtNmi = 4u << 8, kLvtInit = 5u << 8, kLvtExtInt = 7u << 8;

// Error status register: SDM Vol. 3A, 11.5.3, figure 11-9.
inline constexpr u32 kErrorSendIllegalVector = bit32(5), kErrorReceiveIllegalVector = bit32(6),
                     kErrorIllegalRegister = bit32(7);

// Vectors 0 to 15 are not for interrupts: SDM Vol. 3A, 11.5.2.
inline constexpr u32 kFirstLegalVector = 16;

inline u32 *apic_slot(Lapic &apic, u32 offset)
{
    return reinterpret_cast<u32 *>(apic.page + offset);
}
inline void set_apic_register(Lapic &apic, u32 offset, u32 value)
{
    __atomic_store_n(apic_slot(apic, offset), value, __ATOMIC_RELAXED);
}
// The register that holds a vector's bit, of ISR, TMR or IRR.
constexpr u32 vector_register(u32 bitmap, u32 vector)
{
    return bitmap + vector / 32 * 16;
}
inline bool test_vector(const Lapic &apic, u32 bitmap, u32 vector)
{
    return apic_register(apic, vector_register(bitmap, vector)) >> vector % 32 & 1;
}
inline bool software_enabled(const Lapic &apic)
{
    return apic_register(apic, kApicSvr) & kSvrEnabled;
}
inline void log_apic_error(Lapic &apic, u32 error, bool kick)
{
    // One interrupt for all errors until ESR is written: SDM Vol. 3A, 11.5.3.
    if (!__atomic_fetch_or(&apic.errors, error, __ATOMIC_RELAXED))
        lapic_local_event(apic, kApicLvtError, kick);
}
// In x2APIC mode: SDM Vol. 3A, 11.12.10.2.
constexpr u32 x2apic_logical_id(u32 id)
{
    return id >> 4 << 16 | 1u << (id & 15);
}

} // namespace minivmx
