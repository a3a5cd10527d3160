// SPDX-License-Identifier: GPL-2.0-only
// XCHG, XADD, CMPXCHG, CMPXCHG8B and CMPXCHG16B.
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

namespace {

void exchange(Emulation &e)
{
    const Instruction &insn = e.insn();
    u64 source;
    u64 old;
    if (!load_operand(e, insn.source, source) || !load_destination(e, insn.destination, old) ||
        !store_destination(e, insn.destination, old, source) || !store_operand(e, insn.source, old))
        return;
    finish_instruction(e.vmx, insn.length);
}

void exchange_and_add(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool in_memory = insn.destination.kind == OperandKind::kMemory;
    u64 source;
    u64 old;
    if (!load_operand(e, insn.source, source) || !load_destination(e, insn.destination, old))
        return;
    u64 flags = read_rflags(e.vmx);
    const u64 sum = native::add(insn.destination.size, old, source, flags);
    // Memory first, for it may fault; but where both are the same register, the sum stays.
    if (in_memory && !store_destination(e, insn.destination, old, sum))
        return;
    if (!store_operand(e, insn.source, old) ||
        (!in_memory && !store_operand(e, insn.destination, sum)))
        return;
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

// SDM Vol. 2A, "CMPXCHG": a destination in memory is written in any case, with its own value if it
// is not equal to the accumulator; a register isn't, and keeps its upper half.
void compare_and_exchange(Emulation &e)
{
    const Instruction &insn = e.insn();
    const Operand accumulator = {OperandKind::kRegister, insn.destination.size, kRax, false};
    u64 source;
    u64 compared;
    u64 old;
    if (!load_operand(e, insn.source, source) || !load_operand(e, accumulator, compared) ||
        !load_destination(e, insn.destination, old))
        return;
    u64 flags = read_rflags(e.vmx);
    (void)native::cmp(insn.destination.size, compared, old, flags);
    const bool equal = (flags & native::kZero) != 0;
    const bool stores = equal || insn.destination.kind == OperandKind::kMemory;
    if ((stores && !store_destination(e, insn.destination, old, equal ? source : old)) ||
        (!equal && !store_operand(e, accumulator, old)))
        return;
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

bool store_pair(Emulation &e, u64 linear, u32 half, u64 old_low, u64 low, u64 high)
{
    store_little_endian(e.pending.data, low, half);
    store_little_endian(e.pending.data + half, high, half);
    if (e.insn().lock && half == 4)
        return exchange_destination(e, linear, 8, old_low);
    return write_destination(e, linear, 2 * half);
}

void compare_and_exchange_pair(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 half = insn.destination.size / 2;
    const u64 mask = size_mask(half);
    u64 linear;
    if (!operand_linear(e, insn.destination.size, true, linear))
        return;
    if (half == 8 && (linear & 15) != 0) { // SDM Vol. 2A, "CMPXCHG8B/CMPXCHG16B"
        inject_gp(e.vmx);
        return;
    }
    if (!read_source(e, linear, insn.destination.size, true))
        return;
    const u64 low = load_little_endian(e.pending.data, half);
    const u64 high = load_little_endian(e.pending.data + half, half);
    const u64 old = load_little_endian(e.pending.data, 8);
    const bool equal =
        low == (read_gpr(e.vmx, kRax) & mask) && high == (read_gpr(e.vmx, kRdx) & mask);
    if (!store_pair(e, linear, half, old, equal ? read_gpr(e.vmx, kRbx) : low,
                    equal ? read_gpr(e.vmx, kRcx) : high))
        return;
    if (!equal) {
        write_gpr(e.vmx, kRax, low);
        write_gpr(e.vmx, kRdx, high);
    }
    const u64 flags = read_rflags(e.vmx);
    write_rflags(e.vmx, equal ? flags | native::kZero : flags & ~native::kZero);
    finish_instruction(e.vmx, insn.length);
}

} // namespace

void execute_exchange(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kXchg:
        exchange(e);
        break;
    case Operation::kXadd:
        exchange_and_add(e);
        break;
    case Operation::kCmpxchg:
        compare_and_exchange(e);
        break;
    default:
        compare_and_exchange_pair(e);
        break;
    }
}

} // namespace minivmx
