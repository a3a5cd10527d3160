// SPDX-License-Identifier: GPL-2.0-only
// Exceptions, interrupts and NMIs delivered by software, where VM entry can't: into real mode that
// virtual-8086 mode stands in for, and into states that VM entry refuses. SDM Vol. 3A, chapter 6,
// and Vol. 2A, INT n.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

struct GuestEvent {
    u32 type; // INTR_TYPE_*
    u8 vector;
    bool has_error_code;
    u32 error_code;
    u32 instruction_length; // of a software interrupt or exception: it returns behind it
};

enum class Delivered : u8 {
    kYes,       // the guest is at its handler
    kFaulted,   // an exception of the delivery is queued, by the rules of double faults
    kNotMemory, // a table or the stack isn't in memory; nothing has happened to the vCPU
};

// Into whatever mode the guest is in. vmx.exception holds the event meanwhile, if it is an
// exception, and no longer when it is delivered; what an interrupt or an NMI comes from is the
// caller's. [sleep]
Delivered deliver_event(vcpu_vmx &vmx, const GuestEvent &event);

} // namespace minivmx
