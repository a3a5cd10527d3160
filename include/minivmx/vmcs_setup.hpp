// SPDX-License-Identifier: GPL-2.0-only
// From the negotiated configuration to one vCPU's control words and VMCS: the document's second
// half. The word functions are pure, so that the same code answers "which words would such a vCPU
// have" without a vCPU; each step goes to `sink` with its rule, when there is one.
#pragma once

#include <minivmx/hardware.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// All that decides over a vCPU's control words beside the module's configuration.
struct VcpuControlInputs {
    bool debugreg_wont_exit;       // switch_db_regs & KVM_DEBUGREG_WONT_EXIT
    bool need_tpr_shadow;          // cpu_need_tpr_shadow()
    bool virtualize_apic_accesses; // cpu_need_virtualize_apic_accesses()
    bool xapic_mode, x2apic_mode;  // of the guest's APIC, if that is in the kernel
    bool apicv_active;             // kvm_vcpu_apicv_active()
    bool mwait_in_guest, hlt_in_guest, pause_in_guest;
    bool has_vpid;
    bool dirty_logging; // some slot is logged, by PML
    // Of the guest's CPUID.
    bool xsaves, rdtscp, rdpid, invpcid, rdrand, rdseed, waitpkg;
};

VcpuControlInputs vcpu_control_inputs(vcpu_vmx &vmx);

// The in-kernel local APIC decides over these three; without one they are false.
bool cpu_need_tpr_shadow(const vcpu_vmx &vmx);
bool cpu_need_virtualize_apic_accesses(const vcpu_vmx &vmx);
bool kvm_vcpu_apicv_active(const vcpu_vmx &vmx);

u32 vmx_pin_based_exec_ctrl(const Hardware &hw, const VcpuControlInputs &in,
                            const RuleSink *sink = nullptr);
u32 vmx_exec_control(const Hardware &hw, const VcpuControlInputs &in,
                     const RuleSink *sink = nullptr);
u32 vmx_secondary_exec_control(const Hardware &hw, const VcpuControlInputs &in,
                               const RuleSink *sink = nullptr);
u32 vmx_vmexit_ctrl(const Hardware &hw, const RuleSink *sink = nullptr);
u32 vmx_vmentry_ctrl(const Hardware &hw, const RuleSink *sink = nullptr);
// Which exceptions exit to us. vm86_active: the guest's real mode runs as virtual-8086 mode.
// software_breakpoints: #BP is a debugger's.
u32 vmx_exception_bitmap(const Hardware &hw, bool vm86_active, bool software_breakpoints = false);

// Writes every field of a fresh VMCS but the guest's register state. The guard shows that it is
// loaded: the document calls this before it is, which VMWRITE does not allow.
void init_vmcs(vcpu_vmx &vmx, const LoadedVmcsGuard &guard);
// The vCPU as after RESET (SDM Vol. 3A, 10.1.1): init_vmcs(), then the guest's registers.
void vmx_vcpu_reset(vcpu_vmx &vmx, const LoadedVmcsGuard &guard);
// The guest's APIC has changed its mode: accesses to its page or to its MSRs are virtualized.
void set_virtual_apic_mode(vcpu_vmx &vmx);
// A new guest CPUID moves the secondary controls that depend on it. The vCPU is loaded.
void vmx_vcpu_after_set_cpuid(vcpu_vmx &vmx);
void vmx_update_exception_bitmap(vcpu_vmx &vmx);

// A virtual-processor identifier of its own (SDM Vol. 3C, 29.1), or 0 when there is none left or
// vpid is off. [any]
u16 allocate_vpid();
void free_vpid(u16 vpid);

// The whole VMCS to the log in kvm_intel's line format, if dump_invalid_vmcs asks for it. The vCPU
// is loaded.
void dump_vmcs(vcpu_vmx &vmx);

} // namespace minivmx
