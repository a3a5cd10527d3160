// SPDX-License-Identifier: GPL-2.0-only
// Exits that are answered between two VM entries, without a way back to the host. What the host
// does around a run of the guest costs more than their work: interrupts and preemption on and off,
// its state in place, events and requests looked for. A request that comes meanwhile ends the run:
// whoever makes one sends an interrupt to a CPU that is in the guest.
#include <minivmx/lapic.hpp>
#include <minivmx/run.hpp>
#include <minivmx/state.hpp>
#include <minivmx/trace.hpp>

namespace minivmx {

namespace {

// Whether the guest may go on after an exit that changes nothing but registers.
bool may_go_on(const vcpu_vmx &vmx)
{
    return !vmx.entry_failed && !vmx.intercepts && !exits_are_traced() &&
           !__atomic_load_n(&vmx.area->requests, __ATOMIC_RELAXED) &&
           !(vmx.has_apic && vmx.apic->attention);
}

bool answer(vcpu_vmx &vmx)
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

} // namespace

bool answer_at_once(vcpu_vmx &vmx)
{
    if (!may_go_on(vmx) || !answer(vmx))
        return false;
    // An instruction that exits is not in the middle of an event's delivery (SDM Vol. 3C, 28.2.4):
    // what was injected has been delivered.
    events_delivered(vmx);
    return true;
}

} // namespace minivmx
