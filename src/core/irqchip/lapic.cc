// SPDX-License-Identifier: GPL-2.0-only
// A local APIC from its creation to its end, and its modes.
#include "lapic_detail.hpp"

#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

constexpr u64 kBaseX2apic = bit64(10), kBaseEnabled = bit64(11);

ApicMode mode_of_apic_base(u64 base)
{
    if (!(base & kBaseEnabled))
        return ApicMode::kDisabled;
    return base & kBaseX2apic ? ApicMode::kX2apic : ApicMode::kXapic;
}

// SDM Vol. 3A, 11.4.8: version 14H, an integrated APIC, and the number of the last entry of the
// local vector table.
u32 version(const vcpu_vmx &vmx)
{
    constexpr u32 kVersion = 0x14, kLastLvt = 5;
    // A level-triggered interrupt's EOI can be withheld from IOAPICs only where these have an EOI
    // register, which the module's own lacks.
    const bool directed_eoi = vmx.kvm->irqchip == Irqchip::kSplit;
    return kVersion | kLastLvt << 16 | (directed_eoi ? kVersionDirectedEoi : 0);
}

void reset_bitmaps(Lapic &apic)
{
    for (u32 i = 0; i < 8; i++) {
        set_apic_register(apic, kApicIsr + 16 * i, 0);
        set_apic_register(apic, kApicTmr + 16 * i, 0);
        set_apic_register(apic, kApicIrr + 16 * i, 0);
    }
    apic.irr_words = 0;
    __atomic_store_n(&apic.isr_words, 0, __ATOMIC_RELAXED);
    for (u64 &word : apic.posted)
        __atomic_store_n(&word, 0, __ATOMIC_RELAXED);
}

void reset_local_vectors(Lapic &apic)
{
    for (u32 lvt = kApicLvtTimer; lvt <= kApicLvtError; lvt += 16)
        set_apic_register(apic, lvt, kLvtMasked);
    // Hardware comes up masked; firmware that never sets up its APIC relies on the PIC's interrupts
    // to come through all the same: KVM_X86_QUIRK_LINT0_REENABLED, on unless a client says
    // otherwise.
    if (apic.vcpu->vcpu_id == apic.vcpu->kvm->boot_vcpu_id)
        set_apic_register(apic, kApicLvtLint0, kLvtExtInt);
}

} // namespace

int lapic_create(vcpu_vmx &vmx)
{
    Lapic *apic = static_cast<Lapic *>(host_zalloc(sizeof(Lapic)));
    if (!apic)
        return -ENOMEM;
    apic->vcpu = &vmx;
    apic->external_vector = -1;
    apic->hv_value = ~0u; // as init_vmcs() writes it
    vmx.apic = apic;      // lapic_destroy() frees what there is by then
    apic->page = static_cast<u8 *>(host_page_alloc());
    if (!apic->page)
        return -ENOMEM;
    const int error = lapic_timer_create(*apic);
    if (error)
        return error;

    vmx.has_apic = true;
    apic->mode = static_cast<u8>(mode_of_apic_base(vmx.apic_base));
    lapic_reset(vmx, false);
    return 0;
}

void lapic_destroy(vcpu_vmx &vmx)
{
    Lapic *apic = vmx.apic;
    if (!apic)
        return;
    host_timer_destroy(apic->timer);
    if (apic->page)
        host_page_free(apic->page);
    host_free(apic);
    vmx.apic = nullptr;
}

void lapic_reset(vcpu_vmx &vmx, bool init)
{
    Lapic &apic = *vmx.apic;
    const bool x2apic = apic_mode(apic) == ApicMode::kX2apic;
    lapic_timer_stop(apic);
    apic.timer_mode = ApicTimerMode::kOneShot;
    apic.tsc_deadline = 0;

    if (!init)
        set_apic_register(apic, kApicId, x2apic ? vmx.vcpu_id : vmx.vcpu_id << 24);
    set_apic_register(apic, kApicVersion, version(vmx));
    reset_local_vectors(apic);
    reset_bitmaps(apic);
    set_apic_register(apic, kApicLdr, x2apic ? x2apic_logical_id(vmx.vcpu_id) : 0);
    set_apic_register(apic, kApicDfr, ~0u);
    set_apic_register(apic, kApicSvr, 0xff);
    for (const u32 zero :
         {kApicTpr, kApicPpr, kApicEsr, kApicIcr, kApicIcrHigh, kApicInitialCount, kApicDivide})
        set_apic_register(apic, zero, 0);
    apic.divide = 2; // what 0 in the divide configuration register means
    apic.external_vector = -1;
    __atomic_store_n(&apic.errors, 0, __ATOMIC_RELAXED);
    apic.attention = true;
}

void lapic_base_changed(vcpu_vmx &vmx, u64 before)
{
    constexpr u64 kModeBits = kBaseEnabled | kBaseX2apic;
    Lapic &apic = *vmx.apic;
    const u64 changed = before ^ vmx.apic_base;
    if (!(changed & kModeBits))
        return;
    const ApicMode mode = mode_of_apic_base(vmx.apic_base);
    // SDM Vol. 3A, 11.12.5.1: in x2APIC mode ID and LDR are the hardware's.
    if (mode == ApicMode::kX2apic) {
        set_apic_register(apic, kApicId, vmx.vcpu_id);
        set_apic_register(apic, kApicLdr, x2apic_logical_id(vmx.vcpu_id));
    } else if (mode == ApicMode::kXapic) {
        set_apic_register(apic, kApicId, vmx.vcpu_id << 24);
    }
    __atomic_store_n(&apic.mode, static_cast<u8>(mode), __ATOMIC_RELAXED);
    apic.attention = true;
    set_virtual_apic_mode(vmx);
}

} // namespace minivmx
