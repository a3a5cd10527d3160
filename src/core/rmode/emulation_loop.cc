// SPDX-License-Identifier: GPL-2.0-only
// A guest that VM entry refuses goes on instruction by instruction, until it has a state that VM
// entry takes. No exit tells here what has come meanwhile, so it is looked for between
// instructions.
#include <minivmx/control_shadow.hpp>
#include <minivmx/emulate.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/run.hpp>

namespace minivmx {

namespace {

// What user space hears should the emulation fail: the exit that a VM entry would have been.
void pretend_failed_entry(vcpu_vmx &vmx)
{
    vmx.exit_reason = kExitReasonFailedEntry | EXIT_REASON_INVALID_STATE;
    vmx.exit_qualification = 0;
    vmx.exit_intr_info = 0;
    vmx.idt_vectoring_info = 0;
    vmx.state_available |= kStateQualification | kStateIntrInfo;
}

// The windows that would have made the guest exit.
void look_for_open_windows(vcpu_vmx &vmx)
{
    const u32 primary = exec_controls_get(vmx.vmcs01);
    if (primary & CPU_BASED_INTR_WINDOW_EXITING && interrupt_allowed(vmx)) {
        exec_controls_clearbit<CPU_BASED_INTR_WINDOW_EXITING>(vmx.vmcs01);
        if (vmx.has_apic)
            vmx.apic->attention = true;
    }
    if (primary & CPU_BASED_NMI_WINDOW_EXITING && nmi_allowed(vmx))
        exec_controls_clearbit<CPU_BASED_NMI_WINDOW_EXITING>(vmx.vmcs01);
}

// Whether vcpu_run() has something to do before the next instruction, and before any event: HLT has
// to be left by way of wait_until_runnable().
bool has_to_return(vcpu_vmx &vmx)
{
    return vmx.mp_state != KVM_MP_STATE_RUNNABLE || vmx.triple_fault ||
           __atomic_load_n(&vmx.area->requests, __ATOMIC_RELAXED) != 0 ||
           (irq_window_requested(vmx) && ready_for_interrupt_injection(vmx));
}

} // namespace

Outcome emulate_until_valid(vcpu_vmx &vmx)
{
    // Signals, and whoever else wants this CPU, are looked after at each return.
    constexpr u32 kInstructions = 128;
    vmx.last_vmentry_cpu = host_cpu(); // it has run: KVM_SET_CPUID2 may be too late
    pretend_failed_entry(vmx);
    if (vmx.has_apic)
        lapic_poll_preemption_timer(vmx);
    for (u32 i = 0; i < kInstructions && must_emulate(vmx) && !has_to_return(vmx); i++) {
        const Outcome trapped = deliver_pending_traps(vmx);
        if (!trapped.resumes())
            return trapped;
        look_for_open_windows(vmx);
        inject_pending_events(vmx);
        if (cannot_go_on(vmx) || !must_emulate(vmx))
            break;
        vmx.stats.emulated++;
        const Outcome outcome = emulate_instruction(vmx);
        if (!outcome.resumes())
            return outcome;
    }
    return Outcome::resume();
}

} // namespace minivmx
