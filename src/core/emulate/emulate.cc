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

// Which function carries operations out; they stand in families in the enumeration.
struct FamilyRange {
    Operation first, last;
    Family family;
};

namespace families {

using enum Operation;

// clang-format off
constexpr FamilyRange kRanges[] = {
    {kAdd,         kCmp,           execute_arithmetic},
    {kRol,         kSar,           execute_shift},
    {kTest,        kNeg,           execute_arithmetic},
    {kMul,         kIdiv,          execute_multiply},
    {kInc,         kDec,           execute_arithmetic},
    {kImulTo,      kImulTo,        execute_multiply},
    {kShld,        kShrd,          execute_shift},
    {kXadd,        kCmpxchgPair,   execute_exchange},
    {kBt,          kLzcnt,         execute_bits},
    {kMov,         kMovbe,         execute_move},
    {kXchg,        kXchg,          execute_exchange},
    {kSetcc,       kCmovcc,        execute_move},
    {kPush,        kPop,           execute_stack},
    {kStoreSegment, kLoadSegment,  execute_move},
    {kNop,         kFlushLine,     execute_move},
    {kLea,         kConvertDouble, execute_conversion},
    {kJmp,         kJcxz,          execute_branch},
    {kPushAll,     kPopAll,        execute_stack},
    {kPushFlags,   kPopFlags,      execute_flags_on_stack},
    {kEnter,       kLeave,         execute_stack},
    {kClc,         kSahf,          execute_flags},
    {kDaa,         kAad,           execute_decimal},
    {kBound,       kBound,         execute_bound},
    {kPause,       kRdpmc,         execute_processor},
    {kIn,          kOut,           execute_port},
    {kWait,        kFldcw,         execute_x87},
    {kLoadSegment, kPopSegment,    execute_segment_load},
    {kJmpFar,      kRetFar,        execute_far},
    {kInt,         kIcebp,         execute_interrupt},
    {kIret,        kIret,          execute_far},
    {kSyscall,     kSysexit,       execute_fast_call},
    {kMovFromControl, kMovToControl, execute_privileged},
    {kMovFromDebug, kMovToDebug,   execute_system},
    {kClts,        kLmsw,          execute_privileged},
    {kSmsw,        kSmsw,          execute_system},
    {kRdmsr,       kWrmsr,         execute_privileged},
    {kXgetbv,      kXsetbv,        execute_system},
    {kInvd,        kHlt,           execute_privileged},
    {kMonitor,     kRsm,           execute_system},
    {kLoadFarPointer, kLoadFarPointer, execute_segment_load},
    {kArpl,        kArpl,          execute_arpl},
    {kLar,         kVerw,          execute_selector_question},
    {kSwapgs,      kWriteSegmentBase, execute_segment_base},
    {kFxsave,      kStmxcsr,       execute_fx_state},
    {kMovVector,   kMovLowToHigh,  execute_vector},
    {kSgdt,        kLtr,           execute_table_access},
    {kInvpcid,     kInvpcid,       execute_invpcid},
    {kMovs,        kScas,          execute_string},
};
// clang-format on

struct FamilyTable {
    Family family[kOperationCount] = {}; // null: only the CPU can carry it out
};

consteval FamilyTable make_table()
{
    FamilyTable table;
    for (const FamilyRange &range : kRanges)
        for (u32 i = static_cast<u32>(range.first); i <= static_cast<u32>(range.last); i++)
            table.family[i] = range.family;
    return table;
}

constexpr FamilyTable kTable = make_table();

} // namespace families

} // namespace

Outcome execute(Emulation &e)
{
    const Operation operation = e.insn().operation;
    set_instruction_length(e.vmx, e.insn().length);
    if (operation == Operation::kIns)
        return execute_ins(e);
    if (operation == Operation::kOuts)
        return execute_outs(e);
    const Family family = families::kTable.family[static_cast<u32>(operation)];
    if (!family)
        return fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    family(e);
    return e.outcome;
}

Outcome emulate_instruction(vcpu_vmx &vmx)
{
    Outcome outcome = Outcome::resume();
    if (!cross_boundary(vmx, outcome))
        return outcome;
    Emulation e{vmx};
    e.forget_reads();
    if (!fetch_and_decode(e))
        return e.outcome;
    return execute(e);
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

[[gnu::noinline]] Outcome emulate_access(vcpu_vmx &vmx, const KnownTranslation &known)
{
    Emulation e{vmx};
    e.forget_reads();
    if (!fetch_and_decode(e))
        return e.outcome;
    e.known = known;
    remember_move(e, known.gpa);
    return execute(e);
}

Outcome emulate_mmio(vcpu_vmx &vmx, u64 gpa)
{
    KnownTranslation known{};
    if ((vmx.exit_reason & kExitReasonBasicMask) == EXIT_REASON_EPT_VIOLATION) {
        const EptViolationInfo access = EptViolationInfo::decode(exit_qualification(vmx));
        if (access.linear_address_valid && access.to_final_page)
            known = {true, access.write, vmcs_read(GUEST_LINEAR_ADDRESS), gpa};
    }
    Emulation e{vmx};
    e.forget_reads();
    if (!fetch_and_decode(e))
        return e.outcome;
    e.known = known;
    if (vmx.exit_reason == EXIT_REASON_EPT_MISCONFIG) // which all but the first access end in
        remember_move(e, gpa);
    return execute(e);
}

} // namespace minivmx
