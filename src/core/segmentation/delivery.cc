// SPDX-License-Identifier: GPL-2.0-only
#include "delivery.hpp"

#include <minivmx/run.hpp>

namespace minivmx {

namespace {

bool returns_behind_itself(u32 type)
{
    return type == INTR_TYPE_SOFT_INTR || type == INTR_TYPE_SOFT_EXCEPTION ||
           type == INTR_TYPE_PRIV_SW_EXCEPTION;
}

} // namespace

EventDelivery::EventDelivery(vcpu_vmx &v, const GuestEvent &e)
    : SystemAccess{v}, event{e}, return_rip{read_rip(v)}
{
    if (returns_behind_itself(e.type))
        return_rip += e.instruction_length;
    external = !by_instruction();
}

u64 program_flags(vcpu_vmx &vmx)
{
    const u64 flags = read_rflags(vmx);
    return single_steps(vmx) ? flags & ~X86_EFLAGS_TF : flags;
}

void write_program_flags(vcpu_vmx &vmx, u64 flags)
{
    write_rflags(vmx, single_steps(vmx) ? flags | X86_EFLAGS_TF : flags);
}

// ---- Real mode --------------------------------------------------------------

namespace {

constexpr u32 kVectorSize = 4; // IP and CS

// SDM Vol. 2A, INT n, REAL-ADDRESS-MODE; Vol. 3B, 21.1.4. The flags as they are pushed, and what
// becomes of them.
bool deliver_by_vector(EventDelivery &s, u64 table, u64 pushed, u64 flags)
{
    constexpr u32 kWord = 2;
    struct {
        u16 ip, cs;
    } vector;
    StackFrame frame{current_stack(s.vmx), kWord};
    if (!read_system(s, advance_linear(s.state, table, s.event.vector * kVectorSize), &vector,
                     sizeof(vector)) ||
        !push(s, frame, pushed) || !push(s, frame, segment_selector(s.vmx, kCs)) ||
        !push(s, frame, s.return_rip) || !write_frame(s, frame))
        return false;
    s.vmx.exception.pending = false;
    write_rsp(s.vmx, frame.stack.rsp);
    load_real_mode_segment(s.vmx, kCs, vector.cs);
    write_rip(s.vmx, vector.ip);
    write_program_flags(s.vmx, flags & ~(X86_EFLAGS_TF | X86_EFLAGS_RF));
    return true;
}

} // namespace

bool deliver_in_real_mode(EventDelivery &s)
{
    const u64 flags = program_flags(s.vmx);
    if ((s.event.vector + 1u) * kVectorSize - 1 > vmcs_read(GUEST_IDTR_LIMIT))
        return refuse(s, GP_VECTOR, 0);
    return deliver_by_vector(s, vmcs_read(GUEST_IDTR_BASE), flags,
                             flags & ~(X86_EFLAGS_IF | X86_EFLAGS_AC));
}

// ---- Any mode ---------------------------------------------------------------

namespace {

Delivered conclude_delivery(EventDelivery &s, bool done)
{
    if (done) {
        set_interrupt_shadow_off(s.vmx);
        if (s.event.type == INTR_TYPE_NMI)
            set_nmis_masked(s.vmx, true);
        return Delivered::kYes;
    }
    if (s.not_memory)
        return Delivered::kNotMemory;
    inject_fault(s.vmx, s.fault);
    return Delivered::kFaulted;
}

} // namespace

Delivered deliver_event(vcpu_vmx &vmx, const GuestEvent &event)
{
    EventDelivery s{vmx, event};
    vmx.area->flush_l1d = 1;
    return conclude_delivery(s, is_protmode(vmx) ? deliver_in_protected_mode(s)
                                                 : deliver_in_real_mode(s));
}

Delivered deliver_redirected(vcpu_vmx &vmx, const GuestEvent &event)
{
    EventDelivery s{vmx, event};
    const u64 flags = program_flags(vmx);
    const bool iopl3 = (flags & X86_EFLAGS_IOPL) == X86_EFLAGS_IOPL;
    u64 pushed = flags;
    if (!iopl3) { // the program sees VIF in the place of IF
        pushed = (flags & ~X86_EFLAGS_IF) | X86_EFLAGS_IOPL;
        pushed |= flags & X86_EFLAGS_VIF ? X86_EFLAGS_IF : 0;
    }
    return conclude_delivery(
        s, deliver_by_vector(s, 0, pushed, flags & ~(iopl3 ? X86_EFLAGS_IF : X86_EFLAGS_VIF)));
}

} // namespace minivmx
