// SPDX-License-Identifier: GPL-2.0-only
// Exit reasons and what an exit says of itself, decoded once into small structs with names.
// SDM Vol. 3D, Appendix C "VMX Basic Exit Reasons"; Vol. 3C, 28.2 "Recording VM-Exit Information".
#pragma once

#include <minivmx/exit_reasons.h>
#include <minivmx/types.hpp>

namespace minivmx {

#define MINIVMX_REASON(constant, number, name) EXIT_REASON_##constant = (number),
enum ExitReason : u32 { MINIVMX_EXIT_REASONS(MINIVMX_REASON) EXIT_REASON_COUNT };
#undef MINIVMX_REASON

inline constexpr u32 kExitReasonBasicMask = 0xffff;
inline constexpr u32 kExitReasonFailedEntry = 1u << 31;
// In an exit reason's place when the instruction failed that should have entered: no exit at all.
inline constexpr u32 kNoExit = kExitReasonFailedEntry | kExitReasonBasicMask;

// The interruption-information format of exits, entries and IDT vectoring: SDM Vol. 3C, 25.8.3,
// tables 25-17ff.
inline constexpr u32 INTR_INFO_VECTOR_MASK = 0xff, INTR_INFO_TYPE_MASK = 7u << 8,
                     INTR_INFO_HAS_ERROR_CODE = 1u << 11, INTR_INFO_UNBLOCK_NMI = 1u << 12,
                     INTR_INFO_VALID = 1u << 31;
inline constexpr u32 INTR_TYPE_EXT_INTR = 0u << 8, INTR_TYPE_NMI = 2u << 8,
                     INTR_TYPE_HARD_EXCEPTION = 3u << 8, INTR_TYPE_SOFT_INTR = 4u << 8,
                     INTR_TYPE_PRIV_SW_EXCEPTION = 5u << 8, INTR_TYPE_SOFT_EXCEPTION = 6u << 8;

// Guest interruptibility state: SDM Vol. 3C, 25.4.2, table 25-3.
inline constexpr u32 GUEST_INTR_STATE_STI = 1, GUEST_INTR_STATE_MOV_SS = 2,
                     GUEST_INTR_STATE_SMI = 4, GUEST_INTR_STATE_NMI = 8;

// An I/O instruction's exit qualification: SDM Vol. 3C, 28.2.1, table 28-5.
struct IoInfo {
    u8 size; // 1, 2 or 4 bytes
    bool in;
    bool string;
    bool rep;
    u16 port;

    static constexpr IoInfo decode(u64 qualification)
    {
        return {static_cast<u8>((qualification & 7) + 1), (qualification & 8) != 0,
                (qualification & 16) != 0, (qualification & 32) != 0,
                static_cast<u16>(qualification >> 16)};
    }
};

// A control-register access: SDM Vol. 3C, 28.2.1, table 28-3.
struct CrAccessInfo {
    enum Type : u8 { kMovTo, kMovFrom, kClts, kLmsw };
    u8 cr;
    Type type;
    u8 gpr;
    u16 lmsw_source;

    static constexpr CrAccessInfo decode(u64 qualification)
    {
        return {static_cast<u8>(qualification & 15), static_cast<Type>(qualification >> 4 & 3),
                static_cast<u8>(qualification >> 8 & 15), static_cast<u16>(qualification >> 16)};
    }
};

// A MOV DR: SDM Vol. 3C, 28.2.1, table 28-4.
struct DrAccessInfo {
    u8 dr;
    bool from; // MOV from DR
    u8 gpr;

    static constexpr DrAccessInfo decode(u64 qualification)
    {
        return {static_cast<u8>(qualification & 7), (qualification & 16) != 0,
                static_cast<u8>(qualification >> 8 & 15)};
    }
};

// An EPT violation: SDM Vol. 3C, 28.2.1, table 28-7.
struct EptViolationInfo {
    bool read, write, fetch;
    bool readable, writable, executable; // what the translation allowed
    bool linear_address_valid;
    bool to_final_page; // not to a guest paging structure

    static constexpr EptViolationInfo decode(u64 qualification)
    {
        auto bit = [qualification](u32 n) { return (qualification >> n & 1) != 0; };
        return {bit(0), bit(1), bit(2), bit(3), bit(4), bit(5), bit(7), bit(8)};
    }
};

} // namespace minivmx
