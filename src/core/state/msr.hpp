// SPDX-License-Identifier: GPL-2.0-only
// How one MSR, or a range of them, answers RDMSR and WRMSR: a row of the table in msr.cc, and the
// functions rows are made of. All of them run with the vCPU loaded and answer false for #GP.
#pragma once

#include <minivmx/types.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

using MsrReadFn = bool(vcpu_vmx &vmx, u32 index, u64 &value);
using MsrWriteFn = bool(vcpu_vmx &vmx, u32 index, u64 value);

// Whether write() with this value neither sleeps nor takes long, so that it may be called with
// interrupts off.
using MsrWriteKindFn = bool(const vcpu_vmx &vmx, u32 index, u64 value);

struct MsrRow {
    u32 first, last;
    MsrReadFn *read;                          // nullptr: #GP
    MsrWriteFn *write;                        // nullptr: #GP
    MsrWriteKindFn *writes_at_once = nullptr; // nullptr: never
};

// How an access went.
enum class MsrResult : u8 {
    kDone,
    kUnknown,  // there is no such MSR
    kInvalid,  // not for this guest, not with this value, or not that way
    kFiltered, // the VMM forbids it
};

// ----- Filters and user space (msr_filter.cc) -----

// access: KVM_MSR_FILTER_READ or KVM_MSR_FILTER_WRITE.
bool msr_allowed(const kvm_vm &kvm, u32 index, u32 access);
// The access went wrong: if user space wants to answer such ones, fills kvm_run.
[[nodiscard]] bool ask_user_space(vcpu_vmx &vmx, MsrResult result, PendingMsr kind, u32 index,
                                  u64 value);

// An MSR that is only kept.
template <u64 GuestMsrs::*member>
bool read_stored(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.msrs.*member;
    return true;
}
template <u64 GuestMsrs::*member>
bool store(vcpu_vmx &vmx, u32, u64 value)
{
    vmx.msrs.*member = value;
    return true;
}

// The time-stamp counter: msr_tsc.cc
MsrReadFn read_tsc;
MsrWriteFn write_tsc, write_tsc_adjust;

// IA32_APIC_BASE: msr_apic_base.cc
MsrReadFn read_apic_base;
MsrWriteFn write_guest_apic_base;
u64 apic_base_after_reset(const vcpu_vmx &vmx);

// Features: msr_features.cc
MsrReadFn read_xss, read_bndcfgs, read_debugctl, read_umwait_control;
MsrReadFn read_platform_info;
MsrWriteFn write_xss, write_bndcfgs, write_debugctl, write_misc_enable, write_feature_control,
    write_misc_features_enables, write_umwait_control, write_hwcr, write_platform_info,
    write_microcode_revision;
// IA32_MISC_ENABLE after reset: neither branch trace storage nor PEBS, bits that can't be changed.
inline constexpr u64 kMiscEnableReadOnly = bit64(11) | bit64(12);

// Memory type range registers and the page attribute table: msr_memory_type.cc
MsrReadFn read_mtrr_capability, read_mtrr_default, read_variable_mtrr, read_fixed_mtrr;
MsrWriteFn write_mtrr_default, write_variable_mtrr, write_fixed_mtrr, write_pat;

// Machine check: msr_machine_check.cc
MsrReadFn read_machine_check_capability, read_machine_check_status, read_machine_check_control,
    read_machine_check_bank;
MsrWriteFn write_machine_check_status, write_machine_check_control, write_machine_check_bank;

// KVM's own: msr_kvm.cc
MsrReadFn read_kvm_wall_clock, read_kvm_system_time;
MsrWriteFn write_kvm_wall_clock, write_kvm_system_time;

// Speculation control: msr_speculation.cc
MsrReadFn read_spec_ctrl, read_arch_capabilities;
MsrWriteFn write_spec_ctrl, write_pred_cmd, write_arch_capabilities;
// IA32_ARCH_CAPABILITIES that guests of this machine get.
u64 guest_arch_capabilities();

} // namespace minivmx
