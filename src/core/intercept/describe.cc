// SPDX-License-Identifier: GPL-2.0-only
// What an exit that a client asked for says of itself: SDM Vol. 3C, 28.2 "Recording VM-Exit
// Information", decoded. Nothing of the guest changes here.
#include <minivmx/hardware.hpp>
#include <minivmx/intercept.hpp>
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>

#include "../emulate/emulator.hpp"
#include "detail.hpp"

namespace minivmx {

namespace {

using Facts = minivmx_exit_intercept;

// ---- Which intercept an exit belongs to ---------------------------------------------------------

u64 intercept_of_cr_access(const CrAccessInfo &access)
{
    const bool load = access.type != CrAccessInfo::kMovFrom;
    switch (access.cr) {
    case 0:
        return MINIVMX_INTERCEPT_CR0_WRITE;
    case 3:
        return load ? MINIVMX_INTERCEPT_CR3_LOAD : MINIVMX_INTERCEPT_CR3_STORE;
    case 4:
        return MINIVMX_INTERCEPT_CR4_WRITE;
    case 8:
        return load ? MINIVMX_INTERCEPT_CR8_LOAD : MINIVMX_INTERCEPT_CR8_STORE;
    default:
        return 0;
    }
}

// Emulated UMIP: the guest gets #GP, as it would from a CPU that has UMIP, without an exit.
bool umip_forbids(vcpu_vmx &vmx)
{
    return guest_cpl(vmx) > 0 && (guest_cr4(vmx) & X86_CR4_UMIP) != 0;
}

// 0 for exits that no control's intercept makes. A guest without RDRAND in its CPUID gets #UD, of
// which nobody wants to hear that it is RDRAND.
u64 intercept_of_exit(vcpu_vmx &vmx, u32 basic)
{
    switch (basic) {
    case EXIT_REASON_HLT:
        return MINIVMX_INTERCEPT_HLT;
    case EXIT_REASON_INVLPG:
    case EXIT_REASON_INVPCID:
        return MINIVMX_INTERCEPT_INVLPG;
    case EXIT_REASON_MWAIT_INSTRUCTION:
        return MINIVMX_INTERCEPT_MWAIT;
    case EXIT_REASON_MONITOR_INSTRUCTION:
        return MINIVMX_INTERCEPT_MONITOR;
    case EXIT_REASON_PAUSE_INSTRUCTION:
        return MINIVMX_INTERCEPT_PAUSE;
    case EXIT_REASON_RDPMC:
        return MINIVMX_INTERCEPT_RDPMC;
    case EXIT_REASON_RDTSC:
    case EXIT_REASON_RDTSCP:
        return MINIVMX_INTERCEPT_RDTSC;
    case EXIT_REASON_CR_ACCESS:
        return intercept_of_cr_access(CrAccessInfo::decode(exit_qualification(vmx)));
    case EXIT_REASON_DR_ACCESS:
        return MINIVMX_INTERCEPT_MOV_DR;
    case EXIT_REASON_GDTR_IDTR:
    case EXIT_REASON_LDTR_TR:
        return umip_forbids(vmx) ? 0 : MINIVMX_INTERCEPT_DESCRIPTOR_TABLE;
    case EXIT_REASON_WBINVD:
        return MINIVMX_INTERCEPT_WBINVD;
    case EXIT_REASON_RDRAND:
        return vmx.cpuid.has(CpuidFeature::kRdrand) ? MINIVMX_INTERCEPT_RDRAND : 0;
    case EXIT_REASON_RDSEED:
        return vmx.cpuid.has(CpuidFeature::kRdseed) ? MINIVMX_INTERCEPT_RDSEED : 0;
    case EXIT_REASON_UMWAIT:
    case EXIT_REASON_TPAUSE:
        return MINIVMX_INTERCEPT_USER_WAIT;
    case EXIT_REASON_MONITOR_TRAP_FLAG:
        return MINIVMX_INTERCEPT_SINGLE_STEP;
    case EXIT_REASON_INTERRUPT_WINDOW:
        return MINIVMX_INTERCEPT_INTERRUPT_WINDOW;
    case EXIT_REASON_NMI_WINDOW:
        return MINIVMX_INTERCEPT_NMI_WINDOW;
    default:
        return 0;
    }
}

bool is_event(u64 control)
{
    return control & (MINIVMX_INTERCEPT_SINGLE_STEP | MINIVMX_INTERCEPT_INTERRUPT_WINDOW |
                      MINIVMX_INTERCEPT_NMI_WINDOW);
}

// ---- Facts of the kinds of exits ----------------------------------------------------------------

u8 register_width(vcpu_vmx &vmx)
{
    return is_64_bit_code(vmx) ? 8 : 4;
}

u64 register_operand(vcpu_vmx &vmx, u8 reg)
{
    const u64 value = read_gpr(vmx, reg);
    return is_64_bit_code(vmx) ? value : static_cast<u32>(value);
}

void describe_cr_access(vcpu_vmx &vmx, Facts &facts)
{
    const CrAccessInfo access = CrAccessInfo::decode(exit_qualification(vmx));
    constexpr u64 kLmswFromMemory = bit64(6);
    facts.number = access.cr;
    facts.is_write = access.type != CrAccessInfo::kMovFrom;
    switch (access.type) {
    case CrAccessInfo::kMovTo:
    case CrAccessInfo::kMovFrom:
        facts.reg = access.gpr;
        facts.size = register_width(vmx);
        if (facts.is_write)
            facts.value = register_operand(vmx, access.gpr);
        break;
    case CrAccessInfo::kClts:
        facts.value = guest_cr0(vmx) & ~X86_CR0_TS;
        break;
    case CrAccessInfo::kLmsw:
        facts.value = cr0_after_lmsw(guest_cr0(vmx), access.lmsw_source);
        facts.size = 2;
        if (exit_qualification(vmx) & kLmswFromMemory)
            facts.address = vmcs_read(GUEST_LINEAR_ADDRESS);
        break;
    }
}

void describe_dr_access(vcpu_vmx &vmx, Facts &facts)
{
    const DrAccessInfo access = DrAccessInfo::decode(exit_qualification(vmx));
    facts.number = access.dr;
    facts.is_write = !access.from;
    facts.reg = access.gpr;
    facts.size = register_width(vmx);
    if (facts.is_write)
        facts.value = register_operand(vmx, access.gpr);
}

// SDM Vol. 3C, 28.2.5, tables 28-12 (RDRAND and RDSEED) and that of TPAUSE and UMWAIT.
u8 register_of(u32 instruction_info)
{
    return instruction_info >> 3 & 15;
}

void describe_random(Facts &facts)
{
    facts.info = vmcs_read(VMX_INSTRUCTION_INFO);
    facts.reg = register_of(facts.info);
    facts.size = random_size(facts.info);
}

void describe_user_wait(vcpu_vmx &vmx, Facts &facts)
{
    facts.info = vmcs_read(VMX_INSTRUCTION_INFO);
    facts.reg = register_of(facts.info);
    facts.number = static_cast<u32>(read_gpr(vmx, facts.reg));
    facts.value = read_edx_eax(vmx);
}

// Where an operand of this size lies; 0 if it is a register, or beyond its segment, which the guest
// has yet to find out.
u64 linear_operand(vcpu_vmx &vmx, const Instruction &insn, const Operand &operand)
{
    if (operand.kind != OperandKind::kMemory)
        return 0;
    u64 linear;
    GuestFault fault;
    return segment_to_linear(vmx, address_state(vmx), insn.memory.segment, memory_offset(vmx, insn),
                             operand.size, Access{}, linear, fault) == MemoryResult::kOk
               ? linear
               : 0;
}

u64 table_register(const vcpu_vmx &vmx, u32 number)
{
    switch (number) {
    case MINIVMX_SGDT:
        return vmcs_read(GUEST_GDTR_BASE);
    case MINIVMX_SIDT:
        return vmcs_read(GUEST_IDTR_BASE);
    case MINIVMX_SLDT:
        return segment_selector(vmx, kLdtr);
    case MINIVMX_STR:
        return segment_selector(vmx, kTr);
    default:
        return 0;
    }
}

// SDM Vol. 3C, 28.2.5, tables 28-10 and 28-11: which instruction it is. Of the operand's size they
// don't tell enough, so the instruction is decoded.
void describe_table_access(vcpu_vmx &vmx, u32 basic, Facts &facts)
{
    facts.info = vmcs_read(VMX_INSTRUCTION_INFO);
    facts.number = (facts.info >> 28 & 3) + (basic == EXIT_REASON_LDTR_TR ? MINIVMX_SLDT : 0);
    facts.is_write = (facts.number & 2) != 0;
    facts.value = table_register(vmx, facts.number);
    Instruction insn;
    if (!peek_instruction(vmx, address_state(vmx), insn) ||
        insn.operation != static_cast<Operation>(static_cast<u32>(Operation::kSgdt) + facts.number))
        return;
    const Operand &operand = facts.is_write ? insn.source : insn.destination;
    facts.size = operand.size;
    facts.address = linear_operand(vmx, insn, operand);
    if (operand.kind != OperandKind::kRegister)
        return;
    facts.reg = operand.reg;
    if (facts.is_write)
        facts.value = static_cast<u16>(read_gpr(vmx, operand.reg));
}

void describe_invpcid(vcpu_vmx &vmx, Facts &facts)
{
    facts.info = vmcs_read(VMX_INSTRUCTION_INFO);
    facts.reg = facts.info >> 28 & 15; // SDM Vol. 3C, 28.2.5, table 28-9: Reg2
    facts.number = static_cast<u32>(read_gpr(vmx, facts.reg));
    Instruction insn;
    if (!peek_instruction(vmx, address_state(vmx), insn) || insn.operation != Operation::kInvpcid)
        return;
    facts.size = insn.source.size;
    facts.address = linear_operand(vmx, insn, insn.source);
}

void describe_instruction(vcpu_vmx &vmx, u32 basic, Facts &facts)
{
    switch (basic) {
    case EXIT_REASON_CR_ACCESS:
        describe_cr_access(vmx, facts);
        break;
    case EXIT_REASON_DR_ACCESS:
        describe_dr_access(vmx, facts);
        break;
    case EXIT_REASON_RDTSC:
    case EXIT_REASON_RDTSCP:
        facts.value = guest_tsc(vmx);
        break;
    case EXIT_REASON_RDPMC:
    case EXIT_REASON_MWAIT_INSTRUCTION:
    case EXIT_REASON_MONITOR_INSTRUCTION:
        facts.number = static_cast<u32>(read_gpr(vmx, kRcx));
        facts.value = read_gpr(vmx, kRax);
        break;
    case EXIT_REASON_INVLPG:
        facts.address = exit_qualification(vmx);
        break;
    case EXIT_REASON_INVPCID:
        describe_invpcid(vmx, facts);
        break;
    case EXIT_REASON_GDTR_IDTR:
    case EXIT_REASON_LDTR_TR:
        describe_table_access(vmx, basic, facts);
        break;
    case EXIT_REASON_RDRAND:
    case EXIT_REASON_RDSEED:
        describe_random(facts);
        break;
    case EXIT_REASON_UMWAIT:
    case EXIT_REASON_TPAUSE:
        describe_user_wait(vmx, facts);
        break;
    default:
        break;
    }
}

bool describe_port(vcpu_vmx &vmx, Facts &facts)
{
    const IoInfo info = IoInfo::decode(exit_qualification(vmx));
    if (!intercepts_port(vmx, info.port, info.size))
        return false;
    facts.number = info.port;
    facts.size = info.size;
    facts.is_write = !info.in;
    if (info.string)
        facts.address = vmcs_read(GUEST_LINEAR_ADDRESS);
    else
        facts.reg = kRax;
    if (!info.in && !info.string)
        facts.value = read_gpr(vmx, kRax) & ((u64{1} << 8 * info.size) - 1);
    return true;
}

bool describe_msr(vcpu_vmx &vmx, bool write, Facts &facts)
{
    facts.number = static_cast<u32>(read_gpr(vmx, kRcx));
    facts.is_write = write;
    facts.size = 8;
    if (write)
        facts.value = read_edx_eax(vmx);
    return intercepts_msr(vmx, facts.number, write ? MINIVMX_MSR_WRITE : MINIVMX_MSR_READ);
}

// ---- Exceptions ---------------------------------------------------------------------------------

InterceptWait kind_of_exception(u32 information)
{
    switch (information & INTR_INFO_TYPE_MASK) {
    case INTR_TYPE_SOFT_EXCEPTION:    // INT3, INTO
    case INTR_TYPE_PRIV_SW_EXCEPTION: // INT1
        return InterceptWait::kInstruction;
    default:
        return (information & INTR_INFO_VECTOR_MASK) == DB_VECTOR ? InterceptWait::kEvent
                                                                  : InterceptWait::kFault;
    }
}

void describe_xsave(vcpu_vmx &vmx, const Instruction &insn, Facts &facts)
{
    const bool restores = insn.operation == Operation::kXrstors;
    facts.control = MINIVMX_INTERCEPT_XSAVES;
    facts.info = exit_intr_info(vmx);
    facts.number = restores ? MINIVMX_XRSTORS : MINIVMX_XSAVES;
    facts.value = read_edx_eax(vmx); // the components
    facts.address = linear_operand(vmx, insn, restores ? insn.source : insn.destination);
    facts.length = insn.length;
}

bool describe_exception(vcpu_vmx &vmx, Facts &facts, InterceptWait &kind)
{
    const u32 information = exit_intr_info(vmx);
    Instruction insn;
    if (is_intercepted_xsave(vmx, insn)) {
        describe_xsave(vmx, insn, facts);
        return true;
    }
    if (!is_intercepted_exception(vmx, information))
        return false;
    facts.number = information & INTR_INFO_VECTOR_MASK;
    facts.info = information;
    if (information & INTR_INFO_HAS_ERROR_CODE)
        facts.value = vmcs_read(VM_EXIT_INTR_ERROR_CODE);
    if (facts.number == PF_VECTOR) {
        facts.address = exit_qualification(vmx);
        GuestFault fault;
        if (!hardware.params.ept &&
            !guest_faults(vmx, facts.address, static_cast<u32>(facts.value), fault))
            return false; // a miss in the shadow tables
        if (!hardware.params.ept)
            facts.value = fault.error_code;
    }
    kind = kind_of_exception(information);
    return true;
}

bool describe_control(vcpu_vmx &vmx, u32 basic, Facts &facts, InterceptWait &kind)
{
    facts.control = intercept_of_exit(vmx, basic) & vmx.intercepted_controls;
    if (!facts.control)
        return false;
    if (is_event(facts.control)) {
        kind = InterceptWait::kEvent;
        facts.address = linear_rip(vmx);
        return true;
    }
    describe_instruction(vmx, basic, facts);
    return true;
}

bool describe_reason(vcpu_vmx &vmx, u32 basic, Facts &facts, InterceptWait &kind)
{
    switch (basic) {
    case EXIT_REASON_EXCEPTION_NMI:
        return describe_exception(vmx, facts, kind);
    case EXIT_REASON_IO_INSTRUCTION:
        return describe_port(vmx, facts);
    case EXIT_REASON_MSR_READ:
        return describe_msr(vmx, false, facts);
    case EXIT_REASON_MSR_WRITE:
        return describe_msr(vmx, true, facts);
    default:
        return describe_control(vmx, basic, facts, kind);
    }
}

} // namespace

// A debugger's exceptions are told to it (KVM_EXIT_DEBUG) and are none of the guest's; NMIs and
// machine checks are the host's.
bool is_intercepted_exception(const vcpu_vmx &vmx, u32 information)
{
    const u32 vector = information & INTR_INFO_VECTOR_MASK;
    if ((information & INTR_INFO_TYPE_MASK) == INTR_TYPE_NMI || vector > 31 ||
        !(intercepted_exceptions(vmx) & bit32(vector)))
        return false;
    // Most of those are virtual-8086 mode's, not the guest's: the emulator finds out.
    if (vmx.vm86_active && (vector == GP_VECTOR || vector == SS_VECTOR))
        return false;
    if (vector == DB_VECTOR)
        return !single_steps(vmx) && !user_space_has_breakpoints(vmx);
    return vector != BP_VECTOR || !(vmx.debug.control & KVM_GUESTDBG_USE_SW_BP);
}

bool describe_exit(vcpu_vmx &vmx, Facts &facts, InterceptWait &kind)
{
    const u32 basic = vmx.exit_reason & kExitReasonBasicMask;
    facts = {};
    facts.reg = MINIVMX_NO_REGISTER;
    facts.exit_reason = basic;
    kind = InterceptWait::kInstruction;
    if (!describe_reason(vmx, basic, facts, kind))
        return false;
    facts.qualification = exit_qualification(vmx);
    if (kind == InterceptWait::kInstruction && !facts.length)
        facts.length = vmcs_read(VM_EXIT_INSTRUCTION_LEN);
    return true;
}

} // namespace minivmx
