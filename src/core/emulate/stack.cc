// SPDX-License-Identifier: GPL-2.0-only
// PUSH and POP.
#include <minivmx/segment.hpp>

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

bool push_element(Emulation &e, u32 size, u64 value, u64 &rsp)
{
    u64 linear;
    rsp = (read_gpr(e.vmx, kRsp) - size) & size_mask(stack_width(e));
    if (!to_linear(e, kSs, rsp, size, true, linear))
        return false;
    store_little_endian(e.pending.data, value, size);
    return write_destination(e, linear, size);
}

bool pop_element(Emulation &e, u32 size, u64 &value, u64 &rsp)
{
    u64 linear;
    rsp = read_gpr(e.vmx, kRsp);
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
    u64 value;
    u64 rsp;
    if (!load_operand(e, insn.source, value) || !push_element(e, insn.operand_size, value, rsp))
        return;
    write_stack_pointer(e, rsp);
    finish_instruction(e.vmx, insn.length);
}

void pop(Emulation &e)
{
    const Instruction &insn = e.insn();
    u64 value;
    u64 rsp;
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

} // namespace

void execute_stack(Emulation &e)
{
    if (e.insn().operation == Operation::kPush)
        push(e);
    else
        pop(e);
}

} // namespace minivmx
