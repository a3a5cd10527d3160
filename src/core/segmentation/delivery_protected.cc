// SPDX-License-Identifier: GPL-2.0-only
// Events through the IDT of protected mode and of IA-32e mode: SDM Vol. 3A, 6.12 and 6.14; Vol. 2A,
// INT n; out of virtual-8086 mode: Vol. 3B, 21.3.1.
#include "../task/task.hpp"
#include "delivery.hpp"
#include "transfer.hpp"

namespace minivmx {

namespace {

// The error code of what is wrong with a gate: its number and the IDT flag. SDM Vol. 3A, 6.13.
bool refuse_gate(EventDelivery &s, u8 vector)
{
    constexpr u32 kIdt = 2, kExt = 1;
    s.fault = {vector, true, u32{s.event.vector} << 3 | kIdt | (s.external ? kExt : 0), 0};
    return false;
}

bool is_gate(const EventDelivery &s, const Descriptor &gate)
{
    if (!gate.system())
        return false;
    switch (gate.type()) {
    case kTypeInterruptGate32:
    case kTypeTrapGate32:
        return true;
    case kTypeTaskGate:
    case kTypeInterruptGate16:
    case kTypeTrapGate16:
        return !s.state.long_mode;
    default:
        return false;
    }
}

bool find_gate(EventDelivery &s, Descriptor &gate)
{
    const u32 size = s.state.long_mode ? 16 : 8;
    const u32 at = s.event.vector * size;
    if (at + size - 1 > vmcs_read(GUEST_IDTR_LIMIT))
        return refuse_gate(s, GP_VECTOR);
    u64 raw[2] = {};
    if (!read_system(s, advance_linear(s.state, vmcs_read(GUEST_IDTR_BASE), at), raw, size))
        return false;
    gate = {.raw = raw[0], .linear = 0, .high = raw[1]};
    if (!is_gate(s, gate) || (s.by_instruction() && gate.dpl() < guest_cpl(s.vmx)))
        return refuse_gate(s, GP_VECTOR);
    return gate.present() || refuse_gate(s, NP_VECTOR);
}

// What a handler's code has to be: SDM Vol. 3A, 6.12.1.2 and 6.14.1.
bool check_handler(EventDelivery &s, const CodeTarget &target, bool from_vm86)
{
    const Descriptor &d = target.descriptor;
    bool fits = d.code() && d.dpl() <= target.cpl;
    if (s.state.long_mode)
        fits &= d.long_code() && !d.big();
    if (from_vm86)
        fits &= !d.conforming() && d.dpl() == 0;
    if (!fits)
        return refuse(s, GP_VECTOR, target.selector);
    return d.present() || refuse(s, NP_VECTOR, target.selector);
}

// The segment registers that virtual-8086 mode leaves on the stack, in this order: SDM Vol. 3B,
// 21.3.1.1, figure 21-4.
constexpr Segment kVm86Segments[] = {kGs, kFs, kDs, kEs};

bool push_vm86_segments(EventDelivery &s, StackFrame &frame)
{
    for (const Segment which : kVm86Segments)
        if (!push(s, frame, segment_selector(s.vmx, which)))
            return false;
    return true;
}

bool push_return(EventDelivery &s, StackFrame &frame, u64 flags)
{
    return push(s, frame, flags) && push(s, frame, segment_selector(s.vmx, kCs)) &&
           push(s, frame, s.return_rip) &&
           (!s.event.has_error_code || push(s, frame, s.event.error_code));
}

// Where the frame goes: the current stack, a more privileged one, or one of the IST. `old`: whether
// SS:rSP goes there, too.
bool find_stack(EventDelivery &s, const Descriptor &gate, CodeTarget &target, Stack &stack,
                bool &old)
{
    const Descriptor &d = target.descriptor;
    const bool inward = !d.conforming() && d.dpl() < target.cpl;
    const u8 table = s.state.long_mode ? gate.stack_table() : u8{0};
    old = inward || s.state.long_mode;
    if (inward)
        target.cpl = d.dpl();
    stack = current_stack(s.vmx);
    if (inward || table) {
        const SegmentRegister ss = stack.ss;
        if (!inner_stack(s, target.cpl, table, stack))
            return false;
        if (!inward) { // SDM Vol. 3A, 6.14.5: only RSP is another
            stack.ss = ss;
            stack.state.user = target.cpl == 3;
        }
    }
    if (s.state.long_mode) { // SDM Vol. 3A, 6.14.2: RSP is aligned
        stack.state.code_64 = true;
        stack.rsp &= ~u64{15};
    }
    return true;
}

u64 flags_of_handler(u64 flags, const Descriptor &gate)
{
    constexpr u8 kTrapGate = 1; // leaves IF as it is
    flags &= ~(X86_EFLAGS_TF | X86_EFLAGS_NT | X86_EFLAGS_RF | X86_EFLAGS_VM);
    return gate.type() & kTrapGate ? flags : flags & ~X86_EFLAGS_IF;
}

bool through_gate(EventDelivery &s, const Descriptor &gate)
{
    const u8 size = s.state.long_mode ? 8 : gate.type() & 8 ? 4 : 2;
    const u64 flags = program_flags(s.vmx);
    const bool from_vm86 = in_vm86(s.vmx);
    const u64 old_rsp = read_rsp(s.vmx);
    CodeTarget target;
    Stack stack;
    bool old;
    if (!find_code(s, gate.target(), size == 2 ? gate.offset() & 0xffff : gate.offset(), target) ||
        !check_handler(s, target, from_vm86) || !find_stack(s, gate, target, stack, old))
        return false;
    StackFrame frame{stack, size};
    if ((from_vm86 && !push_vm86_segments(s, frame)) ||
        (old && (!push(s, frame, segment_selector(s.vmx, kSs)) || !push(s, frame, old_rsp))) ||
        !push_return(s, frame, flags) || !ready_code(s, target) || !write_frame(s, frame))
        return false;
    s.vmx.exception.pending = false;
    write_program_flags(s.vmx, flags_of_handler(flags, gate));
    if (from_vm86)
        for (const Segment which : kVm86Segments)
            write_segment_register(s.vmx, which, null_segment(0));
    write_segment_register(s.vmx, kSs, frame.stack.ss);
    write_rsp(s.vmx, frame.stack.rsp);
    enter_code(s.vmx, target);
    return true;
}

} // namespace

bool deliver_in_protected_mode(EventDelivery &s)
{
    Descriptor gate;
    if (!find_gate(s, gate))
        return false;
    if (gate.type() != kTypeTaskGate)
        return through_gate(s, gate);
    return switch_to_task(s, {gate.target(), TaskSwitchSource::kIdtGate}, s.return_rip,
                          s.event.has_error_code ? &s.event.error_code : nullptr);
}

} // namespace minivmx
