// SPDX-License-Identifier: GPL-2.0-only
// Operands of emulated instructions: registers, and memory that is partly or wholly user space's.
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

namespace {

u64 size_mask(u32 size)
{
    return size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1;
}

// Writes of 32 bits clear the upper half, narrower ones keep the rest: SDM Vol. 1, 3.4.1.1.
void write_gpr_part(vcpu_vmx &vmx, u8 reg, u32 size, u64 value)
{
    value &= size_mask(size);
    if (size < 4)
        value |= read_gpr(vmx, reg) & ~size_mask(size);
    write_gpr(vmx, reg, value);
}

} // namespace

u64 read_register_operand(Emulation &e, const Operand &operand)
{
    return read_gpr(e.vmx, operand.reg) >> (operand.high_byte ? 8 : 0) & size_mask(operand.size);
}

void write_register_operand(Emulation &e, const Operand &operand, u64 value)
{
    if (operand.high_byte)
        write_gpr_part(e.vmx, operand.reg, 2,
                       (value & 0xff) << 8 | (read_gpr(e.vmx, operand.reg) & 0xff));
    else
        write_gpr_part(e.vmx, operand.reg, operand.size, value);
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

u64 memory_offset(Emulation &e)
{
    const MemoryOperand &memory = e.insn().memory;
    u64 offset = memory.displacement;
    if (memory.base != kNoRegister)
        offset += read_gpr(e.vmx, memory.base);
    if (memory.index != kNoRegister)
        offset += read_gpr(e.vmx, memory.index) * memory.scale;
    if (memory.rip_relative)
        offset += read_rip(e.vmx) + e.insn().length;
    return offset & address_mask(e.insn());
}

// ---- Iterations -------------------------------------------------------------

u64 iterations_left(Emulation &e)
{
    const bool repeated = e.insn().rep || e.insn().repne;
    return repeated ? read_address_register(e, kRcx) : 1;
}

void finish_iterations(Emulation &e, u64 n)
{
    if (e.insn().rep || e.insn().repne) {
        const u64 left = read_address_register(e, kRcx);
        write_address_register(e, kRcx, left > n ? left - n : 0);
        if (left > n) {
            // The instruction goes on from here: a breakpoint on it must not hit again. SDM Vol.
            // 3B, 18.3.1.1.
            write_rflags(e.vmx, read_rflags(e.vmx) | X86_EFLAGS_RF);
            set_interrupt_shadow_off(e.vmx);
            return;
        }
    }
    finish_instruction(e.vmx, e.insn().length);
}

// ---- Memory -----------------------------------------------------------------

bool to_linear(Emulation &e, u8 segment, u64 offset, u32 size, bool write, u64 &linear)
{
    GuestFault fault;
    if (segment_to_linear(e.state, segment, offset, size, Access{.write = write}, linear, fault) ==
        MemoryResult::kOk)
        return true;
    inject_fault(e.vmx, fault);
    return false;
}

namespace {

// An operand cut at the page boundary.
struct Pieces {
    MmioFragment piece[2];
    u32 count;
};

// False: a page fault is queued.
bool translate_operand(Emulation &e, u64 linear, u32 size, bool write, Pieces &pieces)
{
    const u32 room = static_cast<u32>(kPageSize - (linear & (kPageSize - 1)));
    const u32 first = size < room ? size : room;
    pieces.count = first < size ? 2 : 1;
    pieces.piece[0] = {0, 0, static_cast<u8>(first)};
    pieces.piece[1] = {0, static_cast<u8>(first), static_cast<u8>(size - first)};

    if (e.known.valid && e.known.write == write && e.known.linear == linear && pieces.count == 1) {
        pieces.piece[0].gpa = e.known.gpa;
        return true;
    }
    for (u32 i = 0; i < pieces.count; i++) {
        GuestFault fault;
        const u64 address = advance_linear(e.state, linear, pieces.piece[i].offset);
        if (translate(e.vmx, e.state, address, Access{.write = write}, pieces.piece[i].gpa,
                      fault) != MemoryResult::kOk) {
            inject_fault(e.vmx, fault);
            return false;
        }
    }
    return true;
}

void add_fragment(PendingInstruction &pending, const MmioFragment &piece)
{
    pending.fragments[pending.fragment_count++] = piece;
}

} // namespace

void ask_for_fragment(vcpu_vmx &vmx)
{
    const PendingInstruction &pending = vmx.pending;
    const MmioFragment &fragment = pending.fragments[pending.fragment_next];
    const bool write = pending.kind == PendingIo::kMmioWrite;
    const u32 size = fragment.size < 8 ? fragment.size : 8;
    kvm_run *run = vmx.area->run;
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = fragment.gpa;
    run->mmio.len = size;
    run->mmio.is_write = write;
    for (u32 i = 0; i < sizeof(run->mmio.data); i++)
        run->mmio.data[i] = write && i < size ? pending.data[fragment.offset + i] : 0;
}

bool read_source(Emulation &e, u64 linear, u32 size)
{
    PendingInstruction &pending = e.pending;
    if (pending.source_read)
        return true;

    Pieces pieces;
    if (!translate_operand(e, linear, size, false, pieces))
        return false;
    pending.fragment_count = pending.fragment_next = 0;
    for (u32 i = 0; i < pieces.count; i++) {
        const MmioFragment &piece = pieces.piece[i];
        if (read_guest_phys(e.vmx, piece.gpa, pending.data + piece.offset, piece.size) !=
            MemoryResult::kOk)
            add_fragment(pending, piece);
    }
    pending.source_read = pending.fragment_count == 0;
    if (pending.source_read)
        return true;
    pending.kind = PendingIo::kMmioRead;
    ask_for_fragment(e.vmx);
    e.outcome = Outcome::to_user();
    return false;
}

bool probe_write(Emulation &e, u64 linear, u32 size)
{
    Pieces pieces;
    return translate_operand(e, linear, size, true, pieces);
}

bool write_destination(Emulation &e, u64 linear, u32 size)
{
    PendingInstruction &pending = e.pending;
    Pieces pieces;
    if (!translate_operand(e, linear, size, true, pieces))
        return false;
    pending.fragment_count = pending.fragment_next = 0;
    for (u32 i = 0; i < pieces.count; i++) {
        const MmioFragment &piece = pieces.piece[i];
        if (write_guest_phys(e.vmx, piece.gpa, pending.data + piece.offset, piece.size) !=
            MemoryResult::kOk)
            add_fragment(pending, piece);
    }
    if (pending.fragment_count != 0) {
        pending.kind = PendingIo::kMmioWrite;
        ask_for_fragment(e.vmx);
        e.outcome = Outcome::to_user();
    }
    return true;
}

} // namespace minivmx
