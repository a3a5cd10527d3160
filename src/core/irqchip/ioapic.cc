// SPDX-License-Identifier: GPL-2.0-only
// The I/O APIC. Section numbers are those of Intel's datasheet 290566-001 (82093AA).
#include <minivmx/host_guard.hpp>
#include <minivmx/ioapic.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

constexpr u32 kRtcPin = 8;

// Indices of registers behind IOREGSEL (3.2) and their place in the register window.
enum : u32 { kIoapicId = 0, kIoapicVersion = 1, kIoapicArbitration = 2, kIoapicRedirect = 0x10 };
enum : u64 { kSelectOffset = 0x00, kWindowOffset = 0x10 };

// ---- Delivery ---------------------------------------------------------------

// 3.4.2: a masked pin, or a level-triggered one whose interrupt nobody has ended yet, sends
// nothing.
bool ioapic_may_send(u64 entry)
{
    return !(entry & kRedirectMasked) &&
           !((entry & kRedirectLevel) && (entry & kRedirectRemoteIrr));
}

InterruptMessage ioapic_message(u64 entry)
{
    return {
        .destination = static_cast<u32>(entry >> 56),
        .vector = static_cast<u8>(entry & kRedirectVector),
        .mode = static_cast<DeliveryMode>(entry >> 8 & 7),
        .shorthand = Shorthand::kNone,
        .logical = (entry & kRedirectLogical) != 0,
        .level = (entry & kRedirectLevel) != 0,
        .assert_level = true,
        .redirect_hint = false,
    };
}

int ioapic_send(Ioapic &ioapic, u32 pin, bool line_status)
{
    u64 &entry = ioapic.redirect[pin];
    if (!ioapic_may_send(entry))
        return -1;
    const bool level = entry & kRedirectLevel;
    if (!level)
        ioapic.irr_delivered |= bit32(pin);
    const int result = deliver_interrupt(*ioapic.kvm, nullptr, ioapic_message(entry));
    if (level && result > 0)
        entry |= kRedirectRemoteIrr;
    if (pin == kRtcPin && line_status) {
        ioapic.rtc_waiting = result > 0 ? result : 0;
        ioapic.rtc_vector = static_cast<u8>(entry & kRedirectVector);
    }
    return result;
}

int ioapic_set_pin(Ioapic &ioapic, u32 pin, bool level, bool line_status)
{
    const u32 bit = bit32(pin);
    const bool edge_triggered = !(ioapic.redirect[pin] & kRedirectLevel);
    if (!level) {
        ioapic.irr &= ~bit;
        return 1;
    }
    if (pin == kRtcPin && line_status && ioapic.rtc_waiting > 0)
        return 0;
    const bool was_up = ioapic.irr & bit;
    ioapic.irr |= bit;
    if (edge_triggered) {
        ioapic.irr_delivered &= ~bit;
        if (was_up)
            return 0;
    }
    return ioapic_send(ioapic, pin, line_status);
}

// A level-triggered line that is still up asks again.
void ioapic_send_again(Ioapic &ioapic, u32 pin)
{
    if ((ioapic.redirect[pin] & kRedirectLevel) && (ioapic.irr & bit32(pin)))
        ioapic_send(ioapic, pin, false);
}

// ---- Ends of interrupts -----------------------------------------------------

bool ioapic_has_edge_vector(const Ioapic &ioapic, u8 vector)
{
    const u64 word = __atomic_load_n(&ioapic.edge_vectors[vector / 64], __ATOMIC_RELAXED);
    return word & bit64(vector % 64);
}

void ioapic_note_edge_vectors(Ioapic &ioapic)
{
    u64 vectors[4] = {};
    for (u64 entry : ioapic.redirect)
        if (!(entry & kRedirectLevel))
            vectors[(entry & kRedirectVector) / 64] |= bit64(entry & 63);
    // An interrupt of the RTC that is to be ended may have had the vector from before: a guest
    // moves it to another CPU while it serves it.
    if (ioapic.rtc_waiting > 0)
        vectors[ioapic.rtc_vector / 64] |= bit64(ioapic.rtc_vector % 64);
    for (u32 i = 0; i < 4; i++)
        __atomic_store_n(&ioapic.edge_vectors[i], vectors[i], __ATOMIC_RELAXED);
}

u32 ioapic_pins_of_vector(Ioapic &ioapic, u8 vector)
{
    HostLockGuard guard{ioapic.lock};
    if (ioapic.rtc_waiting > 0 && ioapic.rtc_vector == vector)
        ioapic.rtc_waiting--;
    u32 pins = 0;
    for (u32 pin = 0; pin < kIoapicPins; pin++)
        if ((ioapic.redirect[pin] & kRedirectVector) == vector)
            pins |= bit32(pin);
    return pins;
}

// 3.4.2, "Remote IRR". A guest that ends an interrupt without serving its device would get the next
// one at once and never do anything else; after this many it gets time to breathe, as it does from
// hardware.
void ioapic_end_level(Ioapic &ioapic, u32 pin)
{
    constexpr u32 kStorm = 10000;
    constexpr u64 kStormPauseNs = 10000000;
    u64 &entry = ioapic.redirect[pin];
    if (!(entry & kRedirectLevel))
        return;
    entry &= ~kRedirectRemoteIrr;
    if ((entry & kRedirectMasked) || !(ioapic.irr & bit32(pin))) {
        ioapic.successive_eois[pin] = 0;
        return;
    }
    if (++ioapic.successive_eois[pin] < kStorm) {
        ioapic_send(ioapic, pin, false);
        return;
    }
    ioapic.successive_eois[pin] = 0;
    host_timer_start(ioapic.storm_timer, host_time_ns() + kStormPauseNs);
}

void ioapic_storm_over(void *arg)
{
    Ioapic &ioapic = *static_cast<Ioapic *>(arg);
    HostLockGuard guard{ioapic.lock};
    for (u32 pin = 0; pin < kIoapicPins; pin++)
        ioapic_send_again(ioapic, pin);
}

// ---- Registers --------------------------------------------------------------

u32 ioapic_read_register(const Ioapic &ioapic)
{
    switch (ioapic.select) {
    case kIoapicVersion:
        return (kIoapicPins - 1) << 16 | 0x11;
    case kIoapicId:
    case kIoapicArbitration:
        return (ioapic.id & 0xf) << 24;
    default:
        break;
    }
    const u32 pin = (ioapic.select - kIoapicRedirect) >> 1;
    if (pin >= kIoapicPins)
        return ~u32{0};
    return static_cast<u32>(ioapic.redirect[pin] >> (ioapic.select & 1 ? 32 : 0));
}

// 3.2.4. Whether the pin's mask was taken off.
bool ioapic_write_redirect(Ioapic &ioapic, u32 pin, bool high, u32 value)
{
    constexpr u64 kReadOnly = kRedirectRemoteIrr | kRedirectStatus;
    u64 &entry = ioapic.redirect[pin];
    const u64 before = entry;
    if (high)
        entry = (entry & 0xffffffff) | u64{value} << 32;
    else
        entry = (entry & ~u64{0xffffffff}) | value;
    entry = (entry & ~kReadOnly) | (before & kReadOnly);
    // Systems without an EOI register end a stuck interrupt by making its pin edge triggered for a
    // moment.
    if (!(entry & kRedirectLevel))
        entry &= ~kRedirectRemoteIrr;
    ioapic_note_edge_vectors(ioapic);
    ioapic_send_again(ioapic, pin);
    return (before & kRedirectMasked) && !(entry & kRedirectMasked);
}

// The pin whose mask was taken off, or kIoapicPins.
u32 ioapic_write_register(Ioapic &ioapic, u32 value)
{
    if (ioapic.select == kIoapicId)
        ioapic.id = value >> 24 & 0xf;
    const u32 pin = (ioapic.select - kIoapicRedirect) >> 1;
    if (ioapic.select < kIoapicRedirect || pin >= kIoapicPins)
        return kIoapicPins;
    return ioapic_write_redirect(ioapic, pin, ioapic.select & 1, value) ? pin : kIoapicPins;
}

u32 ioapic_read(Ioapic &ioapic, u64 offset)
{
    HostLockGuard guard{ioapic.lock};
    if (offset == kSelectOffset)
        return ioapic.select;
    return offset == kWindowOffset ? ioapic_read_register(ioapic) : 0;
}

void ioapic_write(Ioapic &ioapic, u64 offset, u32 value)
{
    u32 unmasked = kIoapicPins;
    {
        HostLockGuard guard{ioapic.lock};
        if (offset == kSelectOffset)
            ioapic.select = value & 0xff;
        else if (offset == kWindowOffset)
            unmasked = ioapic_write_register(ioapic, value);
    }
    if (unmasked < kIoapicPins)
        irq_unmasked(*ioapic.kvm, KVM_IRQCHIP_IOAPIC, unmasked);
}

} // namespace

bool ioapic_mmio(kvm_vm &kvm, u64 gpa, bool write, void *data, u32 size)
{
    if (gpa - kIoapicBase >= kIoapicSize || gpa - kIoapicBase + size > kIoapicSize)
        return false;
    Ioapic &ioapic = *kvm.ioapic;
    const u64 offset = gpa - __atomic_load_n(&ioapic.base_address, __ATOMIC_RELAXED);
    if (offset >= kIoapicSize)
        return false;
    const bool good_size = size == 1 || size == 2 || size == 4 || size == 8;
    u32 value = 0;
    if (write) {
        if (!good_size)
            return true;
        __builtin_memcpy(&value, data, size < 4 ? size : 4);
        ioapic_write(ioapic, offset, value);
        return true;
    }
    __builtin_memset(data, 0, size);
    if (!good_size)
        return true;
    value = ioapic_read(ioapic, offset);
    __builtin_memcpy(data, &value, size < 4 ? size : 4);
    return true;
}

int ioapic_set_line(kvm_vm &kvm, u32 pin, IrqSource source, bool level, bool line_status)
{
    Ioapic &ioapic = *kvm.ioapic;
    HostLockGuard guard{ioapic.lock};
    const bool up = assert_line(ioapic.sources[pin], source, level);
    return ioapic_set_pin(ioapic, pin, up, line_status);
}

// Whoever waits for the pin's end hears of it before the pin may ask again: it may take the line
// down.
bool ioapic_waits_for_eoi(const kvm_vm &kvm, u8 vector, bool level)
{
    if (irqchip_of(kvm) != Irqchip::kKernel)
        return level;
    return level || ioapic_has_edge_vector(*kvm.ioapic, vector);
}

void ioapic_eoi(vcpu_vmx &vmx, u8 vector, bool level)
{
    kvm_vm &kvm = *vmx.kvm;
    if (irqchip_of(kvm) == Irqchip::kSplit && level && split_ioapic_has_vector(kvm, vector)) {
        vmx.ioapic_eoi_pending = true;
        vmx.ioapic_eoi_vector = vector;
    }
    if (irqchip_of(kvm) != Irqchip::kKernel)
        return;
    Ioapic &ioapic = *kvm.ioapic;
    if (!level && !ioapic_has_edge_vector(ioapic, vector))
        return;
    const u32 pins = ioapic_pins_of_vector(ioapic, vector);
    for (u32 left = pins; left != 0; left &= left - 1)
        irq_acked(kvm, KVM_IRQCHIP_IOAPIC, lowest_bit(left));
    if (!level || pins == 0)
        return;
    HostLockGuard guard{ioapic.lock};
    for (u32 left = pins; left != 0; left &= left - 1)
        ioapic_end_level(ioapic, lowest_bit(left));
}

void ioapic_get_state(kvm_vm &kvm, kvm_ioapic_state &state)
{
    Ioapic &ioapic = *kvm.ioapic;
    HostLockGuard guard{ioapic.lock};
    state.base_address = ioapic.base_address;
    state.ioregsel = ioapic.select;
    state.id = ioapic.id;
    state.irr = ioapic.irr & ~ioapic.irr_delivered;
    state.pad = 0;
    for (u32 pin = 0; pin < kIoapicPins; pin++)
        state.redirtbl[pin].bits = ioapic.redirect[pin];
}

void ioapic_set_state(kvm_vm &kvm, const kvm_ioapic_state &state)
{
    Ioapic &ioapic = *kvm.ioapic;
    HostLockGuard guard{ioapic.lock};
    __atomic_store_n(&ioapic.base_address, state.base_address, __ATOMIC_RELAXED);
    ioapic.select = state.ioregsel;
    ioapic.id = state.id;
    ioapic.irr = 0;
    ioapic.irr_delivered = 0;
    ioapic.rtc_waiting = 0;
    for (u32 pin = 0; pin < kIoapicPins; pin++)
        ioapic.redirect[pin] = state.redirtbl[pin].bits;
    ioapic_note_edge_vectors(ioapic);
    for (u32 pin = 0; pin < kIoapicPins; pin++)
        if (state.irr & bit32(pin))
            ioapic_set_pin(ioapic, pin, true, true);
}

int ioapic_create(kvm_vm &kvm)
{
    Ioapic *ioapic = static_cast<Ioapic *>(host_zalloc(sizeof(Ioapic)));
    if (!ioapic)
        return -ENOMEM;
    ioapic->kvm = &kvm;
    ioapic->base_address = kIoapicBase;
    for (u64 &entry : ioapic->redirect)
        entry = kRedirectMasked;
    ioapic_note_edge_vectors(*ioapic);
    kvm.ioapic = ioapic;
    ioapic->lock = host_lock_create();
    ioapic->storm_timer = host_timer_create(ioapic_storm_over, ioapic);
    if (ioapic->lock && ioapic->storm_timer)
        return 0;
    ioapic_destroy(kvm);
    return -ENOMEM;
}

void ioapic_stop_timer(kvm_vm &kvm)
{
    Ioapic *ioapic = kvm.ioapic;
    if (!ioapic || !ioapic->storm_timer)
        return;
    host_timer_destroy(ioapic->storm_timer);
    ioapic->storm_timer = nullptr;
}

void ioapic_destroy(kvm_vm &kvm)
{
    Ioapic *ioapic = kvm.ioapic;
    if (!ioapic)
        return;
    ioapic_stop_timer(kvm);
    if (ioapic->lock)
        host_lock_destroy(ioapic->lock);
    host_free(ioapic);
    kvm.ioapic = nullptr;
}

} // namespace minivmx
