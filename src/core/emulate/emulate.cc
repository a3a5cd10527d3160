// SPDX-License-Identifier: GPL-2.0-only
// Execution of emulated instructions, and what becomes of those we don't know.
#include "emulator.hpp"

namespace minivmx {

// ---- Ends of an instruction -------------------------------------------------

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

using Family = void (*)(Emulation &);

// Which function carries an operation out; they stand in families in the enumeration.
Family family_of(Operation operation)
{
    using enum Operation;
    if (operation >= kAdd && operation <= kCmp)
        return execute_arithmetic;
    if (operation >= kRol && operation <= kSar)
        return execute_shift;
    switch (operation) {
    case kTest:
    case kNot:
    case kNeg:
    case kInc:
    case kDec:
        return execute_arithmetic;
    case kShld:
    case kShrd:
        return execute_shift;
    case kMul:
    case kImul:
    case kDiv:
    case kIdiv:
    case kImulTo:
        return execute_multiply;
    case kXchg:
    case kXadd:
    case kCmpxchg:
    case kCmpxchgPair:
        return execute_exchange;
    case kInvpcid:
        return execute_invpcid;
    default:
        break;
    }
    if (operation >= kBt && operation <= kLzcnt)
        return execute_bits;
    if (operation >= kMovVector && operation <= kMovHigh)
        return execute_vector;
    if (operation >= kSgdt && operation <= kLtr)
        return execute_table_access;
    if (operation >= kMov && operation <= kNop)
        return execute_move;
    return execute_string;
}

} // namespace

Outcome execute(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kIns:
        return execute_ins(e);
    case Operation::kOuts:
        return execute_outs(e);
    case Operation::kXsaves:
    case Operation::kXrstors:
        return fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    case Operation::kUnknown:
        return fail_emulation(e.vmx, nullptr, 0);
    default:
        family_of(e.insn().operation)(e);
        return e.outcome;
    }
}

Outcome emulate_exited(vcpu_vmx &vmx, Operation first, Operation last)
{
    Emulation e{vmx};
    e.forget_reads();
    if (!fetch_and_decode(e))
        return e.outcome;
    if (e.insn().operation < first || e.insn().operation > last)
        return Outcome::resume();
    return execute(e);
}

Outcome emulate_mmio(vcpu_vmx &vmx, u64 gpa)
{
    Emulation e{vmx};
    e.forget_reads();
    if (!fetch_and_decode(e))
        return e.outcome;
    if ((vmx.exit_reason & kExitReasonBasicMask) == EXIT_REASON_EPT_VIOLATION) {
        const EptViolationInfo access = EptViolationInfo::decode(exit_qualification(vmx));
        if (access.linear_address_valid && access.to_final_page)
            e.known = {true, access.write, vmcs_read(GUEST_LINEAR_ADDRESS), gpa};
    }
    return execute(e);
}

} // namespace minivmx
