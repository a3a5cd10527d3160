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

// SDM Vol. 2A, INT n, REAL-ADDRESS-MODE; Vol. 3B, 21.1.4.
bool deliver_in_real_mode(EventDelivery &s)
{
    constexpr u32 kEntrySize = 4, kWord = 2;
    const u32 entry_at = s.event.vector * kEntrySize;
    if (entry_at + kEntrySize - 1 > vmcs_read(GUEST_IDTR_LIMIT))
        return refuse(s, GP_VECTOR, 0);
    struct {
        u16 ip, cs;
    } entry;
    const u64 flags = program_flags(s.vmx);
    StackFrame frame{current_stack(s.vmx), kWord};
    if (!read_system(s, advance_linear(s.state, vmcs_read(GUEST_IDTR_BASE), entry_at), &entry,
                     sizeof(entry)) ||
        !push(s, frame, flags) || !push(s, frame, segment_selector(s.vmx, kCs)) ||
        !push(s, frame, s.return_rip) || !write_frame(s, frame))
        return false;
    write_rsp(s.vmx, frame.stack.rsp);
    load_real_mode_segment(s.vmx, kCs, entry.cs);
    write_rip(s.vmx, entry.ip);
    write_program_flags(s.vmx,
                        flags & ~(X86_EFLAGS_IF | X86_EFLAGS_TF | X86_EFLAGS_AC | X86_EFLAGS_RF));
    return true;
}

// ---- Any mode ---------------------------------------------------------------

Delivered deliver_event(vcpu_vmx &vmx, const GuestEvent &event)
{
    EventDelivery s{vmx, event};
    vmx.area->flush_l1d = 1;
    if (!(is_protmode(vmx) ? deliver_in_protected_mode(s) : deliver_in_real_mode(s))) {
        if (s.not_memory)
            return Delivered::kNotMemory;
        inject_fault(vmx, s.fault);
        return Delivered::kFaulted;
    }
    set_interrupt_shadow_off(vmx);
    if (event.type == INTR_TYPE_NMI)
        set_nmis_masked(vmx, true);
    return Delivered::kYes;
}

} // namespace minivmx
