// SPDX-License-Identifier: GPL-2.0-only
// Global system interrupts (GSIs): where each of them goes. A GSI has at most one pin of each
// controller (master PIC, slave PIC, IOAPIC), or one message.
//
// The table is replaced as a whole. Interrupts are raised in any context, so readers hold
// host_rcu_read_lock() only while they copy what they need.
#pragma once

#include <minivmx.h>

#include <minivmx/irqchip.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;

inline constexpr u32 kMaxIrqRoutes = 4096; // KVM's on x86: GSIs, and entries of a table

// Who drives a line. A line is up while any of its sources holds it up.
enum class IrqSource : u8 { kUser, kResample, kPit };

// Notes that one source drives the line this way; whether it is up now.
inline bool assert_line(u8 &sources, IrqSource source, bool level)
{
    const u8 bit = static_cast<u8>(1u << static_cast<u8>(source));
    sources = static_cast<u8>(level ? sources | bit : sources & ~bit);
    return sources != 0;
}

// Makes a table of KVM_SET_GSI_ROUTING's entries the current one: -EINVAL, -ENOMEM. [sleep]
int set_irq_routing(kvm_vm &kvm, const kvm_irq_routing_entry *entries, u32 count);
// KVM's table after KVM_CREATE_IRQCHIP: GSIs 0..15 go to both controllers, 16..23 to the IOAPIC.
int set_default_irq_routing(kvm_vm &kvm);
// KVM_CAP_SPLIT_IRQCHIP: the PIC pair and the IOAPIC, with so many pins, stay in user space. The
// VM's mutex is held. -EINVAL, -EEXIST, -ENOMEM. [sleep]
int enable_split_irqchip(kvm_vm &kvm, u64 pins);
// An empty table.
int set_empty_irq_routing(kvm_vm &kvm);
void destroy_irq_routing(kvm_vm &kvm);
// Whether a pin of user space's IOAPIC sends this vector, level triggered.
bool split_ioapic_has_vector(const kvm_vm &kvm, u8 vector);

// Drives a GSI. How many vCPUs took it, over all its routes; 0: merged with one that waits; -1:
// masked, or it goes nowhere. line_status: the caller wants to know whether the guest has handled
// the last one. [any but NMI]
int set_irq(kvm_vm &kvm, IrqSource source, u32 gsi, bool level, bool line_status);

// Sends a message as a device does: KVM_SIGNAL_MSI's result. [any but NMI]
int send_msi(kvm_vm &kvm, u32 address_lo, u32 address_hi, u32 data);
InterruptMessage decode_msi(const kvm_vm &kvm, u32 address_lo, u32 address_hi, u32 data);

// A controller's pin (KVM_IRQCHIP_*, 0..23) was acknowledged, or its mask was taken off: tells
// whoever waits for its GSI. No lock is held. [any but NMI]
void irq_acked(kvm_vm &kvm, u32 chip, u32 pin);
void irq_unmasked(kvm_vm &kvm, u32 chip, u32 pin);

} // namespace minivmx
