// SPDX-License-Identifier: GPL-2.0-only
// The interval timer of a PC: Intel's datasheet 231164-005 ("8254"), three counters at ports 0x40
// to 0x43, and the part of port 0x61 that belongs to counter 2. Counter 0 raises GSI 0.
//
// Counters don't run: what they show follows from the time since they were loaded.
#pragma once

#include <minivmx.h>

#include <minivmx/host.h>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;

inline constexpr u32 kPitGsi = 0;

// Ticks of the 1.193181... MHz clock, 315/264 MHz, since the host's time began.
constexpr u64 pit_ticks(u64 ns)
{
    return ns / 88000 * 105 + ns % 88000 * 105 / 88000;
}

// The first nanosecond of a tick.
constexpr u64 pit_ns(u64 ticks)
{
    return ticks / 105 * 88000 + (ticks % 105 * 88000 + 104) / 105;
}

// One counter. Its registers are those of GET_PIT2; the rest is what follows from them in time.
struct PitCounter {
    u32 count;      // as written, 0 became 0x10000
    u32 next_count; // written while counting: taken at the end of the cycle, or by the next trigger
    u64 start;      // the tick that loaded the counting element, or let it go on
    u64 held;       // ticks counted before the gate stopped it
    u16 latched_count;
    u8 count_latched; // what of it is to be read: enum PitByte
    u8 status_latched;
    u8 status;
    u8 read_state, write_state; // the byte that is next: enum PitByte
    u8 write_latch;
    u8 rw_mode;
    u8 mode; // 0..5; others: not programmed yet
    u8 bcd;
    u8 gate;
    bool loaded;    // a count was written since the control word
    bool triggered; // modes 1 and 5: the gate rose
};

// Every function takes the present tick.
void pit_write_control(PitCounter &counter, u8 value);
void pit_write_count(PitCounter &counter, u8 byte, u64 now);
void pit_load_count(PitCounter &counter, u32 count, u64 now);
void pit_set_gate(PitCounter &counter, bool gate, u64 now);
u32 pit_value(PitCounter &counter, u64 now);
bool pit_out(PitCounter &counter, u64 now);
void pit_latch_count(PitCounter &counter, u64 now);
void pit_latch_status(PitCounter &counter, u64 now);
u8 pit_read(PitCounter &counter, u64 now);
// Ticks of one cycle: the count, converted from BCD if it is.
u32 pit_cycle(const PitCounter &counter);

struct Pit {
    kvm_vm *kvm;
    host_lock *lock; // of all below; not held while an interrupt is raised
    host_timer *timer;
    PitCounter counter[3];
    u32 flags;    // KVM_PIT_FLAGS_*
    bool speaker; // port 0x61 is ours
    // Counter 0's interrupt.
    bool armed;
    bool periodic;
    u64 next_edge; // tick
    // Reinjection: ticks that the guest missed follow when it has ended the one before.
    bool reinject;
    bool acked;
    u64 pending;
};

// flags: KVM_PIT_SPEAKER_DUMMY. -EEXIST, -ENOMEM. [sleep]
int pit_create(kvm_vm &kvm, u32 flags);
void pit_destroy(kvm_vm &kvm);

// Ports 0x40..0x43 and 0x61. False: none of them.
[[nodiscard]] bool pit_port(kvm_vm &kvm, u16 port, bool write, void *data, u32 size);

// Null until it is created, which may be while vCPUs run.
Pit *pit_of(const kvm_vm &kvm);

// The guest ended an interrupt of GSI 0, or took its mask off. [any but NMI]
void pit_irq_acked(kvm_vm &kvm);
void pit_irq_unmasked(kvm_vm &kvm);

// KVM_GET_PIT2 and its siblings.
void pit_get_state(kvm_vm &kvm, kvm_pit_state2 &state);
void pit_set_state(kvm_vm &kvm, const kvm_pit_state2 &state);
void pit_set_reinject(kvm_vm &kvm, bool reinject);

} // namespace minivmx
