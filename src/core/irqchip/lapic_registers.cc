// SPDX-License-Identifier: GPL-2.0-only
// The local APIC's registers as the guest reads and writes them, through the page (SDM Vol. 3A,
// 11.4.1) and as MSRs (11.12.1).
#include "lapic_detail.hpp"

#include <minivmx/state.hpp>

namespace minivmx {

namespace {

constexpr u32 kFirstX2apicMsr = 0x800, kLastX2apicMsr = 0x8ff;

bool is_lvt(u32 offset)
{
    return offset >= kApicLvtTimer && offset <= kApicLvtError;
}

// The bits of a local vector table entry that are there at all: SDM Vol. 3A, 11.5.1, figure 11-8.
u32 lvt_bits(const vcpu_vmx &vmx, u32 lvt)
{
    constexpr u32 kAll = kLvtVector | kLvtPending | kLvtMasked;
    switch (lvt) {
    case kApicLvtTimer:
        return kAll | kLvtPeriodic |
               (vmx.cpuid.has(CpuidFeature::kTscDeadline) ? kLvtTscDeadline : 0);
    case kApicLvtLint0:
    case kApicLvtLint1:
        return kAll | kLvtDelivery | kLvtPolarity | kLvtRemoteIrr | kLvtLevel;
    case kApicLvtError:
        return kAll;
    default:
        return kAll | kLvtDelivery;
    }
}

u32 svr_bits(const Lapic &apic)
{
    return kSvrBits |
           (apic_register(apic, kApicVersion) & kVersionDirectedEoi ? kSvrDirectedEoi : 0);
}

constexpr bool in_bitmaps(u32 offset)
{
    return offset >= kApicIsr && offset < kApicEsr;
}

// Registers that can be read in either mode; some others only in the page.
bool is_readable(u32 offset, bool x2apic)
{
    if (in_bitmaps(offset) || is_lvt(offset))
        return true;
    switch (offset) {
    case kApicId:
    case kApicVersion:
    case kApicTpr:
    case kApicPpr:
    case kApicLdr:
    case kApicSvr:
    case kApicEsr:
    case kApicIcr:
    case kApicInitialCount:
    case kApicCurrentCount:
    case kApicDivide:
        return true;
    case kApicApr:
    case kApicDfr:
    case kApicIcrHigh:
        return !x2apic;
    default:
        return false;
    }
}

void note_tpr_access(Lapic &apic, bool write)
{
    if (!apic.report_tpr)
        return;
    apic.tpr_accessed = true;
    apic.tpr_written = write;
    apic.tpr_rip = read_rip(*apic.vcpu);
}

u32 read_register(Lapic &apic, u32 offset)
{
    switch (offset) {
    case kApicTpr:
        note_tpr_access(apic, false);
        return apic_register(apic, kApicTpr);
    case kApicPpr:
        return lapic_update_ppr(apic);
    case kApicCurrentCount:
        return lapic_current_count(apic);
    default:
        if (in_bitmaps(offset))
            (void)lapic_highest_request(apic); // IRR is complete
        return apic_register(apic, offset);
    }
}

// SDM Vol. 3A, 11.6.1, figure 11-12, and 11.12.9, figure 11-28.
void send_ipi(vcpu_vmx &vmx, u32 low, u32 destination)
{
    const auto mode = static_cast<DeliveryMode>(low >> 8 & 7);
    const bool init = mode == DeliveryMode::kInit;
    const InterruptMessage message = {
        .destination = destination,
        .vector = static_cast<u8>(low),
        .mode = mode,
        .shorthand = static_cast<Shorthand>(low >> 18 & 3),
        .logical = (low & bit32(11)) != 0,
        // Only the INIT level de-assert has a trigger mode; everything else is an edge.
        .level = init && (low & bit32(15)) != 0,
        .assert_level = (low & bit32(14)) != 0,
        .redirect_hint = false,
    };
    const bool has_vector = mode == DeliveryMode::kFixed || mode == DeliveryMode::kLowestPriority;
    if (has_vector && message.vector < kFirstLegalVector) {
        log_apic_error(*vmx.apic, kErrorSendIllegalVector, false);
        return;
    }
    (void)deliver_interrupt(*vmx.kvm, &vmx, message);
}

void write_svr(Lapic &apic, u32 value)
{
    set_apic_register(apic, kApicSvr, value & svr_bits(apic));
    apic.attention = true;
    if (value & kSvrEnabled)
        return;
    // SDM Vol. 3A, 11.4.7.2: a disabled APIC's local vectors are masked and stay so.
    for (u32 lvt = kApicLvtTimer; lvt <= kApicLvtError; lvt += 16)
        set_apic_register(apic, lvt, apic_register(apic, lvt) | kLvtMasked);
}

void write_lvt(vcpu_vmx &vmx, u32 lvt, u32 value)
{
    Lapic &apic = *vmx.apic;
    constexpr u32 kReadOnly = kLvtPending | kLvtRemoteIrr;
    value &= lvt_bits(vmx, lvt) & ~kReadOnly;
    if (!software_enabled(apic))
        value |= kLvtMasked;
    set_apic_register(apic, lvt, value);
    apic.attention = true; // the PIC may come through LINT0 now
    if (lvt == kApicLvtTimer)
        lapic_timer_lvt_changed(apic);
}

void write_initial_count(Lapic &apic, u32 value)
{
    if (apic.timer_mode == ApicTimerMode::kTscDeadline)
        return; // SDM Vol. 3A, 11.5.4.1
    lapic_timer_stop(apic);
    set_apic_register(apic, kApicInitialCount, value);
    lapic_timer_start(apic);
}

// What both ways have in common. The value holds no reserved bit.
void write_register(vcpu_vmx &vmx, u32 offset, u32 value)
{
    Lapic &apic = *vmx.apic;
    if (is_lvt(offset)) {
        write_lvt(vmx, offset, value);
        return;
    }
    switch (offset) {
    case kApicTpr:
        note_tpr_access(apic, true);
        set_apic_register(apic, kApicTpr, value & 0xff);
        lapic_update_ppr(apic);
        lapic_priority_fell(apic);
        break;
    case kApicEoi:
        lapic_eoi(vmx);
        break;
    case kApicSvr:
        write_svr(apic, value);
        break;
    case kApicEsr:
        // SDM Vol. 3A, 11.5.3: a write shows the errors since the last one.
        set_apic_register(apic, kApicEsr, __atomic_exchange_n(&apic.errors, 0, __ATOMIC_RELAXED));
        break;
    case kApicInitialCount:
        write_initial_count(apic, value);
        break;
    case kApicDivide:
        set_apic_register(apic, kApicDivide, value & 0xb);
        lapic_timer_divide_changed(apic);
        break;
    default:
        break;
    }
}

// Registers that only the page has, or that are laid out otherwise there.
void write_page_register(vcpu_vmx &vmx, u32 offset, u32 value)
{
    Lapic &apic = *vmx.apic;
    constexpr u32 kIcrPending = bit32(12), kHighByte = 0xff000000;
    switch (offset) {
    case kApicId:
        set_apic_register(apic, kApicId, value & kHighByte);
        break;
    case kApicLdr:
        set_apic_register(apic, kApicLdr, value & kHighByte);
        break;
    case kApicDfr:
        set_apic_register(apic, kApicDfr, value | 0x0fffffff);
        break;
    case kApicIcrHigh:
        set_apic_register(apic, kApicIcrHigh, value & kHighByte);
        break;
    case kApicIcr:
        set_apic_register(apic, kApicIcr, value & ~kIcrPending);
        send_ipi(vmx, value, apic_register(apic, kApicIcrHigh) >> 24);
        break;
    default:
        write_register(vmx, offset, value);
    }
}

// The bits that WRMSR may set, besides those that are read-only and ignored: SDM Vol. 3A,
// 11.12.1.2, table 11-6. False: no such register, or it can't be written.
bool x2apic_writable_bits(const vcpu_vmx &vmx, u32 offset, u64 &bits)
{
    if (is_lvt(offset)) {
        bits = lvt_bits(vmx, offset);
        return true;
    }
    switch (offset) {
    case kApicTpr:
    case kApicSelfIpi:
        bits = 0xff;
        return true;
    case kApicEoi:
    case kApicEsr:
        bits = 0;
        return true;
    case kApicSvr:
        bits = svr_bits(*vmx.apic);
        return true;
    case kApicIcr: // but for bits 31:20, 17:16 and 13; 12 was the delivery status
        bits = 0xffffffff000cdfff;
        return true;
    case kApicInitialCount:
        bits = 0xffffffff;
        return true;
    case kApicDivide:
        bits = 0xb;
        return true;
    default:
        return false;
    }
}

u64 load_bytes(const void *data, u32 size)
{
    u64 value = 0;
    __builtin_memcpy(&value, data, size);
    return value;
}

void read_page(Lapic &apic, u32 offset, void *data, u32 size)
{
    const u32 reg = offset & ~15u, within = offset & 15;
    u32 value = 0;
    if (within + size <= 4 && is_readable(reg, false))
        value = read_register(apic, reg);
    __builtin_memset(data, 0, size);
    value >>= 8 * (within & 3);
    __builtin_memcpy(data, &value, size < 4 ? size : 4);
}

} // namespace

bool lapic_mmio(vcpu_vmx &vmx, u64 gpa, bool write, void *data, u32 size)
{
    constexpr u64 kBaseFlags = kPageSize - 1;
    Lapic *apic = vmx.apic;
    if (!apic || (gpa ^ vmx.apic_base) & ~kBaseFlags)
        return false;
    const u32 offset = static_cast<u32>(gpa & kBaseFlags);
    if (apic_mode(*apic) != ApicMode::kXapic) {
        if (!write)
            __builtin_memset(data, 0xff, size);
        return true;
    }
    if (!write)
        read_page(*apic, offset, data, size);
    else if (size == 4 && offset % 16 == 0) // SDM Vol. 3A, 11.4.1: others are undefined
        write_page_register(vmx, offset, static_cast<u32>(load_bytes(data, 4)));
    return true;
}

bool lapic_read_msr(vcpu_vmx &vmx, u32 index, u64 &value)
{
    Lapic *apic = vmx.apic;
    if (!apic || apic_mode(*apic) != ApicMode::kX2apic || index < kFirstX2apicMsr ||
        index > kLastX2apicMsr)
        return false;
    const u32 offset = (index - kFirstX2apicMsr) * 16;
    if (!is_readable(offset, true))
        return false;
    value = read_register(*apic, offset);
    if (offset == kApicIcr)
        value |= u64{apic_register(*apic, kApicIcrHigh)} << 32;
    return true;
}

bool lapic_writes_msr_at_once(const vcpu_vmx &vmx, u32 index, u64 value)
{
    constexpr u32 kEoiMsr = kFirstX2apicMsr + kApicEoi / 16;
    constexpr u32 kIcrMsr = kFirstX2apicMsr + kApicIcr / 16;
    constexpr u64 kBroadcast = 0xffffffff;
    if (index == kEoiMsr && vmx.apic) {
        const int vector = lapic_highest_in_service(*vmx.apic);
        return vector < 0 ||
               !ioapic_waits_for_eoi(*vmx.kvm, static_cast<u8>(vector),
                                     test_vector(*vmx.apic, kApicTmr, static_cast<u32>(vector)));
    }
    if (index != kIcrMsr)
        return true;
    const auto mode = static_cast<DeliveryMode>(value >> 8 & 7);
    const auto shorthand = static_cast<Shorthand>(value >> 18 & 3);
    return mode == DeliveryMode::kFixed &&
           (shorthand == Shorthand::kSelf ||
            (shorthand == Shorthand::kNone && value >> 32 != kBroadcast));
}

bool lapic_write_msr(vcpu_vmx &vmx, u32 index, u64 value)
{
    Lapic *apic = vmx.apic;
    if (!apic || apic_mode(*apic) != ApicMode::kX2apic || index < kFirstX2apicMsr ||
        index > kLastX2apicMsr)
        return false;
    const u32 offset = (index - kFirstX2apicMsr) * 16;
    u64 writable;
    if (!x2apic_writable_bits(vmx, offset, writable) || value & ~writable)
        return false;

    const u32 low = static_cast<u32>(value), high = static_cast<u32>(value >> 32);
    if (offset == kApicIcr) {
        constexpr u32 kIcrPending = bit32(12);
        set_apic_register(*apic, kApicIcr, low & ~kIcrPending);
        set_apic_register(*apic, kApicIcrHigh, high);
        send_ipi(vmx, low, high);
    } else if (offset == kApicSelfIpi) {
        constexpr u32 kToSelf = static_cast<u32>(Shorthand::kSelf) << 18;
        send_ipi(vmx, low | kToSelf, 0);
    } else {
        write_register(vmx, offset, low);
    }
    return true;
}

} // namespace minivmx
