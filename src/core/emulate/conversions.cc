// SPDX-License-Identifier: GPL-2.0-only
// Moves that compute or convert on their way: LEA, BSWAP, XLAT, SALC, CBW and CWD with their wider
// forms.
#include "emulator.hpp"

namespace minivmx {

namespace {

void load_effective_address(Emulation &e)
{
    (void)store_operand(e, e.insn().destination, memory_offset(e.vmx, e.insn()));
    finish_instruction(e.vmx, e.insn().length);
}

// Of 16 bits the manual leaves the result undefined; CPUs of Intel give 0. SDM Vol. 2A, "BSWAP".
void swap_bytes(Emulation &e)
{
    const Operand &operand = e.insn().destination;
    u64 value;
    (void)load_operand(e, operand, value);
    value = operand.size == 2 ? 0 : __builtin_bswap64(value) >> (64 - 8 * operand.size);
    (void)store_operand(e, operand, value);
    finish_instruction(e.vmx, e.insn().length);
}

void look_up(Emulation &e)
{
    u64 value;
    e.offset_added = read_gpr(e.vmx, kRax) & 0xff;
    if (!load_operand(e, e.insn().source, value))
        return;
    write_gpr_part(e.vmx, kRax, 1, value);
    finish_instruction(e.vmx, e.insn().length);
}

// Not in the manual, but in every CPU: AL becomes what SBB AL, AL would make of it.
void carry_to_al(Emulation &e)
{
    write_gpr_part(e.vmx, kRax, 1, read_rflags(e.vmx) & X86_EFLAGS_CF ? 0xff : 0);
    finish_instruction(e.vmx, e.insn().length);
}

// Half of the accumulator to all of it.
void extend_accumulator(Emulation &e)
{
    const u32 size = e.insn().operand_size;
    const u64 rax = read_gpr(e.vmx, kRax);
    write_gpr_part(e.vmx, kRax, size, sign_extend(rax & size_mask(size / 2), size / 2));
    finish_instruction(e.vmx, e.insn().length);
}

// The accumulator's sign to all of rDX.
void extend_to_rdx(Emulation &e)
{
    const u32 size = e.insn().operand_size;
    const bool negative = (read_gpr(e.vmx, kRax) >> (8 * size - 1) & 1) != 0;
    write_gpr_part(e.vmx, kRdx, size, negative ? ~u64{0} : 0);
    finish_instruction(e.vmx, e.insn().length);
}

} // namespace

void execute_conversion(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kLea:
        return load_effective_address(e);
    case Operation::kBswap:
        return swap_bytes(e);
    case Operation::kXlat:
        return look_up(e);
    case Operation::kSalc:
        return carry_to_al(e);
    case Operation::kConvert:
        return extend_accumulator(e);
    default: // kConvertDouble
        return extend_to_rdx(e);
    }
}

} // namespace minivmx
