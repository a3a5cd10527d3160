// SPDX-License-Identifier: GPL-2.0-only
// Exit reasons and what an exit says of itself, decoded once into small structs with names.
// SDM Vol. 3D, Appendix C "VMX Basic Exit Reasons"; Vol. 3C, 28.2 "Recording VM-Exit Information".
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

enum ExitReason : u32 {
    EXIT_REASON_EXCEPTION_NMI = 0,
    EXIT_REASON_EXTERNAL_INTERRUPT = 1,
    EXIT_REASON_TRIPLE_FAULT = 2,
    EXIT_REASON_INIT_SIGNAL = 3,
    EXIT_REASON_SIPI_SIGNAL = 4,
    EXIT_REASON_INTERRUPT_WINDOW = 7,
    EXIT_REASON_NMI_WINDOW = 8,
    EXIT_REASON_TASK_SWITCH = 9,
    EXIT_REASON_CPUID = 10,
    EXIT_REASON_HLT = 12,
    EXIT_REASON_INVD = 13,
    EXIT_REASON_INVLPG = 14,
    EXIT_REASON_RDPMC = 15,
    EXIT_REASON_RDTSC = 16,
    EXIT_REASON_VMCALL = 18,
    EXIT_REASON_VMCLEAR = 19,
    EXIT_REASON_VMLAUNCH = 20,
    EXIT_REASON_VMPTRLD = 21,
    EXIT_REASON_VMPTRST = 22,
    EXIT_REASON_VMREAD = 23,
    EXIT_REASON_VMRESUME = 24,
    EXIT_REASON_VMWRITE = 25,
    EXIT_REASON_VMOFF = 26,
    EXIT_REASON_VMON = 27,
    EXIT_REASON_CR_ACCESS = 28,
    EXIT_REASON_DR_ACCESS = 29,
    EXIT_REASON_IO_INSTRUCTION = 30,
    EXIT_REASON_MSR_READ = 31,
    EXIT_REASON_MSR_WRITE = 32,
    EXIT_REASON_INVALID_STATE = 33,
    EXIT_REASON_MSR_LOAD_FAIL = 34,
    EXIT_REASON_MWAIT_INSTRUCTION = 36,
    EXIT_REASON_MONITOR_TRAP_FLAG = 37,
    EXIT_REASON_MONITOR_INSTRUCTION = 39,
    EXIT_REASON_PAUSE_INSTRUCTION = 40,
    EXIT_REASON_MCE_DURING_VMENTRY = 41,
    EXIT_REASON_TPR_BELOW_THRESHOLD = 43,
    EXIT_REASON_APIC_ACCESS = 44,
    EXIT_REASON_EOI_INDUCED = 45,
    EXIT_REASON_GDTR_IDTR = 46,
    EXIT_REASON_LDTR_TR = 47,
    EXIT_REASON_EPT_VIOLATION = 48,
    EXIT_REASON_EPT_MISCONFIG = 49,
    EXIT_REASON_INVEPT = 50,
    EXIT_REASON_RDTSCP = 51,
    EXIT_REASON_PREEMPTION_TIMER = 52,
    EXIT_REASON_INVVPID = 53,
    EXIT_REASON_WBINVD = 54,
    EXIT_REASON_XSETBV = 55,
    EXIT_REASON_APIC_WRITE = 56,
    EXIT_REASON_RDRAND = 57,
    EXIT_REASON_INVPCID = 58,
    EXIT_REASON_VMFUNC = 59,
    EXIT_REASON_ENCLS = 60,
    EXIT_REASON_RDSEED = 61,
    EXIT_REASON_PML_FULL = 62,
    EXIT_REASON_XSAVES = 63,
    EXIT_REASON_XRSTORS = 64,
    EXIT_REASON_UMWAIT = 67,
    EXIT_REASON_TPAUSE = 68,
    EXIT_REASON_BUS_LOCK = 74,
    EXIT_REASON_NOTIFY = 75,
    EXIT_REASON_COUNT,
};

inline constexpr u32 kExitReasonBasicMask = 0xffff;
inline constexpr u32 kExitReasonFailedEntry = 1u << 31;

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
