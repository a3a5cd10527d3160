// SPDX-License-Identifier: GPL-2.0-only
// Which interrupt goes into the guest, and when: SDM Vol. 3A, 11.8 "Handling Interrupts".
#include "lapic_detail.hpp"

#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

u32 highest_bit(u32 word)
{
    return 31 - static_cast<u32>(__builtin_clz(word));
}

// words: those that may hold a bit.
[[gnu::always_inline]] inline int highest_vector(const Lapic &apic, u32 bitmap, u32 words)
{
    while (words) {
        const u32 i = highest_bit(words);
        const u32 word = apic_register(apic, bitmap + 16 * i);
        if (word) [[likely]]
            return static_cast<int>(32 * i + highest_bit(word));
        words &= ~bit32(i);
    }
    return -1;
}

void set_bits(Lapic &apic, u32 bitmap, u8 &words, u32 i, u32 bits)
{
    const u32 offset = bitmap + 16 * i;
    set_apic_register(apic, offset, apic_register(apic, offset) | bits);
    __atomic_store_n(&words, static_cast<u8>(words | 1u << i), __ATOMIC_RELAXED);
}

void set_vector(Lapic &apic, u32 bitmap, u8 &words, u32 vector)
{
    set_bits(apic, bitmap, words, vector / 32, bit32(vector % 32));
}

// SDM Vol. 3A, 11.8.4: posted vectors become requests.
[[gnu::noinline]] void take_posted(Lapic &apic)
{
    for (u32 i = 0; i < kPostedWords; i++) {
        if (!__atomic_load_n(&apic.posted[i], __ATOMIC_RELAXED))
            continue;
        const u64 bits = __atomic_exchange_n(&apic.posted[i], 0, __ATOMIC_ACQUIRE);
        if (const u32 low = static_cast<u32>(bits))
            set_bits(apic, kApicIrr, apic.irr_words, 2 * i, low);
        if (const u32 high = static_cast<u32>(bits >> 32))
            set_bits(apic, kApicIrr, apic.irr_words, 2 * i + 1, high);
    }
}

[[gnu::always_inline]] inline int highest_request(Lapic &apic)
{
    u64 posted = 0;
#pragma GCC unroll 4
    for (u32 i = 0; i < kPostedWords; i++)
        posted |= __atomic_load_n(&apic.posted[i], __ATOMIC_RELAXED);
    if (posted)
        take_posted(apic);
    return highest_vector(apic, kApicIrr, apic.irr_words);
}

void clear_vector(Lapic &apic, u32 bitmap, u8 &words, u32 vector)
{
    const u32 offset = vector_register(bitmap, vector);
    const u32 word = apic_register(apic, offset) & ~bit32(vector % 32);
    set_apic_register(apic, offset, word);
    if (!word)
        __atomic_store_n(&words, static_cast<u8>(words & ~(1u << vector / 32)), __ATOMIC_RELAXED);
}

// The vector that could be delivered now, or -1: SDM Vol. 3A, 11.8.4.
int deliverable_vector(Lapic &apic)
{
    if (apic_mode(apic) == ApicMode::kDisabled)
        return -1;
    const int vector = highest_request(apic);
    if (vector < 0)
        return -1;
    return (vector & 0xf0) > (lapic_update_ppr(apic) & 0xf0) ? vector : -1;
}

bool pic_asks(vcpu_vmx &vmx)
{
    const Lapic &apic = *vmx.apic;
    if (!lapic_accepts_pic(apic))
        return false;
    return vmx.kvm->irqchip == Irqchip::kSplit ? apic.external_vector >= 0 : pic_output(*vmx.kvm);
}

} // namespace

int lapic_highest_request(Lapic &apic)
{
    return highest_request(apic);
}

int lapic_highest_in_service(const Lapic &apic)
{
    return highest_vector(apic, kApicIsr, __atomic_load_n(&apic.isr_words, __ATOMIC_RELAXED));
}

u8 lapic_update_ppr(Lapic &apic)
{
    const u32 tpr = apic_register(apic, kApicTpr) & 0xff;
    const int in_service = lapic_highest_in_service(apic);
    const u32 isr_class = in_service < 0 ? 0 : static_cast<u32>(in_service) & 0xf0;
    const u32 ppr = (tpr & 0xf0) >= isr_class ? tpr : isr_class;
    if (ppr != apic_register(apic, kApicPpr))
        set_apic_register(apic, kApicPpr, ppr);
    return static_cast<u8>(ppr);
}

bool lapic_accepts_pic(const Lapic &apic)
{
    // SDM Vol. 3A, 11.4.3: a processor whose APIC is disabled takes LINT0 as its INTR pin; only the
    // bootstrap processor's is wired then.
    if (apic_mode(apic) == ApicMode::kDisabled)
        return apic.vcpu->vcpu_id == apic.vcpu->kvm->boot_vcpu_id;
    return (apic_register(apic, kApicLvtLint0) & (kLvtMasked | kLvtDelivery)) == kLvtExtInt;
}

void lapic_request(Lapic &apic, u8 vector)
{
    set_vector(apic, kApicIrr, apic.irr_words, vector);
}

// Flat: each vCPU that sleeps or wakes asks several times.
[[gnu::flatten]] int next_interrupt(vcpu_vmx &vmx)
{
    return pic_asks(vmx) ? kInterruptOfPic : deliverable_vector(*vmx.apic);
}

int next_interrupt_after(vcpu_vmx &vmx, int taken)
{
    if (taken == kInterruptOfPic)
        return next_interrupt(vmx);
    // What else waits in IRR is of its class at most, and that is in service now.
    return pic_asks(vmx) ? kInterruptOfPic : kNoInterrupt;
}

int take_interrupt(vcpu_vmx &vmx, int next)
{
    Lapic &apic = *vmx.apic;
    if (next == kInterruptOfPic) {
        if (vmx.kvm->irqchip != Irqchip::kSplit)
            return pic_acknowledge(*vmx.kvm);
        const int vector = apic.external_vector;
        apic.external_vector = -1;
        return vector;
    }
    const u32 vector = static_cast<u32>(next);
    clear_vector(apic, kApicIrr, apic.irr_words, vector);
    set_vector(apic, kApicIsr, apic.isr_words, vector);
    // Its class is above TPR's and above that of all in service, or it had to wait.
    set_apic_register(apic, kApicPpr, vector & 0xf0);
    return next;
}

void lapic_priority_fell(Lapic &apic)
{
    if (apic.vapic_gpa || highest_request(apic) >= 0)
        apic.attention = true;
}

void lapic_eoi(vcpu_vmx &vmx)
{
    Lapic &apic = *vmx.apic;
    const int vector = lapic_highest_in_service(apic);
    if (vector < 0)
        return; // SDM Vol. 3A, 11.8.5: nothing to end
    clear_vector(apic, kApicIsr, apic.isr_words, static_cast<u32>(vector));
    lapic_update_ppr(apic);
    lapic_priority_fell(apic);
    const bool level = test_vector(apic, kApicTmr, static_cast<u32>(vector));
    // SDM Vol. 3A, 11.8.5: software may tell the IOAPIC itself.
    if (level && apic_register(apic, kApicSvr) & kSvrDirectedEoi)
        return;
    ioapic_eoi(vmx, static_cast<u8>(vector), level);
}

u64 lapic_cr8(const Lapic &apic)
{
    return apic_register(apic, kApicTpr) >> 4 & 15;
}

void lapic_set_cr8(Lapic &apic, u64 value)
{
    set_apic_register(apic, kApicTpr, static_cast<u32>(value & 15) << 4);
    lapic_update_ppr(apic);
    lapic_priority_fell(apic);
}

void lapic_update_tpr_threshold(vcpu_vmx &vmx)
{
    Lapic &apic = *vmx.apic;
    if (!cpu_need_tpr_shadow(vmx))
        return;
    const int request = apic_mode(apic) == ApicMode::kDisabled ? -1 : highest_request(apic);
    const u32 wanted = request < 0 ? 0 : static_cast<u32>(request) >> 4;
    // Only where TPR holds it back: a threshold above TPR is refused at entry, or exits at once
    // (SDM Vol. 3C, 27.2.1.1 and 27.7.7).
    const u32 threshold = wanted > lapic_cr8(apic) ? 0 : wanted;
    if (threshold == apic.tpr_threshold)
        return;
    vmcs_write(TPR_THRESHOLD, threshold);
    apic.tpr_threshold = threshold;
}

} // namespace minivmx
