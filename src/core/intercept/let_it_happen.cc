// SPDX-License-Identifier: GPL-2.0-only
// Instructions and exceptions that exit only because a client asked for it, carried out in the
// guest's place. What exits anyway has its handler elsewhere.
//
// They are emulated, not run in the guest with the intercept off for a moment: that needs the
// monitor trap flag, which older CPUs lack, a second exit, and events to be held back meanwhile.
// Only for XSAVES and XRSTORS it is the other way round, see native_step.cc.
//
// The CPU has checked privilege and the instruction's form before the exit: SDM Vol. 3C, 26.1.1.
#include <minivmx/hardware.hpp>
#include <minivmx/run.hpp>
#include <minivmx/state.hpp>

#include "detail.hpp"

namespace minivmx {

namespace {

// The flags that RDRAND, RDSEED, TPAUSE and UMWAIT clear, but for CF, which tells how they ended.
constexpr u64 kStatusFlags =
    X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF | X86_EFLAGS_OF;

Outcome finished(vcpu_vmx &vmx)
{
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

Outcome faulted(vcpu_vmx &vmx)
{
    inject_gp(vmx);
    return Outcome::resume();
}

void write_status_flags(vcpu_vmx &vmx, bool carry)
{
    write_rflags(vmx, (read_rflags(vmx) & ~kStatusFlags) | (carry ? X86_EFLAGS_CF : 0));
}

// ---- Time ---------------------------------------------------------------------------------------

// A wait may end at any time, so it ends at once: SDM Vol. 2B and 2D, TPAUSE and UMWAIT. CF would
// tell that the time limit of IA32_UMWAIT_CONTROL ended it.
Outcome wait_no_time(vcpu_vmx &vmx)
{
    const u8 reg = vmcs_read(VMX_INSTRUCTION_INFO) >> 3 & 15;
    constexpr u32 kReserved = ~1u;
    if (static_cast<u32>(read_gpr(vmx, reg)) & kReserved)
        return faulted(vmx);
    write_status_flags(vmx, false);
    return finished(vmx);
}

// ---- HLT ----------------------------------------------------------------------------------------

// The VM's owner let the guest halt by itself (KVM_CAP_X86_DISABLE_EXITS): it does so as soon as it
// is entered. SDM Vol. 3C, 25.4.2, activity state. With RFLAGS.TF a trap ends it before it begins.
Outcome halt(vcpu_vmx &vmx)
{
    constexpr u32 kHlt = 1;
    const bool can_enter_halted = VmxMisc{hardware.config.misc}.activity_hlt();
    if (!vmx.kvm->hlt_in_guest || !can_enter_halted)
        return handle_halt(vmx);
    if (!(read_rflags(vmx) & X86_EFLAGS_TF))
        vmcs_write(GUEST_ACTIVITY_STATE, kHlt);
    return finished(vmx);
}

// ---- Random numbers -----------------------------------------------------------------------------

Outcome random_number(vcpu_vmx &vmx, bool (*generate)(u64 &value))
{
    const u32 info = vmcs_read(VMX_INSTRUCTION_INFO);
    const u8 reg = info >> 3 & 15;
    u64 value;
    const bool ready = generate(value);
    if (!ready)
        value = 0;
    // Only a 16-bit register keeps its upper part: SDM Vol. 1, 3.4.1.1.
    switch (random_size(info)) {
    case 2:
        value = (read_gpr(vmx, reg) & ~u64{0xffff}) | static_cast<u16>(value);
        break;
    case 4:
        value = static_cast<u32>(value);
        break;
    default:
        break;
    }
    write_gpr(vmx, reg, value);
    write_status_flags(vmx, ready);
    return finished(vmx);
}

// ---- Exceptions ---------------------------------------------------------------------------------

// The hypervisor, the host or a debugger has its own reasons to look at these. What else exited did
// so for a client, even if that has taken its request back by now.
bool exits_anyway(const vcpu_vmx &vmx, u32 information)
{
    constexpr u32 kVectors =
        bit32(DB_VECTOR) | bit32(UD_VECTOR) | bit32(AC_VECTOR) | bit32(MC_VECTOR);
    const u32 vector = information & INTR_INFO_VECTOR_MASK;
    if ((information & INTR_INFO_TYPE_MASK) == INTR_TYPE_NMI || vector > 31)
        return true;
    if (vector == PF_VECTOR && !hardware.params.ept)
        return true; // mostly a miss in the shadow tables
    const bool breakpoints = (vmx.debug.control & KVM_GUESTDBG_USE_SW_BP) != 0;
    return kVectors & bit32(vector) || (vector == BP_VECTOR && breakpoints);
}

void queue_intercepted(vcpu_vmx &vmx, u8 vector, u32 information)
{
    const u32 error_code =
        information & INTR_INFO_HAS_ERROR_CODE ? vmcs_read(VM_EXIT_INTR_ERROR_CODE) : 0;
    if (vector == PF_VECTOR)
        inject_page_fault(vmx, exit_qualification(vmx), error_code);
    else if (information & INTR_INFO_HAS_ERROR_CODE)
        queue_exception(vmx, vector, error_code);
    else
        queue_exception(vmx, vector);
    if ((information & INTR_INFO_TYPE_MASK) == INTR_TYPE_SOFT_EXCEPTION && vmx.exception.pending &&
        vmx.exception.vector == vector) {
        vmx.exception.soft = true;
        vmx.event_instruction_length = vmcs_read(VM_EXIT_INSTRUCTION_LEN);
    }
}

} // namespace

Outcome deliver_exception(vcpu_vmx &vmx)
{
    const u32 information = exit_intr_info(vmx);
    const u8 vector = static_cast<u8>(information & INTR_INFO_VECTOR_MASK);
    if (exits_anyway(vmx, information))
        return dispatch_exit(vmx);
    give_way_to_exception(vmx);
    queue_intercepted(vmx, vector, information);
    return Outcome::resume();
}

namespace {

Outcome exception(vcpu_vmx &vmx)
{
    Instruction insn;
    return is_intercepted_xsave(vmx, insn) ? begin_native_step(vmx) : deliver_exception(vmx);
}

} // namespace

Outcome let_it_happen(vcpu_vmx &vmx)
{
    switch (vmx.exit_reason & kExitReasonBasicMask) {
    case EXIT_REASON_EXCEPTION_NMI:
        return exception(vmx);
    case EXIT_REASON_HLT:
        return halt(vmx);
    case EXIT_REASON_RDTSC:
        return handle_rdtsc(vmx, false);
    case EXIT_REASON_RDTSCP:
        return handle_rdtsc(vmx, true);
    case EXIT_REASON_UMWAIT:
    case EXIT_REASON_TPAUSE:
        return wait_no_time(vmx);
    case EXIT_REASON_RDRAND:
        return vmx.cpuid.has(CpuidFeature::kRdrand) ? random_number(vmx, arch::rdrand)
                                                    : dispatch_exit(vmx);
    case EXIT_REASON_RDSEED:
        return vmx.cpuid.has(CpuidFeature::kRdseed) ? random_number(vmx, arch::rdseed)
                                                    : dispatch_exit(vmx);
    case EXIT_REASON_MONITOR_TRAP_FLAG:
        return Outcome::resume();
    default:
        return dispatch_exit(vmx);
    }
}

} // namespace minivmx
