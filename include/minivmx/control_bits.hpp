// SPDX-License-Identifier: GPL-2.0-only
//
// The bits of the VM-execution, VM-exit and VM-entry control words, under the names the document
// and kvm_intel use. Numbers are here and nowhere else: the table in control_table.hpp refers to
// these constants.
//
// SDM Vol. 3C, 25.6.1 (pin-based), 25.6.2 (processor-based), 25.7.1 (VM-exit), 25.8.1 (VM-entry).
// Section numbers throughout the tree are those of the 2023 and 2024 editions; editions from 2025
// on have the VMCS in chapter 27 instead of 25 and shift the chapters after it by two as well.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// Pin-based VM-execution controls.
inline constexpr u32 PIN_BASED_EXT_INTR_MASK = bit32(0);
inline constexpr u32 PIN_BASED_NMI_EXITING = bit32(3);
inline constexpr u32 PIN_BASED_VIRTUAL_NMIS = bit32(5);
inline constexpr u32 PIN_BASED_VMX_PREEMPTION_TIMER = bit32(6);
inline constexpr u32 PIN_BASED_POSTED_INTR = bit32(7);

// Primary processor-based VM-execution controls.
inline constexpr u32 CPU_BASED_INTR_WINDOW_EXITING = bit32(2);
inline constexpr u32 CPU_BASED_USE_TSC_OFFSETTING = bit32(3);
inline constexpr u32 CPU_BASED_HLT_EXITING = bit32(7);
inline constexpr u32 CPU_BASED_INVLPG_EXITING = bit32(9);
inline constexpr u32 CPU_BASED_MWAIT_EXITING = bit32(10);
inline constexpr u32 CPU_BASED_RDPMC_EXITING = bit32(11);
inline constexpr u32 CPU_BASED_RDTSC_EXITING = bit32(12);
inline constexpr u32 CPU_BASED_CR3_LOAD_EXITING = bit32(15);
inline constexpr u32 CPU_BASED_CR3_STORE_EXITING = bit32(16);
inline constexpr u32 CPU_BASED_ACTIVATE_TERTIARY_CONTROLS = bit32(17);
inline constexpr u32 CPU_BASED_CR8_LOAD_EXITING = bit32(19);
inline constexpr u32 CPU_BASED_CR8_STORE_EXITING = bit32(20);
inline constexpr u32 CPU_BASED_TPR_SHADOW = bit32(21);
inline constexpr u32 CPU_BASED_NMI_WINDOW_EXITING = bit32(22);
inline constexpr u32 CPU_BASED_MOV_DR_EXITING = bit32(23);
inline constexpr u32 CPU_BASED_UNCOND_IO_EXITING = bit32(24);
inline constexpr u32 CPU_BASED_USE_IO_BITMAPS = bit32(25);
inline constexpr u32 CPU_BASED_MONITOR_TRAP_FLAG = bit32(27);
inline constexpr u32 CPU_BASED_USE_MSR_BITMAPS = bit32(28);
inline constexpr u32 CPU_BASED_MONITOR_EXITING = bit32(29);
inline constexpr u32 CPU_BASED_PAUSE_EXITING = bit32(30);
inline constexpr u32 CPU_BASED_ACTIVATE_SECONDARY_CONTROLS = bit32(31);

// Secondary processor-based VM-execution controls.
inline constexpr u32 SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES = bit32(0);
inline constexpr u32 SECONDARY_EXEC_ENABLE_EPT = bit32(1);
inline constexpr u32 SECONDARY_EXEC_DESC = bit32(2);
inline constexpr u32 SECONDARY_EXEC_ENABLE_RDTSCP = bit32(3);
inline constexpr u32 SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE = bit32(4);
inline constexpr u32 SECONDARY_EXEC_ENABLE_VPID = bit32(5);
inline constexpr u32 SECONDARY_EXEC_WBINVD_EXITING = bit32(6);
inline constexpr u32 SECONDARY_EXEC_UNRESTRICTED_GUEST = bit32(7);
inline constexpr u32 SECONDARY_EXEC_APIC_REGISTER_VIRT = bit32(8);
inline constexpr u32 SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY = bit32(9);
inline constexpr u32 SECONDARY_EXEC_PAUSE_LOOP_EXITING = bit32(10);
inline constexpr u32 SECONDARY_EXEC_RDRAND_EXITING = bit32(11);
inline constexpr u32 SECONDARY_EXEC_ENABLE_INVPCID = bit32(12);
inline constexpr u32 SECONDARY_EXEC_ENABLE_VMFUNC = bit32(13);
inline constexpr u32 SECONDARY_EXEC_SHADOW_VMCS = bit32(14);
inline constexpr u32 SECONDARY_EXEC_ENCLS_EXITING = bit32(15);
inline constexpr u32 SECONDARY_EXEC_RDSEED_EXITING = bit32(16);
inline constexpr u32 SECONDARY_EXEC_ENABLE_PML = bit32(17);
inline constexpr u32 SECONDARY_EXEC_EPT_VIOLATION_VE = bit32(18);
inline constexpr u32 SECONDARY_EXEC_PT_CONCEAL_VMX = bit32(19);
inline constexpr u32 SECONDARY_EXEC_XSAVES = bit32(20);
inline constexpr u32 SECONDARY_EXEC_PASID_TRANSLATION = bit32(21);
inline constexpr u32 SECONDARY_EXEC_MODE_BASED_EPT_EXEC = bit32(22);
inline constexpr u32 SECONDARY_EXEC_SUB_PAGE_WRITE = bit32(23);
inline constexpr u32 SECONDARY_EXEC_PT_USE_GPA = bit32(24);
inline constexpr u32 SECONDARY_EXEC_TSC_SCALING = bit32(25);
inline constexpr u32 SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE = bit32(26);
inline constexpr u32 SECONDARY_EXEC_ENABLE_PCONFIG = bit32(27);
inline constexpr u32 SECONDARY_EXEC_ENCLV_EXITING = bit32(28);
inline constexpr u32 SECONDARY_EXEC_BUS_LOCK_DETECTION = bit32(30);
inline constexpr u32 SECONDARY_EXEC_NOTIFY_VM_EXITING = bit32(31);

// Tertiary processor-based VM-execution controls, a 64-bit word.
inline constexpr u64 TERTIARY_EXEC_LOADIWKEY_EXITING = bit64(0);
inline constexpr u64 TERTIARY_EXEC_ENABLE_HLAT = bit64(1);
inline constexpr u64 TERTIARY_EXEC_EPT_PAGING_WRITE = bit64(2);
inline constexpr u64 TERTIARY_EXEC_GUEST_PAGING_VERIFICATION = bit64(3);
inline constexpr u64 TERTIARY_EXEC_IPI_VIRT = bit64(4);
inline constexpr u64 TERTIARY_EXEC_SEAM_GPA_WIDTH = bit64(5);
inline constexpr u64 TERTIARY_EXEC_ENABLE_MSR_LIST = bit64(6);
inline constexpr u64 TERTIARY_EXEC_VIRTUALIZE_SPEC_CTRL = bit64(7);
inline constexpr u64 TERTIARY_EXEC_APIC_TIMER_VIRT = bit64(8);
inline constexpr u64 TERTIARY_EXEC_ENABLE_PBNDKB = bit64(9);
inline constexpr u64 TERTIARY_EXEC_PEBS_USE_GPA = bit64(12);

// Primary VM-exit controls.
inline constexpr u32 VM_EXIT_SAVE_DEBUG_CONTROLS = bit32(2);
inline constexpr u32 VM_EXIT_HOST_ADDR_SPACE_SIZE = bit32(9);
inline constexpr u32 VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL = bit32(12);
inline constexpr u32 VM_EXIT_ACK_INTR_ON_EXIT = bit32(15);
inline constexpr u32 VM_EXIT_SAVE_IA32_PAT = bit32(18);
inline constexpr u32 VM_EXIT_LOAD_IA32_PAT = bit32(19);
inline constexpr u32 VM_EXIT_SAVE_IA32_EFER = bit32(20);
inline constexpr u32 VM_EXIT_LOAD_IA32_EFER = bit32(21);
inline constexpr u32 VM_EXIT_SAVE_VMX_PREEMPTION_TIMER = bit32(22);
inline constexpr u32 VM_EXIT_CLEAR_BNDCFGS = bit32(23);
inline constexpr u32 VM_EXIT_PT_CONCEAL_PIP = bit32(24);
inline constexpr u32 VM_EXIT_CLEAR_IA32_RTIT_CTL = bit32(25);
inline constexpr u32 VM_EXIT_CLEAR_IA32_LBR_CTL = bit32(26);
inline constexpr u32 VM_EXIT_CLEAR_UINV = bit32(27);
inline constexpr u32 VM_EXIT_LOAD_CET_STATE = bit32(28);
inline constexpr u32 VM_EXIT_LOAD_IA32_PKRS = bit32(29);
inline constexpr u32 VM_EXIT_SAVE_IA32_PERF_GLOBAL_CTRL = bit32(30);
inline constexpr u32 VM_EXIT_ACTIVATE_SECONDARY_CONTROLS = bit32(31);

// Secondary VM-exit controls, a 64-bit word.
inline constexpr u64 SECONDARY_VM_EXIT_SAVE_FRED = bit64(0);
inline constexpr u64 SECONDARY_VM_EXIT_LOAD_FRED = bit64(1);
inline constexpr u64 SECONDARY_VM_EXIT_LOAD_IA32_SPEC_CTRL = bit64(2);
inline constexpr u64 SECONDARY_VM_EXIT_BUSY_SHADOW_STACK = bit64(3);

// VM-entry controls.
inline constexpr u32 VM_ENTRY_LOAD_DEBUG_CONTROLS = bit32(2);
inline constexpr u32 VM_ENTRY_IA32E_MODE = bit32(9);
inline constexpr u32 VM_ENTRY_SMM = bit32(10);
inline constexpr u32 VM_ENTRY_DEACT_DUAL_MONITOR = bit32(11);
inline constexpr u32 VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL = bit32(13);
inline constexpr u32 VM_ENTRY_LOAD_IA32_PAT = bit32(14);
inline constexpr u32 VM_ENTRY_LOAD_IA32_EFER = bit32(15);
inline constexpr u32 VM_ENTRY_LOAD_BNDCFGS = bit32(16);
inline constexpr u32 VM_ENTRY_PT_CONCEAL_PIP = bit32(17);
inline constexpr u32 VM_ENTRY_LOAD_IA32_RTIT_CTL = bit32(18);
inline constexpr u32 VM_ENTRY_LOAD_UINV = bit32(19);
inline constexpr u32 VM_ENTRY_LOAD_CET_STATE = bit32(20);
inline constexpr u32 VM_ENTRY_LOAD_IA32_LBR_CTL = bit32(21);
inline constexpr u32 VM_ENTRY_LOAD_IA32_PKRS = bit32(22);
inline constexpr u32 VM_ENTRY_LOAD_FRED = bit32(23);
inline constexpr u32 VM_ENTRY_LOAD_IA32_SPEC_CTRL = bit32(24);
inline constexpr u32 VM_ENTRY_ALLOW_SEAM_TELEMETRY = bit32(25);

} // namespace minivmx
