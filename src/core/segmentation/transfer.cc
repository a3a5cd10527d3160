// SPDX-License-Identifier: GPL-2.0-only
// JMP and CALL.
#include "transfer.hpp"

#include <minivmx/state.hpp>

namespace minivmx {

// ---- Code segments ----------------------------------------------------------

bool find_code(SystemAccess &s, u16 selector, u64 rip, CodeTarget &target)
{
    target.selector = selector;
    target.rip = rip;
    target.cpl = guest_cpl(s.vmx);
    if (is_null_selector(selector))
        return refuse(s, GP_VECTOR, 0);
    return read_descriptor(s, selector, GP_VECTOR, target.descriptor);
}

bool ready_code(SystemAccess &s, CodeTarget &target)
{
    const Descriptor &d = target.descriptor;
    if (target.is_64(s)) {
        if (d.big())
            return refuse(s, GP_VECTOR, target.selector);
        if (!is_canonical_address(s.vmx, target.rip))
            return refuse(s, GP_VECTOR, 0);
    } else {
        target.rip = static_cast<u32>(target.rip);
        if (target.rip > d.limit())
            return refuse(s, GP_VECTOR, 0);
    }
    return mark_accessed(s, target.descriptor);
}

void enter_code(vcpu_vmx &vmx, const CodeTarget &target)
{
    const u16 selector = static_cast<u16>((target.selector & ~kSelectorRpl) | target.cpl);
    write_segment_register(vmx, kCs, target.descriptor.to_register(selector));
    write_rip(vmx, target.rip);
}

// ---- Inner stacks -----------------------------------------------------------

namespace {

// SDM Vol. 3A, 8.7, figure 8-11 "64-Bit TSS Format".
bool inner_stack_64(SystemAccess &s, u8 cpl, u8 stack_table, Stack &stack)
{
    constexpr u32 kRsp0 = 4, kIst1 = 0x24;
    const u32 at = stack_table ? kIst1 + 8 * (stack_table - 1u) : kRsp0 + 8u * cpl;
    const SegmentRegister tr = read_segment_register(s.vmx, kTr);
    if (at + 7 > tr.limit)
        return refuse(s, TS_VECTOR, tr.selector);
    stack.ss = null_segment(cpl, cpl);
    return read_system(s, tr.base + at, &stack.rsp, 8);
}

// SDM Vol. 3A, 8.2.1, figure 8-2, and 8.6, figure 8-10: SS behind ESP, for each level.
bool read_inner_pointer(SystemAccess &s, u8 cpl, u16 &selector, u64 &rsp)
{
    const SegmentRegister tr = read_segment_register(s.vmx, kTr);
    const u32 size = tr.rights & 8 ? 4 : 2;
    const u32 at = size * (1 + 2u * cpl);
    u8 bytes[4 + 2] = {};
    if (at + size + 1 > tr.limit)
        return refuse(s, TS_VECTOR, tr.selector);
    if (!read_system(s, advance_linear(s.state, tr.base, at), bytes, size + 2))
        return false;
    rsp = 0;
    __builtin_memcpy(&rsp, bytes, size);
    __builtin_memcpy(&selector, bytes + size, sizeof(selector));
    return true;
}

} // namespace

bool inner_stack(SystemAccess &s, u8 cpl, u8 stack_table, Stack &stack)
{
    stack = {};
    stack.state = address_state(s.vmx);
    stack.state.user = false; // no privilege level is less privileged than 3
    if (s.state.long_mode) {
        stack.state.code_64 = true;
        return inner_stack_64(s, cpl, stack_table, stack);
    }
    u16 selector = 0;
    Descriptor d;
    if (!read_inner_pointer(s, cpl, selector, stack.rsp))
        return false;
    if (is_null_selector(selector))
        return refuse(s, TS_VECTOR, 0);
    if (!read_descriptor(s, selector, TS_VECTOR, d))
        return false;
    const u8 vector = check_stack(d, selector & kSelectorRpl, cpl, TS_VECTOR);
    if (vector != kNoFault)
        return refuse(s, vector, selector);
    stack.ss = d.to_register(selector);
    stack.error_selector = selector;
    // Accesses to it aren't virtual-8086 mode's any more.
    return mark_accessed(s, d);
}

namespace {

// ---- Without descriptors ----------------------------------------------------

bool is_real_or_vm86(vcpu_vmx &vmx)
{
    return !is_protmode(vmx) || in_vm86(vmx);
}

// SDM Vol. 2A, JMP and CALL, "Real-address mode or virtual-8086 mode".
bool enter_real_code(FarTransfer &s, u16 selector, u64 offset)
{
    if (offset > segment_limit(s.vmx, kCs))
        return refuse(s, GP_VECTOR, 0);
    load_real_mode_segment(s.vmx, kCs, selector);
    write_rip(s.vmx, offset);
    return true;
}

// ---- Gates ------------------------------------------------------------------

TransferEnd refused(FarTransfer &s, u8 vector, u16 selector)
{
    (void)refuse(s, vector, selector);
    return TransferEnd::kFault;
}

// SDM Vol. 3A, 5.8.4, table 5-1, and 8.2.5.
u8 check_gate(const Descriptor &gate, u8 rpl, u8 cpl)
{
    if (gate.dpl() < cpl || gate.dpl() < rpl)
        return GP_VECTOR;
    return gate.present() ? kNoFault : NP_VECTOR;
}

// How wide what the gate pushes is, and its offset.
u8 gate_size(const SystemAccess &s, const Descriptor &gate)
{
    return s.state.long_mode ? 8 : gate.type() & 8 ? 4 : 2;
}

// The code behind a call gate, up to what JMP and CALL check differently.
bool code_behind_gate(FarTransfer &s, u16 selector, Descriptor &gate, CodeTarget &target)
{
    if (!read_upper_half(s, selector, GP_VECTOR, gate))
        return false;
    s.operand_size = gate_size(s, gate);
    const u64 rip = s.operand_size == 2 ? gate.offset() & 0xffff : gate.offset();
    if (!find_code(s, gate.target(), rip, target))
        return false;
    const Descriptor &d = target.descriptor;
    if (!d.code() || d.dpl() > target.cpl)
        return refuse(s, GP_VECTOR, target.selector);
    // SDM Vol. 3A, 5.8.3.1: only 64-bit code is behind a gate in IA-32e mode.
    if (s.state.long_mode && (!d.long_code() || d.big()))
        return refuse(s, GP_VECTOR, target.selector);
    return true;
}

bool jump_through_gate(FarTransfer &s, u16 selector, Descriptor &gate)
{
    CodeTarget target;
    if (!code_behind_gate(s, selector, gate, target))
        return false;
    const Descriptor &d = target.descriptor;
    if (!d.conforming() && d.dpl() != target.cpl)
        return refuse(s, GP_VECTOR, target.selector);
    if (!d.present())
        return refuse(s, NP_VECTOR, target.selector);
    if (!ready_code(s, target))
        return false;
    enter_code(s.vmx, target);
    return true;
}

// ---- Calls ------------------------------------------------------------------

// To the same level: CS:rIP on the stack that is.
bool call_code(FarTransfer &s, CodeTarget &target)
{
    StackFrame frame{current_stack(s.vmx), s.operand_size};
    // A gate of IA-32e mode leads out of compatibility mode: the stack is the 64-bit code's.
    if (s.operand_size == 8)
        frame.stack.state.code_64 = true;
    if (!push(s, frame, segment_selector(s.vmx, kCs)) || !push(s, frame, s.next_rip) ||
        !ready_code(s, target) || !write_frame(s, frame))
        return false;
    write_rsp(s.vmx, frame.stack.rsp);
    enter_code(s.vmx, target);
    return true;
}

// The parameters of a call gate, with the one pushed first, first: SDM Vol. 3A, 5.8.5.
bool copy_parameters(FarTransfer &s, const Stack &from, u32 count, StackFrame &frame)
{
    while (count-- != 0) {
        Stack at = from;
        u64 value;
        at.rsp = from.advanced(count * u64{s.operand_size});
        if (!pop(s, at, s.operand_size, value) || !push(s, frame, value))
            return false;
    }
    return true;
}

bool call_inner_code(FarTransfer &s, const Descriptor &gate, CodeTarget &target)
{
    const Stack old = current_stack(s.vmx);
    Stack inner;
    target.cpl = target.descriptor.dpl();
    if (!inner_stack(s, target.cpl, 0, inner))
        return false;
    StackFrame frame{inner, s.operand_size};
    if (!push(s, frame, old.ss.selector) || !push(s, frame, old.rsp) ||
        !copy_parameters(s, old, s.state.long_mode ? 0 : gate.parameters(), frame) ||
        !push(s, frame, segment_selector(s.vmx, kCs)) || !push(s, frame, s.next_rip) ||
        !ready_code(s, target) || !write_frame(s, frame))
        return false;
    write_segment_register(s.vmx, kSs, frame.stack.ss);
    write_rsp(s.vmx, frame.stack.rsp);
    enter_code(s.vmx, target);
    return true;
}

bool call_through_gate(FarTransfer &s, u16 selector, Descriptor &gate)
{
    CodeTarget target;
    if (!code_behind_gate(s, selector, gate, target))
        return false;
    const Descriptor &d = target.descriptor;
    if (!d.present())
        return refuse(s, NP_VECTOR, target.selector);
    if (!d.conforming() && d.dpl() < target.cpl)
        return call_inner_code(s, gate, target);
    return call_code(s, target);
}

// ---- Either -----------------------------------------------------------------

bool transfer_direct(FarTransfer &s, CodeTarget &target, bool call)
{
    const u8 vector =
        check_jump_code(target.descriptor, target.selector & kSelectorRpl, target.cpl);
    if (vector != kNoFault)
        return refuse(s, vector, target.selector);
    if (call)
        return call_code(s, target);
    if (!ready_code(s, target))
        return false;
    enter_code(s.vmx, target);
    return true;
}

TransferEnd end_of(bool done)
{
    return done ? TransferEnd::kThere : TransferEnd::kFault;
}

// The target is a gate or a task: SDM Vol. 3A, 5.8.2 and 8.3.
TransferEnd transfer_through_system(FarTransfer &s, u16 selector, Descriptor &d, bool call)
{
    const u8 type = d.type();
    const bool gate = type == kTypeCallGate32 || (type == kTypeCallGate16 && !s.state.long_mode);
    const bool task = (type == kTypeTaskGate || d.tss()) && !s.state.long_mode;
    if (!gate && !task)
        return refused(s, GP_VECTOR, selector);
    const u8 vector = check_gate(d, selector & kSelectorRpl, guest_cpl(s.vmx));
    if (vector != kNoFault)
        return refused(s, vector, selector);
    if (gate)
        return end_of(call ? call_through_gate(s, selector, d) : jump_through_gate(s, selector, d));
    s.task = {type == kTypeTaskGate ? d.target() : selector,
              call ? TaskSwitchSource::kCall : TaskSwitchSource::kJmp};
    return TransferEnd::kTask;
}

TransferEnd transfer(FarTransfer &s, u16 selector, u64 offset, bool call)
{
    CodeTarget target;
    if (!find_code(s, selector, offset, target))
        return TransferEnd::kFault;
    if (target.descriptor.system())
        return transfer_through_system(s, selector, target.descriptor, call);
    return end_of(transfer_direct(s, target, call));
}

bool call_real_code(FarTransfer &s, u16 selector, u64 offset)
{
    StackFrame frame{current_stack(s.vmx), s.operand_size};
    if (offset > segment_limit(s.vmx, kCs))
        return refuse(s, GP_VECTOR, 0);
    if (!push(s, frame, segment_selector(s.vmx, kCs)) || !push(s, frame, s.next_rip) ||
        !write_frame(s, frame))
        return false;
    write_rsp(s.vmx, frame.stack.rsp);
    return enter_real_code(s, selector, offset);
}

} // namespace

TransferEnd jump_far(FarTransfer &s, u16 selector, u64 offset)
{
    if (is_real_or_vm86(s.vmx))
        return end_of(enter_real_code(s, selector, offset));
    return transfer(s, selector, offset, false);
}

TransferEnd call_far(FarTransfer &s, u16 selector, u64 offset)
{
    if (is_real_or_vm86(s.vmx))
        return end_of(call_real_code(s, selector, offset));
    return transfer(s, selector, offset, true);
}

} // namespace minivmx
