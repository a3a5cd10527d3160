// SPDX-License-Identifier: GPL-2.0-only
// Moves of integers: MOV and its relatives, SETcc, CMOVcc, segment registers.
#include <minivmx/segment.hpp>

#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

bool condition_holds(u8 opcode, u64 flags)
{
    const bool sign_differs = ((flags & native::kSign) != 0) != ((flags & native::kOverflow) != 0);
    bool holds;
    switch (opcode >> 1 & 7) {
    case 0:
        holds = (flags & native::kOverflow) != 0;
        break;
    case 1:
        holds = (flags & X86_EFLAGS_CF) != 0;
        break;
    case 2:
        holds = (flags & native::kZero) != 0;
        break;
    case 3:
        holds = (flags & (X86_EFLAGS_CF | native::kZero)) != 0;
        break;
    case 4:
        holds = (flags & native::kSign) != 0;
        break;
    case 5:
        holds = (flags & native::kParity) != 0;
        break;
    case 6:
        holds = sign_differs;
        break;
    default:
        holds = sign_differs || (flags & native::kZero) != 0;
        break;
    }
    return holds != ((opcode & 1) != 0);
}

namespace {

u64 reverse_bytes(u64 value, u32 size)
{
    return __builtin_bswap64(value) >> (64 - 8 * size);
}

// MOV, MOVZX, MOVSX, MOVBE: they differ in what becomes of the source on its way.
void move(Emulation &e)
{
    const Instruction &insn = e.insn();
    u64 value;
    if (!load_operand(e, insn.source, value))
        return;
    if (insn.operation == Operation::kMovsx)
        value = sign_extend(value, insn.source.size);
    else if (insn.operation == Operation::kMovbe)
        value = reverse_bytes(value, insn.source.size);
    if (store_operand(e, insn.destination, value))
        finish_instruction(e.vmx, insn.length);
}

void set_on_condition(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool holds = condition_holds(insn.opcode, read_rflags(e.vmx));
    if (store_operand(e, insn.destination, holds))
        finish_instruction(e.vmx, insn.length);
}

// The source is read, and a 32-bit destination's upper half cleared, whatever the condition.
void move_on_condition(Emulation &e)
{
    const Instruction &insn = e.insn();
    u64 value;
    u64 old;
    if (!load_operand(e, insn.source, value) || !load_operand(e, insn.destination, old))
        return;
    if (!condition_holds(insn.opcode, read_rflags(e.vmx)))
        value = old;
    if (store_operand(e, insn.destination, value))
        finish_instruction(e.vmx, insn.length);
}

// SDM Vol. 2A, "CLFLUSH": what a load of the byte would fault on, it does, but for code that can't
// be read. There is nothing to do for memory that is the guest's and ours alike.
void flush_line(Emulation &e)
{
    const Access as_fetch{.fetch = true};
    u64 linear;
    GuestFault fault;
    if (segment_to_linear(e.vmx, e.state, e.insn().memory.segment, memory_offset(e.vmx, e.insn()),
                          1, as_fetch, linear, fault) != MemoryResult::kOk)
        inject_fault(e.vmx, fault);
    else if (probe_read(e, linear, 1))
        finish_instruction(e.vmx, e.insn().length);
}

} // namespace

void execute_move(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kSetcc:
        set_on_condition(e);
        break;
    case Operation::kCmovcc:
        move_on_condition(e);
        break;
    case Operation::kFlushLine:
        flush_line(e);
        break;
    case Operation::kNop:
        finish_instruction(e.vmx, e.insn().length);
        break;
    default: // kStoreSegment, too
        move(e);
        break;
    }
}

} // namespace minivmx
