// SPDX-License-Identifier: GPL-2.0-only
// PUSH, POP, PUSHA, POPA, ENTER, LEAVE.
#include <minivmx/segment.hpp>

#include "../segmentation/stack.hpp"
#include "emulator.hpp"

namespace minivmx {

u32 stack_width(Emulation &e)
{
    if (e.state.code_64)
        return 8;
    return (segment_rights(e.vmx, kSs) & AR_DB) != 0 ? 4 : 2;
}

void write_stack_pointer(Emulation &e, u64 rsp)
{
    write_gpr_part(e.vmx, kRsp, stack_width(e), rsp);
}

bool push_element(Emulation &e, u32 slot, u32 size, u64 value, u64 &rsp)
{
    u64 linear;
    rsp = (read_gpr(e.vmx, kRsp) - slot) & size_mask(stack_width(e));
    if (!to_linear(e, kSs, rsp, size, true, linear))
        return false;
    store_little_endian(e.pending.data, value, size);
    return write_destination(e, linear, size);
}

bool pop_element(Emulation &e, u32 size, u64 &value, u64 &rsp)
{
    u64 linear;
    if (!to_linear(e, kSs, rsp & size_mask(stack_width(e)), size, false, linear) ||
        !read_source(e, linear, size))
        return false;
    value = load_little_endian(e.pending.data, size);
    rsp += size;
    return true;
}

namespace {

void push(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool segment = insn.source.kind == OperandKind::kSegment;
    const u32 size = insn.operand_size;
    u64 value;
    u64 rsp;
    // A segment register fills its slot in 16- and 64-bit code; of a slot of 32 bits the upper half
    // stays as it is: SDM Vol. 2B, "PUSH".
    const u32 written = segment && size == 4 ? 2 : size;
    if (!load_operand(e, insn.source, value) || !push_element(e, size, written, value, rsp))
        return;
    write_stack_pointer(e, rsp);
    finish_instruction(e.vmx, insn.length);
}

void pop(Emulation &e)
{
    const Instruction &insn = e.insn();
    u64 rsp = read_gpr(e.vmx, kRsp);
    u64 value;
    if (!pop_element(e, insn.operand_size, value, rsp))
        return;
    if (insn.destination.kind == OperandKind::kRegister) {
        // POP RSP: what was popped stays.
        write_stack_pointer(e, rsp);
        (void)store_operand(e, insn.destination, value);
        finish_instruction(e.vmx, insn.length);
        return;
    }
    // An address by RSP is that after the pop: SDM Vol. 2B, "POP".
    if (insn.memory.base == kRsp)
        e.offset_added = insn.operand_size;
    if (!store_operand(e, insn.destination, value))
        return;
    write_stack_pointer(e, rsp);
    finish_instruction(e.vmx, insn.length);
}

// ---- Several words at once --------------------------------------------------

// Where it ended: an exception, or a stack that isn't memory.
void give_up(Emulation &e, const SystemAccess &s)
{
    if (s.not_memory)
        e.outcome = fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    else
        inject_fault(e.vmx, s.fault);
}

// RSP goes with the others, as it was before.
void push_all(Emulation &e)
{
    const u32 size = e.insn().operand_size;
    SystemAccess s{e.vmx};
    StackFrame frame{current_stack(e.vmx), size};
    bool done = true;
    for (u8 gpr = kRax; done && gpr <= kRdi; gpr++)
        done = minivmx::push(s, frame, read_gpr(e.vmx, gpr) & size_mask(size));
    if (!done || !write_frame(s, frame)) {
        give_up(e, s);
        return;
    }
    write_rsp(e.vmx, frame.stack.rsp);
    finish_instruction(e.vmx, e.insn().length);
}

void pop_all(Emulation &e)
{
    constexpr u32 kRegisters = 8;
    const u32 size = e.insn().operand_size;
    SystemAccess s{e.vmx};
    Stack stack = current_stack(e.vmx);
    u64 values[kRegisters];
    for (u32 i = 0; i < kRegisters; i++) {
        if (!minivmx::pop(s, stack, size, values[i])) {
            give_up(e, s);
            return;
        }
    }
    for (u8 gpr = kRax; gpr <= kRdi; gpr++)
        if (gpr != kRsp)
            write_gpr_part(e.vmx, gpr, size, values[kRdi - gpr]);
    write_rsp(e.vmx, stack.rsp);
    finish_instruction(e.vmx, e.insn().length);
}

// ---- Frames of procedures ---------------------------------------------------

// The pushed words are there at once: outer frame pointers may be read from them.
bool push_now(SystemAccess &s, Stack &stack, u32 size, u64 value)
{
    StackFrame frame{stack, size};
    if (!minivmx::push(s, frame, value & size_mask(size)) || !write_frame(s, frame))
        return false;
    stack.rsp = frame.stack.rsp;
    return true;
}

// The frame pointers of the procedures around this one, and its own.
bool push_display(Emulation &e, SystemAccess &s, Stack &stack, u32 level, u64 own)
{
    const u32 size = e.insn().operand_size;
    Stack outer = stack;
    outer.rsp = read_gpr(e.vmx, kRbp);
    for (u32 i = 1; i < level; i++) {
        u64 pointer;
        outer.rsp -= size;
        Stack at = outer;
        if (!minivmx::pop(s, at, size, pointer) || !push_now(s, stack, size, pointer))
            return false;
    }
    return level == 0 || push_now(s, stack, size, own);
}

// SDM Vol. 2A, "ENTER". A fault finds RSP and rBP as they were.
void enter(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 size = insn.operand_size;
    const u32 level = insn.second_immediate % 32;
    const u16 allocated = static_cast<u16>(insn.immediate);
    SystemAccess s{e.vmx};
    Stack stack = current_stack(e.vmx);
    // All of RSP, though a 16-bit stack wraps around within its lower half.
    const u64 pointer = stack.rsp - size;
    if (!push_now(s, stack, size, read_gpr(e.vmx, kRbp)) ||
        !push_display(e, s, stack, level, pointer)) {
        give_up(e, s);
        return;
    }
    // The new top of the stack must be writable, though nothing is written there.
    const u64 top = stack.advanced(-static_cast<s64>(allocated));
    u64 linear;
    if (!to_linear(e, kSs, top & size_mask(stack_width(e)), size, true, linear) ||
        !probe_write(e, linear, size))
        return;
    write_gpr_part(e.vmx, kRbp, size, pointer);
    write_rsp(e.vmx, top);
    finish_instruction(e.vmx, insn.length);
}

void leave(Emulation &e)
{
    const u32 size = e.insn().operand_size;
    u64 rsp = read_gpr(e.vmx, kRbp);
    u64 value;
    if (!pop_element(e, size, value, rsp))
        return;
    write_stack_pointer(e, rsp);
    write_gpr_part(e.vmx, kRbp, size, value);
    finish_instruction(e.vmx, e.insn().length);
}

} // namespace

void execute_stack(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kPush:
        return push(e);
    case Operation::kPop:
        return pop(e);
    case Operation::kPushAll:
        return push_all(e);
    case Operation::kPopAll:
        return pop_all(e);
    case Operation::kEnter:
        return enter(e);
    default: // kLeave
        return leave(e);
    }
}

} // namespace minivmx
