// SPDX-License-Identifier: GPL-2.0-only
// Names of the architecture's bits that several parts of the core need. SDM Vol. 3A, 2.5 "Control
// Registers", Vol. 3A, 2.2.1 "Extended Feature Enable Register", Vol. 1, 3.4.3 "EFLAGS Register",
// Vol. 4 "Model-Specific Registers".
#pragma once

#include <minivmx.h>

#include <minivmx/types.hpp>
#include <minivmx/vmx_msr.hpp>

namespace minivmx {

inline constexpr u64 X86_CR0_PE = 1ull << 0, X86_CR0_MP = 1ull << 1, X86_CR0_EM = 1ull << 2,
                     X86_CR0_TS = 1ull << 3, X86_CR0_ET = 1ull << 4, X86_CR0_NE = 1ull << 5,
                     X86_CR0_WP = 1ull << 16, X86_CR0_AM = 1ull << 18, X86_CR0_NW = 1ull << 29,
                     X86_CR0_CD = 1ull << 30, X86_CR0_PG = 1ull << 31;

inline constexpr u64 X86_CR4_VME = 1ull << 0, X86_CR4_PVI = 1ull << 1, X86_CR4_TSD = 1ull << 2,
                     X86_CR4_DE = 1ull << 3, X86_CR4_PSE = 1ull << 4, X86_CR4_PAE = 1ull << 5,
                     X86_CR4_MCE = 1ull << 6, X86_CR4_PGE = 1ull << 7, X86_CR4_PCE = 1ull << 8,
                     X86_CR4_OSFXSR = 1ull << 9, X86_CR4_OSXMMEXCPT = 1ull << 10,
                     X86_CR4_UMIP = 1ull << 11, X86_CR4_LA57 = 1ull << 12,
                     X86_CR4_VMXE = 1ull << 13, X86_CR4_SMXE = 1ull << 14,
                     X86_CR4_FSGSBASE = 1ull << 16, X86_CR4_PCIDE = 1ull << 17,
                     X86_CR4_OSXSAVE = 1ull << 18, X86_CR4_SMEP = 1ull << 20,
                     X86_CR4_SMAP = 1ull << 21, X86_CR4_PKE = 1ull << 22, X86_CR4_CET = 1ull << 23;

inline constexpr u64 EFER_SCE = 1ull << 0, EFER_LME = 1ull << 8, EFER_LMA = 1ull << 10,
                     EFER_NX = 1ull << 11;

inline constexpr u64 X86_EFLAGS_CF = 1ull << 0, X86_EFLAGS_FIXED = 1ull << 1,
                     X86_EFLAGS_PF = 1ull << 2, X86_EFLAGS_AF = 1ull << 4,
                     X86_EFLAGS_ZF = 1ull << 6, X86_EFLAGS_SF = 1ull << 7,
                     X86_EFLAGS_OF = 1ull << 11, X86_EFLAGS_TF = 1ull << 8,
                     X86_EFLAGS_IF = 1ull << 9, X86_EFLAGS_DF = 1ull << 10,
                     X86_EFLAGS_IOPL = 3ull << 12, X86_EFLAGS_NT = 1ull << 14,
                     X86_EFLAGS_RF = 1ull << 16, X86_EFLAGS_VM = 1ull << 17,
                     X86_EFLAGS_AC = 1ull << 18, X86_EFLAGS_VIF = 1ull << 19,
                     X86_EFLAGS_VIP = 1ull << 20, X86_EFLAGS_ID = 1ull << 21;

// Exception vectors: SDM Vol. 3A, 6.3.1, table 6-1. KVM's ABI header names the others (DE_VECTOR,
// PF_VECTOR...).
inline constexpr u8 NMI_VECTOR = 2, CP_VECTOR = 21;

// Debug registers: SDM Vol. 3B, 18.2.3 and 18.2.4. The active-low bits read 1 unless what they tell
// has happened.
inline constexpr u64 DR6_TRAP_BITS = 0xf, DR6_BD = 1ull << 13, DR6_BS = 1ull << 14,
                     DR6_BT = 1ull << 15, DR6_ACTIVE_LOW = 0xffff0ff0;
inline constexpr u64 DR7_BP_EN_MASK = 0xff, DR7_GD = 1ull << 13, kDr7Fixed = 1ull << 10;

// Page-fault error code: SDM Vol. 3A, 4.7.
inline constexpr u32 PFERR_PRESENT = 1u << 0, PFERR_WRITE = 1u << 1, PFERR_USER = 1u << 2,
                     PFERR_RSVD = 1u << 3, PFERR_FETCH = 1u << 4;

inline constexpr u32 MSR_IA32_TSC = 0x10, MSR_IA32_APICBASE = 0x1b, MSR_IA32_TSC_ADJUST = 0x3b,
                     MSR_IA32_SPEC_CTRL = 0x48, MSR_IA32_PRED_CMD = 0x49, MSR_IA32_UCODE_REV = 0x8b,
                     MSR_IA32_ARCH_CAPABILITIES = 0x10a, MSR_IA32_FLUSH_CMD = 0x10b,
                     MSR_IA32_SYSENTER_CS = 0x174, MSR_IA32_SYSENTER_ESP = 0x175,
                     MSR_IA32_SYSENTER_EIP = 0x176, MSR_IA32_MISC_ENABLE = 0x1a0,
                     MSR_IA32_DEBUGCTL = 0x1d9, MSR_IA32_PAT = 0x277, MSR_IA32_BNDCFGS = 0xd90,
                     MSR_IA32_XSS = 0xda0, MSR_EFER = 0xc0000080, MSR_STAR = 0xc0000081,
                     MSR_LSTAR = 0xc0000082, MSR_CSTAR = 0xc0000083, MSR_SYSCALL_MASK = 0xc0000084,
                     MSR_FS_BASE = 0xc0000100, MSR_GS_BASE = 0xc0000101,
                     MSR_KERNEL_GS_BASE = 0xc0000102, MSR_TSC_AUX = 0xc0000103;

inline constexpr u32 MSR_PLATFORM_INFO = 0xce, MSR_IA32_UMWAIT_CONTROL = 0xe1,
                     MSR_MISC_FEATURES_ENABLES = 0x140, MSR_IA32_MCG_STATUS = 0x17a,
                     MSR_IA32_MCG_CTL = 0x17b, MSR_IA32_POWER_CTL = 0x1fc,
                     MSR_IA32_TSC_DEADLINE = 0x6e0, MSR_K7_HWCR = 0xc0010015;
// KVM's own: Documentation/virt/kvm/x86/msr.rst.
inline constexpr u32 MSR_KVM_WALL_CLOCK = 0x11, MSR_KVM_SYSTEM_TIME = 0x12,
                     MSR_KVM_WALL_CLOCK_NEW = 0x4b564d00, MSR_KVM_SYSTEM_TIME_NEW = 0x4b564d01;

inline constexpr u64 kPageSize = 4096;
inline constexpr u32 kPageShift = 12;

} // namespace minivmx
