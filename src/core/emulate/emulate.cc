// SPDX-License-Identifier: GPL-2.0-only
// Execution of emulated instructions, and what becomes of those we don't know.
#include "emulator.hpp"

namespace minivmx {

// ---- Ends of an instruction -------------------------------------------------

void finish_instruction(vcpu_vmx &vmx, u32 length)
{
    constexpr u64 kPendingSingleStep = bit64(14); // BS: SDM Vol. 3C, 25.4.2, table 25-4
    const u64 rip = read_rip(vmx) + length;
    write_rip(vmx, is_64_bit_code(vmx) ? rip : static_cast<u32>(rip));
    set_interrupt_shadow_off(vmx);
    const u64 rflags = read_rflags(vmx);
    if ((rflags & X86_EFLAGS_RF) != 0)
        write_rflags(vmx, rflags & ~X86_EFLAGS_RF);
    if ((rflags & X86_EFLAGS_TF) != 0)
        vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS,
                   vmcs_read(GUEST_PENDING_DBG_EXCEPTIONS) | kPendingSingleStep);
}

Outcome emulation_failure(vcpu_vmx &vmx, const u8 *bytes, u32 size)
{
    kvm_run *run = vmx.area->run;
    u32 ndata = 0;
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;

    // The first word holds flags, the next two the instruction, if there is one: struct
    // emulation_failure.
    run->internal.data[ndata++] = size ? KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES : 0;
    if (size) {
        constexpr u8 kNop = 0x90;
        run->emulation_failure.insn_size = static_cast<u8>(size);
        for (u32 i = 0; i < kMaxInstructionLength; i++)
            run->emulation_failure.insn_bytes[i] = i < size ? bytes[i] : kNop;
        ndata += 2;
    }
    const u32 intr_info = exit_intr_info(vmx);
    const bool has_error_code =
        (intr_info & INTR_INFO_VALID) && (intr_info & INTR_INFO_HAS_ERROR_CODE);
    run->internal.data[ndata++] = vmx.exit_reason;
    run->internal.data[ndata++] = exit_qualification(vmx);
    run->internal.data[ndata++] = vmx.idt_vectoring_info;
    run->internal.data[ndata++] = intr_info;
    run->internal.data[ndata++] = has_error_code ? vmcs_read(VM_EXIT_INTR_ERROR_CODE) : 0;
    run->emulation_failure.ndata = ndata;
    return Outcome::to_user();
}

Outcome fail_emulation(vcpu_vmx &vmx, const u8 *bytes, u32 size)
{
    inject_ud(vmx);
    if (guest_cpl(vmx) != 0)
        return Outcome::resume();
    return emulation_failure(vmx, bytes, size);
}

// ---- Execution --------------------------------------------------------------

namespace {

u64 sign_extend(u64 value, u32 size)
{
    const u32 unused = 64 - 8 * size;
    return static_cast<u64>(static_cast<s64>(value << unused) >> unused);
}

// The value of an operand, zero-extended. False: see read_source().
bool load_operand(Emulation &e, const Operand &operand, u64 &value)
{
    switch (operand.kind) {
    case OperandKind::kRegister:
        value = read_register_operand(e, operand);
        return true;
    case OperandKind::kImmediate:
        value = e.insn().immediate;
        return true;
    case OperandKind::kMemory: {
        u64 linear;
        if (!to_linear(e, e.insn().memory.segment, memory_offset(e), operand.size, false, linear) ||
            !read_source(e, linear, operand.size))
            return false;
        value = load_little_endian(e.pending.data, operand.size);
        return true;
    }
    case OperandKind::kNone:
        break;
    }
    value = 0;
    return true;
}

bool store_operand(Emulation &e, const Operand &operand, u64 value)
{
    if (operand.kind == OperandKind::kRegister) {
        write_register_operand(e, operand, value);
        return true;
    }
    u64 linear;
    if (!to_linear(e, e.insn().memory.segment, memory_offset(e), operand.size, true, linear))
        return false;
    store_little_endian(e.pending.data, value, operand.size);
    return write_destination(e, linear, operand.size);
}

// MOV, MOVZX, MOVSX: they differ in how the source becomes as wide as the destination.
void execute_mov(Emulation &e)
{
    const Instruction &insn = e.insn();
    u64 value;
    if (!load_operand(e, insn.source, value))
        return;
    if (insn.operation == Operation::kMovsx)
        value = sign_extend(value, insn.source.size);
    if (store_operand(e, insn.destination, value))
        finish_instruction(e.vmx, insn.length);
}

// One iteration of MOVS, STOS or LODS; what is left of a REP the guest does itself, or comes back
// for.
void execute_string(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool loads = insn.operation != Operation::kStos;
    const bool stores = insn.operation != Operation::kLods;
    const u32 size = stores ? insn.destination.size : insn.source.size;
    u64 linear;

    if (iterations_left(e) == 0) {
        finish_instruction(e.vmx, insn.length);
        return;
    }
    if (loads) {
        if (!to_linear(e, insn.memory.segment, read_address_register(e, kRsi), size, false,
                       linear) ||
            !read_source(e, linear, size))
            return;
    } else {
        store_little_endian(e.pending.data, read_gpr(e.vmx, kRax), size);
    }
    if (stores) {
        if (!to_linear(e, kEs, read_address_register(e, kRdi), size, true, linear) ||
            !write_destination(e, linear, size))
            return;
        advance_address_register(e, kRdi, 1, size);
    } else {
        write_register_operand(e, insn.destination, load_little_endian(e.pending.data, size));
    }
    if (loads)
        advance_address_register(e, kRsi, 1, size);
    finish_iterations(e, 1);
}

} // namespace

Outcome execute(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kMov:
    case Operation::kMovzx:
    case Operation::kMovsx:
        execute_mov(e);
        return e.outcome;
    case Operation::kMovs:
    case Operation::kStos:
    case Operation::kLods:
        execute_string(e);
        return e.outcome;
    case Operation::kIns:
        return execute_ins(e);
    case Operation::kOuts:
        return execute_outs(e);
    case Operation::kUnknown:
        break;
    }
    return fail_emulation(e.vmx, nullptr, 0);
}

Outcome emulate_mmio(vcpu_vmx &vmx, u64 gpa)
{
    const EptViolationInfo access = EptViolationInfo::decode(exit_qualification(vmx));
    Emulation e{vmx};
    e.pending.source_read = false;
    if (!fetch_and_decode(e))
        return e.outcome;
    // A misconfiguration tells neither: SDM Vol. 3C, 28.2.1.
    const bool told = (vmx.exit_reason & kExitReasonBasicMask) == EXIT_REASON_EPT_VIOLATION;
    if (told && access.linear_address_valid && access.to_final_page)
        e.known = {true, access.write, vmcs_read(GUEST_LINEAR_ADDRESS), gpa};
    return execute(e);
}

} // namespace minivmx
