// SPDX-License-Identifier: GPL-2.0-only
// The interrupt controllers in the module, as they see each other: the PIC pair, the IOAPIC and
// message-signalled interrupts send to local APICs; a local APIC tells the IOAPIC of an EOI; the
// instruction emulator and the port I/O handler offer accesses to all of them.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

// Delivery modes of an interrupt message: SDM Vol. 3A, 11.11.2 "Message Data Register Format".
enum class DeliveryMode : u8 {
    kFixed = 0,
    kLowestPriority = 1,
    kSmi = 2,
    kNmi = 4,
    kInit = 5,
    kStartup = 6,
    kExtInt = 7,
};

// Who is meant besides, or instead of, the destination: SDM Vol. 3A, 11.6.1 "Interrupt Command
// Register".
enum class Shorthand : u8 { kNone, kSelf, kAll, kAllButSelf };

struct InterruptMessage {
    u32 destination; // an APIC ID, or a logical destination; 8 bits unless the sender is an x2APIC
    u8 vector;
    DeliveryMode mode;
    Shorthand shorthand;
    bool logical;
    bool level;         // trigger mode
    bool assert_level;  // level triggered: asserted
    bool redirect_hint; // an MSI's: to the one with the lowest priority
};

// Sends it to every local APIC it is meant for; source is null unless it is an IPI. How many took
// it; 0: none whose APIC is on; -1: nobody is meant. [any but NMI]
int deliver_interrupt(kvm_vm &kvm, const vcpu_vmx *source, const InterruptMessage &message);

// LAPIC -> IOAPIC: the vCPU's EOI of this vector; level: it was level triggered (TMR). Called at
// every EOI: an edge-triggered vector that no pin has costs a bit test. The caller holds no lock
// that deliver_interrupt() takes. [sleep or atomic, not NMI]
void ioapic_eoi(vcpu_vmx &vmx, u8 vector, bool level);
// Whether that does anything for this vector: an IOAPIC's pin has it. [any but NMI]
bool ioapic_waits_for_eoi(const kvm_vm &kvm, u8 vector, bool level);
// PIC -> LAPIC: the PIC pair's output changed. Whoever accepts it (LVT0 in ExtINT mode) looks
// again. [any but NMI]
void pic_output_changed(kvm_vm &kvm);
// PIT -> LAPICs: its tick reaches each processor whose LINT0 takes it for an NMI, which makes it a
// watchdog. [any but NMI]
void pit_ticks_as_nmi(kvm_vm &kvm);
// LAPIC -> PIC: whether the pair asks for an interrupt, and the acknowledge cycle that gives its
// vector. [any but NMI]
bool pic_output(const kvm_vm &kvm);
u8 pic_acknowledge(kvm_vm &kvm);

// An access that a device in the module may answer: a local APIC's page, the IOAPIC, PIC and PIT
// ports, ioeventfds, coalesced ranges. size is 1..8; data holds what is written or takes what is
// read. False: it is user space's. [sleep]
[[nodiscard]] bool kernel_mmio(vcpu_vmx &vmx, u64 gpa, bool write, void *data, u32 size);
[[nodiscard]] bool kernel_pio(vcpu_vmx &vmx, u16 port, bool write, void *data, u32 size);
// Writes to ports that some ioeventfd waits for: kernel_pio() without sleep. False: nothing was
// done. [any but NMI]
[[nodiscard]] bool signal_by_pio(vcpu_vmx &vmx, u16 port, void *data, u32 size);
// LAPIC: the part of kernel_mmio() that is this vCPU's APIC page. False: not its address. If the
// APIC is off or in x2APIC mode the page reads as ones and ignores writes, as KVM's does.
[[nodiscard]] bool lapic_mmio(vcpu_vmx &vmx, u64 gpa, bool write, void *data, u32 size);

} // namespace minivmx
