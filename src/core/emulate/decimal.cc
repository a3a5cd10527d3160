// SPDX-License-Identifier: GPL-2.0-only
// DAA, DAS, AAA, AAS, AAM, AAD: the algorithms of SDM Vol. 2A, for 64-bit code hasn't got these
// instructions.
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

namespace {

// SF, ZF and PF are those of AL; OF, which is undefined, becomes 0.
void finish_decimal(Emulation &e, u64 ax, bool adjust, bool carry)
{
    u64 flags = read_rflags(e.vmx);
    (void)native::test(1, ax & 0xff, ax & 0xff, flags);
    flags &= ~(X86_EFLAGS_AF | X86_EFLAGS_CF);
    flags |= (adjust ? X86_EFLAGS_AF : 0) | (carry ? X86_EFLAGS_CF : 0);
    write_gpr_part(e.vmx, kRax, 2, ax);
    write_rflags(e.vmx, flags);
    finish_instruction(e.vmx, e.insn().length);
}

// DAA and DAS: AL holds two digits.
void adjust_packed(Emulation &e, bool after_subtraction)
{
    const u64 rax = read_gpr(e.vmx, kRax);
    const u64 flags = read_rflags(e.vmx);
    const u8 old = static_cast<u8>(rax);
    const bool low = (old & 0xf) > 9 || (flags & X86_EFLAGS_AF) != 0;
    const bool high = old > 0x99 || (flags & X86_EFLAGS_CF) != 0;
    const u8 by = static_cast<u8>((low ? 0x06 : 0) + (high ? 0x60 : 0));
    const u8 al = static_cast<u8>(after_subtraction ? old - by : old + by);
    // The first step of a subtraction may borrow by itself.
    const bool borrows = after_subtraction && low && old < 0x06;
    finish_decimal(e, (rax & 0xff00) | al, low, high || borrows);
}

// AAA and AAS: AL holds one digit, AH the next.
void adjust_unpacked(Emulation &e, bool after_subtraction)
{
    const u64 rax = read_gpr(e.vmx, kRax);
    const bool carry = (rax & 0xf) > 9 || (read_rflags(e.vmx) & X86_EFLAGS_AF) != 0;
    const u64 by = carry ? 0x106 : 0;
    const u64 ax = after_subtraction ? rax - by : rax + by;
    finish_decimal(e, ax & 0xff0f, carry, carry);
}

// AAM: AL into two digits of any base.
void split_digits(Emulation &e)
{
    const u8 base = static_cast<u8>(e.insn().immediate);
    const u8 al = static_cast<u8>(read_gpr(e.vmx, kRax));
    if (base == 0) {
        queue_exception(e.vmx, DE_VECTOR);
        return;
    }
    finish_decimal(e, u64{al} / base << 8 | al % base, false, false);
}

// AAD: two digits into AL.
void join_digits(Emulation &e)
{
    const u8 base = static_cast<u8>(e.insn().immediate);
    const u64 rax = read_gpr(e.vmx, kRax);
    const u8 al = static_cast<u8>(rax + (rax >> 8 & 0xff) * base);
    finish_decimal(e, al, false, false);
}

} // namespace

void execute_decimal(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kDaa:
        return adjust_packed(e, false);
    case Operation::kDas:
        return adjust_packed(e, true);
    case Operation::kAaa:
        return adjust_unpacked(e, false);
    case Operation::kAas:
        return adjust_unpacked(e, true);
    case Operation::kAam:
        return split_digits(e);
    default: // kAad
        return join_digits(e);
    }
}

} // namespace minivmx
