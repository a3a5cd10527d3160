// SPDX-License-Identifier: GPL-2.0-only
// Interrupt messages on their way to local APICs: SDM Vol. 3A, 11.6 "Issuing Interprocessor
// Interrupts" and 11.11 "Message Signalled Interrupts". Runs in any context but an NMI; takes no
// lock, and changes of others' APICs only what they share (see lapic.hpp).
#include "lapic_detail.hpp"

#include <minivmx/host_guard.hpp>

namespace minivmx {

namespace {

constexpr u32 kXapicBroadcast = 0xff, kX2apicBroadcast = ~0u;

// Eight bits of destination from anybody, thirty-two from x2APICs and from who was told to use them
// (KVM_CAP_X2APIC_API; its second flag says that a device's 255 is an x2APIC's ID like any other).
bool is_broadcast(const vcpu_vmx *source, const Lapic &target, u32 destination)
{
    if (destination == kX2apicBroadcast)
        return true;
    if (destination != kXapicBroadcast)
        return false;
    if (apic_mode(target) != ApicMode::kX2apic)
        return true;
    return source ? apic_mode(*source->apic) != ApicMode::kX2apic
                  : !target.vcpu->kvm->x2apic_broadcast_quirk_disabled;
}

// SDM Vol. 3A, 11.6.2.1
bool matches_physical(const Lapic &target, u32 destination)
{
    const u32 id = apic_register(target, kApicId);
    if (apic_mode(target) == ApicMode::kX2apic)
        return id == destination;
    // An ID beyond eight bits exists only in x2APIC mode; until it is on, such a processor answers
    // to the whole number, so that it can be started.
    return id >> 24 == destination || (destination > 0xff && target.vcpu->vcpu_id == destination);
}

// SDM Vol. 3A, 11.6.2.2 and 11.12.10.2
bool matches_logical(const Lapic &target, u32 destination)
{
    const u32 ldr = apic_register(target, kApicLdr);
    if (apic_mode(target) == ApicMode::kX2apic)
        return ldr >> 16 == destination >> 16 && (ldr & destination & 0xffff) != 0;

    constexpr u32 kFlat = 0xf, kCluster = 0;
    const u32 logical_id = ldr >> 24;
    switch (apic_register(target, kApicDfr) >> 28) {
    case kFlat:
        return (logical_id & destination) != 0;
    case kCluster:
        return logical_id >> 4 == destination >> 4 && (logical_id & destination & 0xf) != 0;
    default:
        return false;
    }
}

bool is_meant(const vcpu_vmx *source, const Lapic &target, const InterruptMessage &message)
{
    switch (message.shorthand) {
    case Shorthand::kSelf:
        return source == target.vcpu;
    case Shorthand::kAll:
        return true;
    case Shorthand::kAllButSelf:
        return source != target.vcpu;
    case Shorthand::kNone:
        break;
    }
    if (is_broadcast(source, target, message.destination))
        return true;
    return message.logical ? matches_logical(target, message.destination)
                           : matches_physical(target, message.destination);
}

// A SIPI from before belongs to an earlier start.
void signal_init(Lapic &target)
{
    __atomic_store_n(&target.events, u32{kApicEventInit}, __ATOMIC_RELEASE);
    host_vcpu_kick(target.vcpu->host);
}

void signal_sipi(Lapic &target, u8 vector)
{
    __atomic_store_n(&target.sipi_vector, vector, __ATOMIC_RELAXED);
    __atomic_fetch_or(&target.events, u32{kApicEventSipi}, __ATOMIC_RELEASE);
    host_vcpu_kick(target.vcpu->host);
}

void signal_nmi(Lapic &target)
{
    __atomic_fetch_add(&target.vcpu->area->nmi_pending, 1, __ATOMIC_RELEASE);
    host_vcpu_kick(target.vcpu->host);
}

// One APIC takes the message. Whether it did: 1, or 0.
int accept(const vcpu_vmx *source, Lapic &target, const InterruptMessage &message)
{
    switch (message.mode) {
    case DeliveryMode::kFixed:
    case DeliveryMode::kLowestPriority:
        if (!software_enabled(target)) // SDM Vol. 3A, 11.4.7.2
            return 0;
        return lapic_post(target, message.vector, message.level, source != target.vcpu);
    case DeliveryMode::kNmi:
        signal_nmi(target);
        return 1;
    case DeliveryMode::kInit:
        // SDM Vol. 3A, 11.6.1: INIT level de-assert only synchronizes arbitration, long ago.
        if (message.level && !message.assert_level)
            return 0;
        signal_init(target);
        return 1;
    case DeliveryMode::kStartup:
        signal_sipi(target, message.vector);
        return 1;
    case DeliveryMode::kSmi:    // there is no SMM
    case DeliveryMode::kExtInt: // the PIC's, which tells by itself
        return 0;
    }
    return 0;
}

// What holds interrupts back there, by its class: SDM Vol. 3A, 11.6.2.4. Of a running vCPU it is a
// guess, as on hardware by the time the message arrives.
u32 arbitration_priority(const Lapic &apic)
{
    const int in_service = lapic_highest_in_service(apic);
    const u32 isr_class = in_service < 0 ? 0 : static_cast<u32>(in_service) >> 4;
    const u32 tpr_class = apic_register(apic, kApicTpr) >> 4 & 15;
    return tpr_class > isr_class ? tpr_class : isr_class;
}

// Whether a is a better target than b: lower priority, or the same and chosen less often.
bool goes_before(const Lapic &a, const Lapic &b)
{
    const u32 pa = arbitration_priority(a), pb = arbitration_priority(b);
    if (pa != pb)
        return pa < pb;
    return __atomic_load_n(&a.arbitration, __ATOMIC_RELAXED) <
           __atomic_load_n(&b.arbitration, __ATOMIC_RELAXED);
}

Lapic *reachable_apic(const kvm_vm &kvm, u32 slot)
{
    vcpu_vmx *vcpu = vcpu_at(kvm, slot);
    if (!vcpu || !vcpu->apic || apic_mode(*vcpu->apic) == ApicMode::kDisabled)
        return nullptr;
    return vcpu->apic;
}

int deliver_to_lowest(kvm_vm &kvm, const vcpu_vmx *source, const InterruptMessage &message)
{
    Lapic *best = nullptr;
    const u32 count = vcpu_count(kvm);
    for (u32 i = 0; i < count; i++) {
        Lapic *apic = reachable_apic(kvm, i);
        if (apic && software_enabled(*apic) && is_meant(source, *apic, message) &&
            (!best || goes_before(*apic, *best)))
            best = apic;
    }
    if (!best)
        return -1;
    __atomic_fetch_add(&best->arbitration, 1, __ATOMIC_RELAXED);
    return accept(source, *best, message);
}

int deliver_to_all(kvm_vm &kvm, const vcpu_vmx *source, const InterruptMessage &message)
{
    int taken = -1;
    const u32 count = vcpu_count(kvm);
    for (u32 i = 0; i < count; i++) {
        Lapic *apic = reachable_apic(kvm, i);
        if (!apic || !is_meant(source, *apic, message))
            continue;
        taken = (taken < 0 ? 0 : taken) + accept(source, *apic, message);
    }
    return taken;
}

// Most messages name one APIC, and most guests leave the IDs as they are, in the order of creation.
Lapic *single_target(const kvm_vm &kvm, const vcpu_vmx *source, const InterruptMessage &message)
{
    if (message.logical || message.shorthand != Shorthand::kNone ||
        message.destination >= vcpu_count(kvm))
        return nullptr;
    Lapic *apic = reachable_apic(kvm, message.destination);
    if (!apic || is_broadcast(source, *apic, message.destination) ||
        !matches_physical(*apic, message.destination))
        return nullptr;
    return apic;
}

} // namespace

bool lapic_post(Lapic &apic, u8 vector, bool level, bool kick)
{
    if (vector < kFirstLegalVector) {
        log_apic_error(apic, kErrorReceiveIllegalVector, kick);
        return false;
    }
    u32 *trigger_mode = apic_slot(apic, vector_register(kApicTmr, vector));
    const u32 bit = bit32(vector % 32);
    // SDM Vol. 3A, 11.8.4: TMR follows the message.
    if (level != ((__atomic_load_n(trigger_mode, __ATOMIC_RELAXED) & bit) != 0)) {
        if (level)
            __atomic_fetch_or(trigger_mode, bit, __ATOMIC_RELAXED);
        else
            __atomic_fetch_and(trigger_mode, ~bit, __ATOMIC_RELAXED);
    }
    if (!kick) {
        lapic_request(apic, vector);
        apic.attention = true;
        return true;
    }
    const u64 posted_bit = bit64(vector % 64);
    if (!(__atomic_fetch_or(&apic.posted[vector / 64], posted_bit, __ATOMIC_SEQ_CST) & posted_bit))
        host_vcpu_kick(apic.vcpu->host); // else who posted it first does
    return true;
}

void lapic_local_event(Lapic &apic, ApicRegister lvt, bool kick)
{
    const u32 entry = apic_register(apic, lvt);
    if (entry & kLvtMasked || apic_mode(apic) == ApicMode::kDisabled)
        return;
    switch (entry & kLvtDelivery) {
    case 0:
        // The error interrupt's own error makes no further one.
        if (lvt == kApicLvtError && (entry & kLvtVector) < kFirstLegalVector)
            __atomic_fetch_or(&apic.errors, kErrorReceiveIllegalVector, __ATOMIC_RELAXED);
        else
            lapic_post(apic, static_cast<u8>(entry & kLvtVector), false, kick);
        break;
    case kLvtNmi:
        signal_nmi(apic);
        break;
    case kLvtInit:
        signal_init(apic);
        break;
    default:
        break;
    }
}

int deliver_interrupt(kvm_vm &kvm, const vcpu_vmx *source, const InterruptMessage &message)
{
    const RcuReader reader;
    if (Lapic *apic = single_target(kvm, source, message))
        return accept(source, *apic, message);
    if (message.mode == DeliveryMode::kLowestPriority || message.redirect_hint)
        return deliver_to_lowest(kvm, source, message);
    return deliver_to_all(kvm, source, message);
}

// On real boards the PIC's output does that, wired to every processor's LINT0, so the PIT's line
// has to be open there; as in KVM it needn't be.
void pit_ticks_as_nmi(kvm_vm &kvm)
{
    const RcuReader reader;
    const u32 count = vcpu_count(kvm);
    for (u32 i = 0; i < count; i++) {
        vcpu_vmx *vcpu = vcpu_at(kvm, i);
        if (vcpu && vcpu->apic &&
            (apic_register(*vcpu->apic, kApicLvtLint0) & kLvtDelivery) == kLvtNmi)
            lapic_local_event(*vcpu->apic, kApicLvtLint0, true);
    }
}

void pic_output_changed(kvm_vm &kvm)
{
    if (!pic_output(kvm))
        return; // who has seen it takes nothing then
    const RcuReader reader;
    const u32 count = vcpu_count(kvm);
    for (u32 i = 0; i < count; i++) {
        vcpu_vmx *vcpu = vcpu_at(kvm, i);
        if (vcpu && vcpu->apic && lapic_accepts_pic(*vcpu->apic)) {
            host_vcpu_kick(vcpu->host);
            return;
        }
    }
}

} // namespace minivmx
