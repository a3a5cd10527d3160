// SPDX-License-Identifier: GPL-2.0-only
// The I/O APIC: Intel's datasheet 290566-001 ("82093AA"), version 0x11, 24 pins.
#pragma once

#include <minivmx.h>

#include <minivmx/host.h>
#include <minivmx/irq_routing.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

inline constexpr u32 kIoapicPins = 24;
inline constexpr u64 kIoapicBase = 0xfec00000;
inline constexpr u64 kIoapicSize = 0x100;

// Bits of a redirection table entry: 82093AA, 3.2.4.
inline constexpr u64 kRedirectVector = 0xff;
inline constexpr u64 kRedirectLogical = u64{1} << 11;
inline constexpr u64 kRedirectStatus = u64{1} << 12;
inline constexpr u64 kRedirectRemoteIrr = u64{1} << 14;
inline constexpr u64 kRedirectLevel = u64{1} << 15;
inline constexpr u64 kRedirectMasked = u64{1} << 16;

struct Ioapic {
    kvm_vm *kvm;
    host_lock *lock; // of all below
    host_timer *storm_timer;
    u64 base_address; // what SET_IRQCHIP says; accesses elsewhere are user space's
    u32 select;       // IOREGSEL
    u32 id;
    u32 irr;           // lines that are up
    u32 irr_delivered; // edges of these that were sent
    u64 redirect[kIoapicPins];
    u8 sources[kIoapicPins];
    u32 successive_eois[kIoapicPins];
    // How many vCPUs have not ended the last interrupt of pin 8, and its vector: a clock's ticks
    // must not merge unnoticed.
    int rtc_waiting;
    u8 rtc_vector;
    u64 edge_vectors[4]; // vectors of edge-triggered pins; read without the lock
};

// -ENOMEM. [sleep]
int ioapic_create(kvm_vm &kvm);
void ioapic_destroy(kvm_vm &kvm);
void ioapic_stop_timer(kvm_vm &kvm); // for good

// See pic_set_line() and set_irq(). [any but NMI]
int ioapic_set_line(kvm_vm &kvm, u32 pin, IrqSource source, bool level, bool line_status);

// False: not its address.
[[nodiscard]] bool ioapic_mmio(kvm_vm &kvm, u64 gpa, bool write, void *data, u32 size);

// KVM_GET_IRQCHIP and KVM_SET_IRQCHIP.
void ioapic_get_state(kvm_vm &kvm, kvm_ioapic_state &state);
void ioapic_set_state(kvm_vm &kvm, const kvm_ioapic_state &state);

} // namespace minivmx
