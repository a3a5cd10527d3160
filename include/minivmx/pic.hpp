// SPDX-License-Identifier: GPL-2.0-only
// The pair of 8259A interrupt controllers of a PC, as Intel's datasheet 231468-003 describes them
// ("8259A"), and the edge/level control registers of the chipset ("ELCR", 82371AB, 4.2.6).
//
// Two things are simpler than in hardware, and KVM's clients count on both: an edge stays latched
// when its line goes down before it is acknowledged, and the bits of ICW1 that a PC never uses
// (single mode, level triggered mode for all) are ignored.
#pragma once

#include <minivmx.h>

#include <minivmx/host.h>
#include <minivmx/irq_routing.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

inline constexpr u32 kPicPins = 16;

struct Pic {
    host_lock *lock;       // of all below
    kvm_pic_state chip[2]; // master, slave; GET_IRQCHIP's structure is our state
    u8 sources[kPicPins];  // who holds the line up: see assert_line()
    bool output;           // the master's INT; read without the lock
};

// -ENOMEM. [sleep]
int pic_create(kvm_vm &kvm);
void pic_destroy(kvm_vm &kvm);

// A line goes up or down for one of its sources. 1: it has an effect, 0: it is merged with a
// request that waits already, -1: it is masked. [any but NMI]
int pic_set_line(kvm_vm &kvm, u32 pin, IrqSource source, bool level);

// Ports 0x20, 0x21, 0xa0, 0xa1, 0x4d0 and 0x4d1. False: none of them.
[[nodiscard]] bool pic_port(kvm_vm &kvm, u16 port, bool write, void *data, u32 size);

// KVM_GET_IRQCHIP and KVM_SET_IRQCHIP; n: 0 master, 1 slave.
void pic_get_state(kvm_vm &kvm, u32 n, kvm_pic_state &state);
void pic_set_state(kvm_vm &kvm, u32 n, const kvm_pic_state &state);

} // namespace minivmx
