// SPDX-License-Identifier: GPL-2.0-only
// The guest's architectural state: what src/core/state does for creating, running and describing a vCPU. The vCPU is
// loaded; may sleep unless it says otherwise.
#pragma once

#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

// ---- Creation --------------------------------------------------------------------------------------------------

// MSR values after RESET; needs no VMCS.
void init_guest_msrs(vcpu_vmx &vmx);
// Which MSRs the guest reads and writes without an exit: fills vmx.msr_bitmap (one page, all of it).
void init_msr_bitmap(vcpu_vmx &vmx);
// CR0 and CR4 guest/host masks: which bits the guest changes without an exit.
void set_cr_guest_host_masks(vcpu_vmx &vmx);
// Registers, segments and descriptor tables as after RESET: SDM Vol. 3A, 10.1.1, table 10-1.
void reset_guest_state(vcpu_vmx &vmx);
// Sets the TSC offset: the guest's TSC is the host's plus this.
void write_tsc_offset(vcpu_vmx &vmx, u64 offset);

// ---- Around each entry -----------------------------------------------------------------------------------------

// XCR0 and XSS are switched only where host and guest differ, and only while the guest has CR4.OSXSAVE. [irqs off]
void load_guest_xcr0(vcpu_vmx &vmx);
void load_host_xcr0(vcpu_vmx &vmx);

// ---- Exits -----------------------------------------------------------------------------------------------------

Outcome handle_cpuid(vcpu_vmx &vmx);
Outcome handle_rdmsr(vcpu_vmx &vmx);
Outcome handle_wrmsr(vcpu_vmx &vmx);
Outcome handle_cr_access(vcpu_vmx &vmx);
Outcome handle_xsetbv(vcpu_vmx &vmx);

} // namespace minivmx
