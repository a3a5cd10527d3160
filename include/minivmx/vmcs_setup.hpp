// SPDX-License-Identifier: GPL-2.0-only
// From the negotiated configuration to one vCPU's control words and VMCS: the document's second
// half. vcpu_controls.hpp has the words.
#pragma once

#include <minivmx/hardware.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vcpu_controls.hpp>

namespace minivmx {

VcpuControlInputs vcpu_control_inputs(const vcpu_vmx &vmx);
// As the VMCS has them now. Whoever does not hold the vCPU's mutex may see some older than others.
ControlWords vcpu_control_words(const vcpu_vmx &vmx);

// The in-kernel local APIC decides over these three; without one they are false.
bool cpu_need_tpr_shadow(const vcpu_vmx &vmx);
bool cpu_need_virtualize_apic_accesses(const vcpu_vmx &vmx);
bool kvm_vcpu_apicv_active(const vcpu_vmx &vmx);

// Which exceptions exit to us. vm86_active: the guest's real mode runs as virtual-8086 mode.
// software_breakpoints: #BP is a debugger's.
u32 vmx_exception_bitmap(const Hardware &hw, bool vm86_active, bool software_breakpoints = false,
                         u32 intercepted = 0);

// Writes every field of a fresh VMCS but the guest's register state. The guard shows that it is
// loaded: the document calls this before it is, which VMWRITE does not allow.
void init_vmcs(vcpu_vmx &vmx, const LoadedVmcsGuard &guard);
// The vCPU as after RESET (SDM Vol. 3A, 10.1.1): init_vmcs(), then the guest's registers.
void vmx_vcpu_reset(vcpu_vmx &vmx, const LoadedVmcsGuard &guard);
// The guest's APIC has changed its mode: accesses to its page or to its MSRs are virtualized.
void set_virtual_apic_mode(vcpu_vmx &vmx);
// The secondary word anew, where the CPU has one: after a change of the guest's CPUID, of its
// APIC's mode, or of another input. The vCPU is loaded.
void update_secondary_exec_control(vcpu_vmx &vmx);
void vmx_update_exception_bitmap(vcpu_vmx &vmx);
// Another set of intercepts: both processor-based words anew. The vCPU is loaded.
void update_exec_controls(vcpu_vmx &vmx);

// A virtual-processor identifier of its own (SDM Vol. 3C, 29.1), or 0 when there is none left or
// vpid is off. [any]
u16 allocate_vpid();
void free_vpid(u16 vpid);

// The whole VMCS to the log in kvm_intel's line format, if dump_invalid_vmcs asks for it. The vCPU
// is loaded.
void dump_vmcs(vcpu_vmx &vmx);

} // namespace minivmx
