// SPDX-License-Identifier: GPL-2.0-only
// XSAVES and XRSTORS that a client lets happen. To emulate them would be to rebuild the CPU's own
// state components, so the guest executes the one instruction itself, with "enable XSAVES/XRSTORS"
// on and the monitor trap flag set (SDM Vol. 3C, 26.5.2); events wait meanwhile.
#include <minivmx/control_shadow.hpp>
#include <minivmx/intercept.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "../emulate/emulator.hpp"
#include "detail.hpp"

namespace minivmx {

namespace {

// Exits that come between the entry and the end of an instruction, after which it begins anew.
bool leaves_instruction_undone(vcpu_vmx &vmx)
{
    switch (vmx.exit_reason & kExitReasonBasicMask) {
    case EXIT_REASON_EXTERNAL_INTERRUPT:
    case EXIT_REASON_EPT_VIOLATION:
    case EXIT_REASON_PML_FULL:
    case EXIT_REASON_PREEMPTION_TIMER:
        return true;
    case EXIT_REASON_EXCEPTION_NMI:
        return (exit_intr_info(vmx) & INTR_INFO_TYPE_MASK) == INTR_TYPE_NMI;
    default:
        return false;
    }
}

} // namespace

bool is_intercepted_xsave(vcpu_vmx &vmx, Instruction &insn)
{
    if (!(vmx.intercepted_controls & MINIVMX_INTERCEPT_XSAVES) ||
        (exit_intr_info(vmx) & INTR_INFO_VECTOR_MASK) != UD_VECTOR ||
        !vmx.cpuid.has(CpuidFeature::kXsave) || !vmx.cpuid.has(CpuidFeature::kXsaves) ||
        !(guest_cr4(vmx) & X86_CR4_OSXSAVE))
        return false;
    if (!peek_instruction(vmx, address_state(vmx), insn))
        return false;
    return insn.operation == Operation::kXsaves || insn.operation == Operation::kXrstors;
}

Outcome begin_native_step(vcpu_vmx &vmx)
{
    secondary_exec_controls_setbit<SECONDARY_EXEC_XSAVES>(vmx.vmcs01);
    exec_controls_setbit<CPU_BASED_MONITOR_TRAP_FLAG>(vmx.vmcs01);
    vmx.pending_intercept = {.kind = InterceptWait::kNativeStep, .length = 0, .rip = read_rip(vmx)};
    return Outcome::resume();
}

bool native_step_goes_on(vcpu_vmx &vmx)
{
    return leaves_instruction_undone(vmx) && read_rip(vmx) == vmx.pending_intercept.rip;
}

void end_native_step(vcpu_vmx &vmx)
{
    if (vmx.pending_intercept.kind != InterceptWait::kNativeStep)
        return;
    vmx.pending_intercept = {};
    update_exec_controls(vmx);
}

} // namespace minivmx
