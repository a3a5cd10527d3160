// SPDX-License-Identifier: GPL-2.0-only
// Near control transfers: JMP, Jcc, CALL, RET, LOOP, JCXZ.
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>

#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

namespace {

// Whether the code segment holds the target: SDM Vol. 2A, "CALL", "Jcc"; Vol. 1, 3.3.7.1 in 64-bit
// code. False: #GP(0) is queued, which is the branch's own.
bool may_go_to(Emulation &e, u64 target)
{
    const bool inside =
        e.state.code_64 ? is_canonical_address(e.vmx, target) : target <= segment_limit(e.vmx, kCs);
    if (!inside)
        inject_gp(e.vmx);
    return inside;
}

u64 next_instruction(Emulation &e)
{
    return read_rip(e.vmx) + e.insn().length;
}

// As wide as the operand size is: in 16-bit code, and with an operand-size prefix in 32-bit code,
// branches stay within the first 64 KiB.
u64 relative_target(Emulation &e)
{
    return (next_instruction(e) + e.insn().immediate) & size_mask(e.insn().operand_size);
}

// False: see load_operand().
bool branch_target(Emulation &e, u64 &target)
{
    const Operand &operand = e.insn().source;
    if (operand.kind != OperandKind::kRelative)
        return load_operand(e, operand, target);
    target = relative_target(e);
    return true;
}

void jump(Emulation &e)
{
    u64 target;
    if (branch_target(e, target) && may_go_to(e, target))
        finish_jump(e.vmx, target);
}

void jump_if(Emulation &e, bool condition)
{
    if (!condition)
        finish_instruction(e.vmx, e.insn().length);
    else
        jump(e);
}

void call(Emulation &e)
{
    const u32 size = e.insn().operand_size;
    u64 target;
    u64 rsp;
    // In this order on CPUs of Intel: a stack that faults comes before a target out of bounds.
    if (!branch_target(e, target) || !push_element(e, size, size, next_instruction(e), rsp) ||
        !may_go_to(e, target))
        return;
    write_stack_pointer(e, rsp);
    finish_jump(e.vmx, target);
}

void return_near(Emulation &e)
{
    const Instruction &insn = e.insn();
    constexpr u64 kReleasedBytes = 0xffff; // RET's immediate is unsigned
    u64 rsp = read_gpr(e.vmx, kRsp);
    u64 target;
    if (!pop_element(e, insn.operand_size, target, rsp) || !may_go_to(e, target))
        return;
    write_stack_pointer(e, rsp + (insn.immediate & kReleasedBytes));
    finish_jump(e.vmx, target);
}

// SDM Vol. 2A, "LOOP/LOOPcc": rCX is as wide as addresses, and counts even if the branch isn't
// taken; LOOPNE E0, LOOPE E1.
void loop(Emulation &e)
{
    const u8 opcode = e.insn().opcode;
    const u64 count = (read_address_register(e, kRcx) - 1) & address_mask(e.insn());
    const bool zero = (read_rflags(e.vmx) & native::kZero) != 0;
    const bool taken = count != 0 && (opcode == 0xe2 || zero == (opcode == 0xe1));
    const u64 target = relative_target(e);
    if (taken && !may_go_to(e, target))
        return;
    write_address_register(e, kRcx, count);
    jump_if(e, taken);
}

} // namespace

void execute_branch(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kJcc:
        jump_if(e, condition_holds(e.insn().opcode, read_rflags(e.vmx)));
        break;
    case Operation::kJcxz:
        jump_if(e, read_address_register(e, kRcx) == 0);
        break;
    case Operation::kCall:
        call(e);
        break;
    case Operation::kRet:
        return_near(e);
        break;
    case Operation::kLoop:
        loop(e);
        break;
    default:
        jump(e);
        break;
    }
}

} // namespace minivmx
