// SPDX-License-Identifier: GPL-2.0-only
// ADD to CMP, TEST, INC, DEC, NOT, NEG; shifts and rotates; multiplication and division.
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

// ---- Addition and logic -----------------------------------------------------

namespace {

u64 compute(Operation operation, u32 size, u64 value, u64 source, u64 &flags)
{
    switch (operation) {
    case Operation::kAdd:
        return native::add(size, value, source, flags);
    case Operation::kOr:
        return native::bit_or(size, value, source, flags);
    case Operation::kAdc:
        return native::adc(size, value, source, flags);
    case Operation::kSbb:
        return native::sbb(size, value, source, flags);
    case Operation::kAnd:
        return native::bit_and(size, value, source, flags);
    case Operation::kSub:
        return native::sub(size, value, source, flags);
    case Operation::kXor:
        return native::bit_xor(size, value, source, flags);
    case Operation::kCmp:
        return native::cmp(size, value, source, flags);
    case Operation::kTest:
        return native::test(size, value, source, flags);
    case Operation::kInc:
        return native::inc(size, value, flags);
    case Operation::kDec:
        return native::dec(size, value, flags);
    case Operation::kNeg:
        return native::neg(size, value, flags);
    default: // kNot, which changes no flags
        return ~value;
    }
}

} // namespace

void execute_arithmetic(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool stores = insn.operation != Operation::kCmp && insn.operation != Operation::kTest;
    u64 source;
    u64 old;
    if (!load_operand(e, insn.source, source))
        return;
    if (!(stores ? load_destination(e, insn.destination, old)
                 : load_operand(e, insn.destination, old)))
        return;
    u64 flags = read_rflags(e.vmx);
    const u64 value = compute(insn.operation, insn.destination.size, old, source, flags);
    if (stores && !store_destination(e, insn.destination, old, value))
        return;
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

// ---- Shifts -----------------------------------------------------------------

namespace {

u64 shift(Operation operation, u32 size, u64 value, u64 source, u8 count, u64 &flags)
{
    switch (operation) {
    case Operation::kRol:
        return native::rol(size, value, count, flags);
    case Operation::kRor:
        return native::ror(size, value, count, flags);
    case Operation::kRcl:
        return native::rcl(size, value, count, flags);
    case Operation::kRcr:
        return native::rcr(size, value, count, flags);
    case Operation::kShr:
        return native::shr(size, value, count, flags);
    case Operation::kSar:
        return native::sar(size, value, count, flags);
    case Operation::kShld:
        return native::shld(size, value, source, count, flags);
    case Operation::kShrd:
        return native::shrd(size, value, source, count, flags);
    default: // kShl, kSal
        return native::shl(size, value, count, flags);
    }
}

} // namespace

void execute_shift(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool doubled = insn.third.kind != OperandKind::kNone;
    u64 source = 0;
    u64 count;
    u64 old;
    if (doubled && !load_operand(e, insn.source, source))
        return;
    if (!load_operand(e, doubled ? insn.third : insn.source, count) ||
        !load_destination(e, insn.destination, old))
        return;
    u64 flags = read_rflags(e.vmx);
    const u64 value =
        shift(insn.operation, insn.destination.size, old, source, static_cast<u8>(count), flags);
    if (!store_destination(e, insn.destination, old, value))
        return;
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

// ---- Multiplication and division --------------------------------------------

namespace {

// Whether the quotient of high:low by divisor fits into size bytes: SDM Vol. 2A, "DIV", "IDIV".
bool quotient_fits(u32 size, u64 high, u64 low, u64 divisor, bool is_signed)
{
    const u64 mask = size_mask(size);
    const u64 sign = bit64(8 * size - 1);
    if (!is_signed)
        return (high & mask) < (divisor & mask);

    const bool negative = (high & sign) != 0;
    const bool negative_quotient = negative != ((divisor & sign) != 0);
    if (negative) { // the magnitude of the dividend
        low = -low & mask;
        high = (~high + (low == 0)) & mask;
    }
    if ((divisor & sign) != 0)
        divisor = -divisor;
    high &= mask;
    divisor &= mask;
    if (high >= divisor)
        return false;
    u64 rax = size == 1 ? high << 8 | (low & mask) : low & mask;
    u64 flags = 0;
    native::div(size, rax, high, divisor, flags);
    return (rax & mask) < sign + negative_quotient;
}

bool divide(Emulation &e, u32 size, u64 &rax, u64 &rdx, u64 divisor, u64 &flags)
{
    const bool is_signed = e.insn().operation == Operation::kIdiv;
    const u64 high = size == 1 ? rax >> 8 & 0xff : rdx;
    if (!quotient_fits(size, high & size_mask(size), rax & size_mask(size), divisor, is_signed)) {
        queue_exception(e.vmx, DE_VECTOR);
        return false;
    }
    if (is_signed)
        native::idiv(size, rax, rdx, divisor, flags);
    else
        native::div(size, rax, rdx, divisor, flags);
    return true;
}

void multiply_accumulator(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 size = insn.source.size;
    u64 source;
    if (!load_operand(e, insn.source, source))
        return;
    u64 rax = read_gpr(e.vmx, kRax);
    u64 rdx = read_gpr(e.vmx, kRdx);
    u64 flags = read_rflags(e.vmx);
    if (insn.operation == Operation::kMul)
        native::mul(size, rax, rdx, source, flags);
    else if (insn.operation == Operation::kImul)
        native::imul(size, rax, rdx, source, flags);
    else if (!divide(e, size, rax, rdx, source, flags))
        return;
    write_gpr(e.vmx, kRax, rax);
    write_gpr(e.vmx, kRdx, rdx);
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

} // namespace

void execute_multiply(Emulation &e)
{
    const Instruction &insn = e.insn();
    if (insn.operation != Operation::kImulTo) {
        multiply_accumulator(e);
        return;
    }
    const bool three = insn.third.kind != OperandKind::kNone;
    u64 value;
    u64 source;
    if (!load_operand(e, insn.source, source) ||
        !load_operand(e, three ? insn.third : insn.destination, value))
        return;
    u64 flags = read_rflags(e.vmx);
    value = native::imul_to(insn.destination.size, value, source, flags);
    if (!store_operand(e, insn.destination, value))
        return;
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, insn.length);
}

} // namespace minivmx
