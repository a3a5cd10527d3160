// SPDX-License-Identifier: GPL-2.0-only
// Exceptions of the guest that exit: EXIT_REASON_EXCEPTION_NMI. See vmx_exception_bitmap() for
// which, and why.
#include <minivmx/hardware.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/run.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

// SDM Vol. 3C, 25.9.2: INT1 (ICEBP) exits as a privileged software exception, before it has
// executed.
bool is_icebp(u32 information)
{
    return (information & INTR_INFO_TYPE_MASK) == INTR_TYPE_PRIV_SW_EXCEPTION;
}

bool host_took_it(u32 information)
{
    const u32 type = information & INTR_INFO_TYPE_MASK;
    return type == INTR_TYPE_NMI ||
           (type == INTR_TYPE_HARD_EXCEPTION && (information & INTR_INFO_VECTOR_MASK) == MC_VECTOR);
}

Outcome simultaneous_exception(vcpu_vmx &vmx, u32 information, u32 error_code)
{
    const u64 data[] = {vmx.idt_vectoring_info, information, error_code, vmx.last_vmentry_cpu};
    return internal_error(vmx, KVM_INTERNAL_ERROR_SIMUL_EX, data);
}

Outcome handle_debug_exception(vcpu_vmx &vmx, u32 information)
{
    constexpr u32 kInterruptShadow = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;
    if (single_steps(vmx) || user_space_has_breakpoints(vmx))
        return debug_exit(vmx, DB_VECTOR, exit_qualification(vmx) | DR6_ACTIVE_LOW);
    if (is_icebp(information))
        step_over_instruction(vmx);
    else if (read_interruptibility(vmx) & kInterruptShadow)
        trap_single_step(vmx); // VM entry insists on it in a shadow: SDM Vol. 3C, 27.3.1.5
    inject_debug_exception(vmx, exit_qualification(vmx));
    return Outcome::resume();
}

// KVM_GUESTDBG_USE_SW_BP. Should user space give the exception to the guest after all
// (KVM_GUESTDBG_INJECT_BP), it returns behind the instruction.
Outcome handle_breakpoint(vcpu_vmx &vmx)
{
    vmx.event_instruction_length = vmcs_read(VM_EXIT_INSTRUCTION_LEN);
    return debug_exit(vmx, BP_VECTOR, 0);
}

} // namespace

// SDM Vol. 3B, 18.2.3: what the CPU writes to DR6 and DR7 when it delivers #DB.
void apply_debug_payload(vcpu_vmx &vmx, u64 payload)
{
    // A #DB that exits has not touched DR6 and DR7 (SDM Vol. 3C, 28.1); injecting one does not
    // either.
    u64 dr6 = (vmx.area->dr6 & ~DR6_TRAP_BITS) | DR6_ACTIVE_LOW;
    dr6 |= payload;
    dr6 ^= payload & DR6_ACTIVE_LOW;
    // A client may have put anything into the payload (KVM_SET_VCPU_EVENTS), and the host will load
    // this into the CPU, which refuses bits 63:32. Bit 12 means something only among the pending
    // debug exceptions (SDM Vol. 3C, 25.4.2, table 25-4).
    constexpr u64 kNotOfDr6 = 0xffffffff00000000 | bit64(12);
    vmx.area->dr6 = dr6 & ~kNotOfDr6;
    if (vmx.area->dr7 & DR7_GD) {
        vmx.area->dr7 &= ~DR7_GD;
        update_dr7(vmx);
    }
}

void inject_debug_exception(vcpu_vmx &vmx, u64 payload)
{
    apply_debug_payload(vmx, payload);
    queue_exception(vmx, DB_VECTOR);
}

Outcome handle_exception_nmi(vcpu_vmx &vmx)
{
    const u32 information = exit_intr_info(vmx);
    if (host_took_it(information))
        return Outcome::resume();

    const u8 vector = static_cast<u8>(information & INTR_INFO_VECTOR_MASK);
    if (vector == UD_VECTOR) {
        inject_ud(vmx);
        return Outcome::resume();
    }
    const u32 error_code =
        information & INTR_INFO_HAS_ERROR_CODE ? vmcs_read(VM_EXIT_INTR_ERROR_CODE) : 0;
    // An event's delivery may miss in the shadow tables: SDM Vol. 3C, 28.2.4.
    if (vector == PF_VECTOR && !hardware.params.ept)
        return handle_shadow_fault(vmx, exit_qualification(vmx), error_code);
    if (vmx.idt_vectoring_info & INTR_INFO_VALID)
        return simultaneous_exception(vmx, information, error_code);
    if (is_real_mode_exception(vmx, vector)) [[unlikely]]
        return handle_real_mode_exception(vmx, vector, error_code);

    switch (vector) {
    case DB_VECTOR:
        return handle_debug_exception(vmx, information);
    case BP_VECTOR:
        return handle_breakpoint(vmx);
    case AC_VECTOR:
        queue_exception(vmx, AC_VECTOR, error_code);
        return Outcome::resume();
    default:
        vmx.area->run->exit_reason = KVM_EXIT_EXCEPTION;
        vmx.area->run->ex.exception = vector;
        vmx.area->run->ex.error_code = error_code;
        return Outcome::to_user();
    }
}

} // namespace minivmx
