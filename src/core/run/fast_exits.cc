// SPDX-License-Identifier: GPL-2.0-only
// Exits that are answered between two VM entries, without a way back to the host. What the host
// does around a run of the guest costs more than their work: interrupts and preemption on and off,
// its state in place, events and requests looked for. Who needs the vCPU meanwhile sets a request
// and sends an interrupt to its CPU, as to one that is in the guest, and that ends the run before
// the guest's next instruction. Only what the answer itself has left to do must be looked for.
#include <minivmx/hardware.hpp>
#include <minivmx/irqchip.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/run.hpp>
#include <minivmx/state.hpp>
#include <minivmx/trace.hpp>

namespace minivmx {

namespace {

// OUT to a port with an ioeventfd.
bool answer_port_io(vcpu_vmx &vmx)
{
    if (!vmx.kvm->pio_bus)
        return false;
    const IoInfo info = IoInfo::decode(exit_qualification(vmx));
    u32 data = static_cast<u32>(read_gpr(vmx, kRax));
    if (info.in || info.string || !signal_by_pio(vmx, info.port, &data, info.size))
        return false;
    skip_emulated_instruction(vmx);
    return true;
}

// Exits whose answer changes registers and nothing else.
bool answer_with_registers(vcpu_vmx &vmx)
{
    switch (vmx.exit_reason) {
    case EXIT_REASON_CPUID:
        return answer_cpuid(vmx);
    case EXIT_REASON_VMCALL:
        return handle_vmcall(vmx).resumes();
    case EXIT_REASON_MSR_READ:
        return answer_rdmsr(vmx);
    default:
        return false;
    }
}

bool answer_with_more(vcpu_vmx &vmx)
{
    switch (vmx.exit_reason) {
    case EXIT_REASON_MSR_WRITE:
        if (!answer_wrmsr(vmx))
            return false;
        // It may have set a timer that needn't be waited for.
        if (vmx.has_apic)
            lapic_poll_preemption_timer(vmx);
        return true;
    case EXIT_REASON_CR_ACCESS:
        return answer_cr_access(vmx);
    case EXIT_REASON_IO_INSTRUCTION:
        return answer_port_io(vmx);
    case EXIT_REASON_INTERRUPT_WINDOW:
        // User space, if it waits for that, hears of it outside of the guest.
        return !irq_window_requested(vmx) && handle_interrupt_window(vmx).resumes();
    case EXIT_REASON_TPR_BELOW_THRESHOLD:
        return handle_tpr_below_threshold(vmx).resumes();
    case EXIT_REASON_PREEMPTION_TIMER:
        return handle_preemption_timer(vmx).resumes();
    default:
        return false;
    }
}

// A write may have made translations stale, or ended an interrupt of user space's IOAPIC; whoever
// was woken may want this CPU, which nobody tells it by an interrupt.
bool needs_the_host(const vcpu_vmx &vmx)
{
    return vmx.stale_translations != StaleTranslations::kNone || vmx.ioapic_eoi_pending ||
           host_has_pending_work();
}

} // namespace

bool may_answer_at_once(const vcpu_vmx &vmx)
{
    // Clients that want to hear of exits, and ways to run in which there is more to do around each
    // entry.
    return !vmx.intercepts && !vmx.vm86_active &&
           !(vmx.has_apic && (vmx.apic->vapic_gpa || vmx.apic->report_tpr));
}

AtOnce answer_at_once(vcpu_vmx &vmx)
{
    if (exits_are_traced()) [[unlikely]]
        return AtOnce::kNotAnswered;
    AtOnce result = AtOnce::kGuestGoesOn;
    if (!answer_with_registers(vmx)) {
        if (!answer_with_more(vmx))
            return AtOnce::kNotAnswered;
        if (needs_the_host(vmx))
            result = AtOnce::kAnswered;
    }
    // None of these exits comes in the middle of an event's delivery (SDM Vol. 3C, 28.2.4): what
    // was injected has been delivered.
    events_delivered(vmx);
    return result;
}

bool may_enter_again(vcpu_vmx &vmx)
{
    // An NMI that waits may come in after any exit, or through the window of interrupts.
    if (__atomic_load_n(&vmx.area->requests, __ATOMIC_RELAXED) || vmx.nmi_pending ||
        __atomic_load_n(&vmx.area->nmi_pending, __ATOMIC_RELAXED)) [[unlikely]]
        return false;
    if (!vmx.has_apic || !vmx.apic->attention)
        return true;
    // Without "unrestricted guest" software may have to deliver the interrupt.
    if (!hardware.params.unrestricted_guest)
        return false;
    inject_pending_events(vmx);
    return true;
}

} // namespace minivmx
