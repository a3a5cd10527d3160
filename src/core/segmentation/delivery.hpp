// SPDX-License-Identifier: GPL-2.0-only
// What the modes' ways to deliver an event share.
#pragma once

#include <minivmx/event_delivery.hpp>
#include <minivmx/exit.hpp>

#include "stack.hpp"

namespace minivmx {

struct EventDelivery : SystemAccess {
    const GuestEvent &event;
    u64 return_rip;

    EventDelivery(vcpu_vmx &v, const GuestEvent &e);

    // Of the program's own making, by INT n, INT3 or INTO: gates check the privilege of these, and
    // error codes don't have EXT. SDM Vol. 3A, 6.12.1.2 and 6.13.
    bool by_instruction() const
    {
        return event.type == INTR_TYPE_SOFT_INTR || event.type == INTR_TYPE_SOFT_EXCEPTION;
    }
};

// Each mode's way: false leaves everything as it was, and the reason in s. [sleep]
[[nodiscard]] bool deliver_in_real_mode(EventDelivery &s);
[[nodiscard]] bool deliver_in_protected_mode(EventDelivery &s);

// INT n in virtual-8086 mode that stays there, through the table at linear address 0: SDM Vol.
// 3B, 21.3.3.4, methods 5 and 6. [sleep]
Delivered deliver_redirected(vcpu_vmx &vmx, const GuestEvent &event);

// RFLAGS without what user space's single-stepping has set, and back with it.
u64 program_flags(vcpu_vmx &vmx);
void write_program_flags(vcpu_vmx &vmx, u64 flags);

} // namespace minivmx
