// SPDX-License-Identifier: GPL-2.0-only
// Operands of emulated instructions: registers, immediates, and where memory operands are.
#include <minivmx/segment.hpp>

#include "emulator.hpp"

namespace minivmx {

u64 load_little_endian(const u8 *bytes, u32 size)
{
    u64 value = 0;
    for (u32 i = 0; i < size; i++)
        value |= u64{bytes[i]} << (8 * i);
    return value;
}

void store_little_endian(u8 *bytes, u64 value, u32 size)
{
    for (u32 i = 0; i < size; i++)
        bytes[i] = static_cast<u8>(value >> (8 * i));
}

// ---- Registers --------------------------------------------------------------

void write_gpr_part(vcpu_vmx &vmx, u8 reg, u32 size, u64 value)
{
    write_gpr(vmx, reg, with_part(read_gpr(vmx, reg), size, value));
}

u64 read_register_operand(vcpu_vmx &vmx, const Operand &operand)
{
    return read_gpr(vmx, operand.reg) >> (operand.high_byte ? 8 : 0) & size_mask(operand.size);
}

void write_register_operand(vcpu_vmx &vmx, const Operand &operand, u64 value)
{
    if (operand.high_byte)
        write_gpr_part(vmx, operand.reg, 2,
                       (value & 0xff) << 8 | (read_gpr(vmx, operand.reg) & 0xff));
    else
        write_gpr_part(vmx, operand.reg, operand.size, value);
}

u64 address_mask(const Instruction &insn)
{
    return size_mask(insn.address_size);
}

u64 read_address_register(Emulation &e, u8 reg)
{
    return read_gpr(e.vmx, reg) & address_mask(e.insn());
}

void write_address_register(Emulation &e, u8 reg, u64 value)
{
    write_gpr_part(e.vmx, reg, e.insn().address_size, value);
}

bool direction_down(Emulation &e)
{
    return (read_rflags(e.vmx) & X86_EFLAGS_DF) != 0;
}

void advance_address_register(Emulation &e, u8 reg, u64 n, u32 size)
{
    const u64 bytes = n * size;
    const u64 value = read_gpr(e.vmx, reg);
    write_address_register(e, reg, direction_down(e) ? value - bytes : value + bytes);
}

// ---- Iterations -------------------------------------------------------------

u64 iterations_left(Emulation &e)
{
    const bool repeated = e.insn().rep || e.insn().repne;
    return repeated ? read_address_register(e, kRcx) : 1;
}

void finish_iterations(Emulation &e, u64 n, bool last)
{
    if (e.insn().rep || e.insn().repne) {
        const u64 left = read_address_register(e, kRcx);
        write_address_register(e, kRcx, left > n ? left - n : 0);
        if (left > n && !last) {
            finish_iteration(e.vmx);
            return;
        }
    }
    finish_instruction(e.vmx, e.insn().length);
}

// ---- Addresses --------------------------------------------------------------

bool to_linear(Emulation &e, u8 segment, u64 offset, u32 size, bool write, u64 &linear)
{
    GuestFault fault;
    if (segment_to_linear(e.vmx, e.state, segment, offset, size, Access{.write = write}, linear,
                          fault) == MemoryResult::kOk)
        return true;
    inject_fault(e.vmx, fault);
    return false;
}

u64 memory_offset(vcpu_vmx &vmx, const Instruction &insn)
{
    const MemoryOperand &memory = insn.memory;
    u64 offset = memory.displacement;
    if (memory.base != kNoRegister)
        offset += read_gpr(vmx, memory.base);
    if (memory.index != kNoRegister)
        offset += read_gpr(vmx, memory.index) * memory.scale;
    if (memory.rip_relative)
        offset += read_rip(vmx) + insn.length;
    return offset & address_mask(insn);
}

bool operand_linear(Emulation &e, u32 size, bool write, u64 &linear)
{
    const u64 offset = (memory_offset(e.vmx, e.insn()) + e.offset_added) & address_mask(e.insn());
    if (!to_linear(e, e.insn().memory.segment, offset, size, write, linear))
        return false;
    if (!e.insn().aligned || (linear & (size - 1)) == 0)
        return true;
    inject_gp(e.vmx);
    return false;
}

// ---- Operands ---------------------------------------------------------------

namespace {

bool load_memory(Emulation &e, u32 size, bool for_write, u64 &value)
{
    if (!operand_linear(e, size, for_write, e.operand_linear) ||
        !read_source(e, e.operand_linear, size, for_write))
        return false;
    value = load_little_endian(e.pending.data, size);
    return true;
}

bool load(Emulation &e, const Operand &operand, bool for_write, u64 &value)
{
    value = 0;
    switch (operand.kind) {
    case OperandKind::kRegister:
        value = read_register_operand(e.vmx, operand);
        break;
    case OperandKind::kImmediate:
        value = e.insn().immediate;
        break;
    case OperandKind::kMemory:
        return load_memory(e, operand.size, for_write, value);
    case OperandKind::kSegment:
        value = segment_selector(e.vmx, static_cast<Segment>(operand.reg));
        break;
    default: // read by those who know what to do with them
        break;
    }
    return true;
}

} // namespace

bool load_operand(Emulation &e, const Operand &operand, u64 &value)
{
    return load(e, operand, false, value);
}

bool load_destination(Emulation &e, const Operand &operand, u64 &value)
{
    return load(e, operand, true, value);
}

bool store_operand(Emulation &e, const Operand &operand, u64 value)
{
    if (operand.kind == OperandKind::kRegister) {
        write_register_operand(e.vmx, operand, value);
        return true;
    }
    u64 linear;
    if (!operand_linear(e, operand.size, true, linear))
        return false;
    store_little_endian(e.pending.data, value, operand.size);
    return write_destination(e, linear, operand.size);
}

bool store_destination(Emulation &e, const Operand &operand, u64 old, u64 value)
{
    if (operand.kind == OperandKind::kRegister) {
        write_register_operand(e.vmx, operand, value);
        return true;
    }
    store_little_endian(e.pending.data, value, operand.size);
    // XCHG with memory locks without being told: SDM Vol. 3A, 9.1.2.1.
    if (e.insn().lock || e.insn().operation == Operation::kXchg)
        return exchange_destination(e, e.operand_linear, operand.size, old);
    return write_destination(e, e.operand_linear, operand.size);
}

} // namespace minivmx
