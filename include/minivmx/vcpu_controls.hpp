// SPDX-License-Identifier: GPL-2.0-only
// From the negotiated configuration to one vCPU's control words: the document's vmx_exec_control()
// and its siblings. All of them are pure, so that the same code answers "which words would such a
// vCPU have" without a vCPU; each step goes to `sink` with its rule, when there is one.
#pragma once

#include <minivmx/rules.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vmcs_config.hpp>

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
    bool emulates_umip; // the guest has CR4.UMIP on and the CPU hasn't got it
    // Of the guest's CPUID.
    bool xsaves, rdtscp, rdpid, invpcid, rdrand, rdseed, waitpkg;
    // What a client wants to see beyond what the hypervisor needs.
    u64 intercepts; // MINIVMX_INTERCEPT_*
    bool intercepts_ports;
};

u32 vmx_pin_based_exec_ctrl(const Hardware &hw, const VcpuControlInputs &in,
                            const RuleSink *sink = nullptr);
u32 vmx_exec_control(const Hardware &hw, const VcpuControlInputs &in,
                     const RuleSink *sink = nullptr);
u32 vmx_secondary_exec_control(const Hardware &hw, const VcpuControlInputs &in,
                               const RuleSink *sink = nullptr);
u64 vmx_tertiary_exec_control(const Hardware &hw, const VcpuControlInputs &in,
                              const RuleSink *sink = nullptr);
u32 vmx_vmexit_ctrl(const Hardware &hw, const RuleSink *sink = nullptr);
u32 vmx_vmentry_ctrl(const Hardware &hw, const RuleSink *sink = nullptr);
// Any of them; 0 for a word that the vCPU's VMCS does not have.
u64 vcpu_control_word(const Hardware &hw, ControlField field, const VcpuControlInputs &in,
                      const RuleSink *sink = nullptr);

// A vCPU's control words, by ControlField.
struct ControlWords {
    u64 word[kControlFieldCount];
};

} // namespace minivmx
