// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_VCPU_EVENTS and KVM_SET_VCPU_EVENTS: exceptions, interrupts and NMIs on their way into
// the guest, and what blocks them.
#include <minivmx/lapic.hpp>
#include <minivmx/run.hpp>

namespace minivmx {

namespace {

constexpr u32 kKnownFlags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
                            KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM |
                            KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT;

u8 interrupt_shadow(vcpu_vmx &vmx)
{
    const u32 state = read_interruptibility(vmx);
    return static_cast<u8>((state & GUEST_INTR_STATE_STI ? KVM_X86_SHADOW_INT_STI : 0) |
                           (state & GUEST_INTR_STATE_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0));
}

// SDM Vol. 3C, 27.3.1.5: VM entry refuses both kinds at once.
void set_interrupt_shadow(vcpu_vmx &vmx, u32 shadow)
{
    u32 state = read_interruptibility(vmx) & ~(GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS);
    if (shadow & KVM_X86_SHADOW_INT_MOV_SS)
        state |= GUEST_INTR_STATE_MOV_SS;
    else if (shadow & KVM_X86_SHADOW_INT_STI)
        state |= GUEST_INTR_STATE_STI;
    write_interruptibility(vmx, state);
}

void get_exception(const vcpu_vmx &vmx, kvm_vcpu_events &events)
{
    const ExceptionQueue &queued = vmx.exception;
    // INT3 and INTO simply execute again. KVM tells what waits apart from what was on its way only
    // to clients that know of payloads.
    const bool there = queued.pending && !queued.soft;
    const bool payloads = vmx.kvm->exception_payload;
    events.exception.injected = there && (queued.reinject || !payloads);
    events.exception.pending = there && !queued.reinject;
    events.exception.nr = queued.vector;
    events.exception.has_error_code = queued.has_error_code;
    events.exception.error_code = queued.error_code;
    if (!payloads)
        return;
    events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
    events.exception_has_payload = there && queued.has_payload;
    events.exception_payload = queued.payload;
}

// What KVM_SET_VCPU_EVENTS says of the exception, after flags have decided which fields count.
struct ExceptionEvent {
    bool injected, pending, has_payload;
};

bool get_exception_event(const vcpu_vmx &vmx, const kvm_vcpu_events &events, ExceptionEvent &event)
{
    event = {.injected = events.exception.injected != 0, .pending = false, .has_payload = false};
    if (events.flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
        if (!vmx.kvm->exception_payload)
            return false;
        event.pending = events.exception.pending != 0;
        event.injected = event.injected && !event.pending;
        event.has_payload = event.pending && events.exception_has_payload;
    }
    return !(event.injected || event.pending) ||
           (events.exception.nr <= 31 && events.exception.nr != NMI_VECTOR);
}

bool valid_events(const vcpu_vmx &vmx, const kvm_vcpu_events &events, ExceptionEvent &event)
{
    if (events.flags & ~kKnownFlags || !get_exception_event(vmx, events, event))
        return false;
    // There is no system-management mode to be in.
    if (events.flags & KVM_VCPUEVENT_VALID_SMM && (events.smi.smm || events.smi.pending))
        return false;
    return !(events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) || vmx.kvm->triple_fault_event;
}

void set_exception(vcpu_vmx &vmx, const kvm_vcpu_events &events, const ExceptionEvent &event)
{
    vmx.exception = {.pending = event.injected || event.pending,
                     .vector = events.exception.nr,
                     .has_error_code = events.exception.has_error_code != 0,
                     .reinject = event.injected,
                     .soft = false,
                     .error_code = events.exception.error_code,
                     .has_payload = event.has_payload,
                     .payload = events.exception_payload};
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_get_vcpu_events(core_vcpu *vcpu, kvm_vcpu_events *events)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    take_nmis(vmx);
    *events = {};
    events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    get_exception(vmx, *events);
    events->interrupt.injected = vmx.interrupt.pending && !vmx.interrupt.soft;
    events->interrupt.nr = vmx.interrupt.vector;
    events->interrupt.shadow = interrupt_shadow(vmx);
    events->nmi.injected = vmx.nmi_injected;
    events->nmi.pending = vmx.nmi_pending != 0;
    events->nmi.masked = nmis_masked(vmx);
    if (vmx.kvm->triple_fault_event) {
        events->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
        events->triple_fault.pending = vmx.triple_fault;
    }
    return 0;
}

int core_set_vcpu_events(core_vcpu *vcpu, const kvm_vcpu_events *events)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    ExceptionEvent event;
    if (!valid_events(vmx, *events, event))
        return -EINVAL;
    take_nmis(vmx);
    set_exception(vmx, *events, event);
    vmx.interrupt = {.pending = events->interrupt.injected != 0,
                     .soft = events->interrupt.soft != 0,
                     .vector = events->interrupt.nr};
    if (events->flags & KVM_VCPUEVENT_VALID_SHADOW)
        set_interrupt_shadow(vmx, events->interrupt.shadow);
    vmx.nmi_injected = events->nmi.injected != 0;
    if (events->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
        vmx.nmi_pending = events->nmi.pending != 0;
    set_nmis_masked(vmx, events->nmi.masked != 0);
    if (events->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR && vmx.apic)
        vmx.apic->sipi_vector = static_cast<u8>(events->sipi_vector);
    if (events->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
        vmx.triple_fault = events->triple_fault.pending != 0;
    return 0;
}

} // extern "C"
