// SPDX-License-Identifier: GPL-2.0-only
// BT, BTS, BTR, BTC; BSF, BSR, TZCNT, LZCNT; BOUND.
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

namespace {

u64 bit_test(Operation operation, u32 size, u64 value, u64 index, u64 &flags)
{
    switch (operation) {
    case Operation::kBts:
        return native::bts(size, value, index, flags);
    case Operation::kBtr:
        return native::btr(size, value, index, flags);
    case Operation::kBtc:
        return native::btc(size, value, index, flags);
    default:
        return native::bt(size, value, index, flags);
    }
}

// An index in a register is signed and reaches beyond the operand: SDM Vol. 1, 3.7.3.1 "Bit and
// Byte Strings"; Vol. 2A, "BT".
u64 bit_string_offset(const Operand &source, u64 index)
{
    if (source.kind != OperandKind::kRegister)
        return 0;
    const s64 bits = static_cast<s64>(sign_extend(index, source.size));
    const s64 width = 8 * source.size;
    return static_cast<u64>((bits & ~(width - 1)) / 8);
}

void test_bit(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool stores = insn.operation != Operation::kBt;
    u64 index;
    u64 old;
    if (!load_operand(e, insn.source, index))
        return;
    e.offset_added = bit_string_offset(insn.source, index);
    if (!(stores ? load_destination(e, insn.destination, old)
                 : load_operand(e, insn.destination, old)))
        return;
    u64 flags = read_rflags(e.vmx);
    const u64 value = bit_test(insn.operation, insn.destination.size, old, index, flags);
    if (stores && !store_destination(e, insn.destination, old, value))
        return;
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

// The destination goes in and comes out whole: for a source of 0, what BSF and BSR leave in it is
// the CPU's own affair.
void scan_bits(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 size = insn.destination.size;
    u64 source;
    if (!load_operand(e, insn.source, source))
        return;
    u64 value = read_gpr(e.vmx, insn.destination.reg);
    u64 flags = read_rflags(e.vmx);
    switch (insn.operation) {
    case Operation::kBsf:
        value = native::bsf(size, value, source, flags);
        break;
    case Operation::kBsr:
        value = native::bsr(size, value, source, flags);
        break;
    case Operation::kTzcnt:
        value = native::tzcnt(size, value, source, flags);
        break;
    default:
        value = native::lzcnt(size, value, source, flags);
        break;
    }
    write_gpr(e.vmx, insn.destination.reg, value);
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

} // namespace

void execute_bits(Emulation &e)
{
    const Operation operation = e.insn().operation;
    if (operation >= Operation::kBt && operation <= Operation::kBtc)
        test_bit(e);
    else
        scan_bits(e);
}

// SDM Vol. 2A, "BOUND": a signed index, and the lowest and the highest one in memory, which is read
// only if the index isn't too low.
void execute_bound(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 size = insn.operand_size;
    const auto number = [size](u64 value) { return static_cast<s64>(sign_extend(value, size)); };
    u64 index;
    u64 bound;
    (void)load_operand(e, insn.source, index);
    if (!load_operand(e, insn.third, bound))
        return;
    bool outside = number(index) < number(bound);
    if (!outside) {
        e.offset_added = size;
        if (!load_operand(e, insn.third, bound))
            return;
        outside = number(index) > number(bound);
    }
    if (outside)
        queue_exception(e.vmx, BR_VECTOR);
    else
        finish_instruction(e.vmx, insn.length);
}

} // namespace minivmx
