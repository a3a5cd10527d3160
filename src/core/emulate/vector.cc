// SPDX-License-Identifier: GPL-2.0-only
// Moves between memory, general registers and the XMM, YMM and MMX registers, which are the host's
// to read and write.
#include "emulator.hpp"

namespace minivmx {

namespace {

constexpr u64 kXcr0SseAvx = bit64(1) | bit64(2);

// SDM Vol. 2A, tables 2-17 to 2-22 (exception classes 1 to 5); Vol. 3A, 13.1 for SSE, table 12-1
// for MMX. False: an exception is queued.
bool vectors_enabled(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool mmx =
        insn.destination.kind == OperandKind::kMmx || insn.source.kind == OperandKind::kMmx;
    const u64 cr0 = guest_cr0(e.vmx);
    const u64 cr4 = guest_cr4(e.vmx);
    bool enabled;
    if (insn.vector_size != 0)
        enabled = e.state.protected_mode && (read_rflags(e.vmx) & X86_EFLAGS_VM) == 0 &&
                  (cr4 & X86_CR4_OSXSAVE) != 0 && (e.vmx.msrs.xcr0 & kXcr0SseAvx) == kXcr0SseAvx;
    else
        enabled = (cr0 & X86_CR0_EM) == 0 && (mmx || (cr4 & X86_CR4_OSFXSR) != 0);
    if (!enabled) {
        inject_ud(e.vmx);
        return false;
    }
    if ((cr0 & X86_CR0_TS) != 0) {
        queue_exception(e.vmx, NM_VECTOR);
        return false;
    }
    return true;
}

// A register as memory sees it. Without AVX only 16 bytes are touched; a VEX prefix clears what is
// above them.
struct VectorBytes {
    alignas(16) u8 bytes[32];
};

// False: #MF is queued, which MMX instructions raise for an x87 exception that waits.
bool read_vector(Emulation &e, const Operand &operand, VectorBytes &vector)
{
    if (operand.kind == OperandKind::kMmx) {
        u64 value = 0;
        if (!host_read_mmx(operand.reg, &value)) {
            queue_exception(e.vmx, MF_VECTOR);
            return false;
        }
        store_little_endian(vector.bytes, value, 8);
    } else if (e.insn().vector_size == 32) {
        host_read_ymm(operand.reg, vector.bytes);
    } else {
        host_read_xmm(operand.reg, vector.bytes);
    }
    return true;
}

// False: see read_vector().
bool write_vector(Emulation &e, const Operand &operand, const VectorBytes &vector)
{
    if (operand.kind == OperandKind::kMmx) {
        if (!host_write_mmx(operand.reg, load_little_endian(vector.bytes, 8))) {
            queue_exception(e.vmx, MF_VECTOR);
            return false;
        }
    } else if (e.insn().vector_size != 0) {
        host_write_ymm(operand.reg, vector.bytes);
    } else {
        host_write_xmm(operand.reg, vector.bytes);
    }
    return true;
}

// Where in the register the operand's bytes are.
u32 part_of_vector(const Instruction &insn)
{
    return insn.operation == Operation::kMovHigh ? 8 : 0;
}

bool load_vector(Emulation &e, u64 linear)
{
    const Instruction &insn = e.insn();
    const u32 at = part_of_vector(insn);
    VectorBytes vector{};
    if (!read_source(e, linear, insn.source.size))
        return false;
    // MOVLPS and its like replace one half; the other one stays, or comes from the third operand.
    if (insn.operation != Operation::kMovVector) {
        const Operand &other =
            insn.third.kind == OperandKind::kVector ? insn.third : insn.destination;
        if (!read_vector(e, other, vector))
            return false;
    }
    for (u32 i = 0; i < insn.source.size; i++)
        vector.bytes[at + i] = e.pending.data[i];
    return write_vector(e, insn.destination, vector);
}

bool store_vector(Emulation &e, u64 linear)
{
    const Instruction &insn = e.insn();
    const u32 at = part_of_vector(insn);
    VectorBytes vector;
    if (!read_vector(e, insn.source, vector))
        return false;
    for (u32 i = 0; i < insn.destination.size; i++)
        e.pending.data[i] = vector.bytes[at + i];
    return write_destination(e, linear, insn.destination.size);
}

// ---- From register to register ----------------------------------------------

// What of the source goes where in the destination.
struct VectorPart {
    u32 from, to;
    bool keeps_rest; // or the rest becomes 0
};

VectorPart part_to_move(Operation operation)
{
    switch (operation) {
    case Operation::kMovPart:
        return {0, 0, true};
    case Operation::kMovHighToLow:
        return {8, 0, true};
    case Operation::kMovLowToHigh:
        return {0, 8, true};
    default:
        return {0, 0, false};
    }
}

bool load_source(Emulation &e, VectorBytes &vector)
{
    u64 value;
    if (e.insn().source.kind != OperandKind::kRegister)
        return read_vector(e, e.insn().source, vector);
    (void)load_operand(e, e.insn().source, value);
    store_little_endian(vector.bytes, value, e.insn().source.size);
    return true;
}

bool move_between_registers(Emulation &e)
{
    const Instruction &insn = e.insn();
    const VectorPart part = part_to_move(insn.operation);
    VectorBytes source{};
    VectorBytes result{};
    if (!load_source(e, source))
        return false;
    if (insn.destination.kind == OperandKind::kRegister)
        return store_operand(e, insn.destination,
                             load_little_endian(source.bytes, insn.destination.size));
    if (part.keeps_rest && !read_vector(e, insn.destination, result))
        return false;
    for (u32 i = 0; i < insn.source.size; i++)
        result.bytes[part.to + i] = source.bytes[part.from + i];
    return write_vector(e, insn.destination, result);
}

bool move_with_memory(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool stores = insn.destination.kind == OperandKind::kMemory;
    const u32 size = stores ? insn.destination.size : insn.source.size;
    u64 linear;
    return operand_linear(e, size, stores, linear) &&
           (stores ? store_vector(e, linear) : load_vector(e, linear));
}

} // namespace

void execute_vector(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool in_memory =
        insn.destination.kind == OperandKind::kMemory || insn.source.kind == OperandKind::kMemory;
    if (vectors_enabled(e) && (in_memory ? move_with_memory(e) : move_between_registers(e)))
        finish_instruction(e.vmx, insn.length);
}

} // namespace minivmx
