// SPDX-License-Identifier: GPL-2.0-only
// Exceptions of a guest in real mode that runs in virtual-8086 mode. All of them exit, since the
// CPU would deliver them through an IDT; most are the guest's own.
#include <minivmx/emulate.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/run.hpp>

namespace minivmx {

namespace {

// CPL 3 keeps the guest from what real mode allows: HLT, MOV to CR0, LGDT, big segments (SDM Vol.
// 3B, 21.2.7). The emulator finds out whether the guest has deserved it.
bool may_be_ours(u8 vector, u32 error_code)
{
    return (vector == GP_VECTOR || vector == SS_VECTOR) && error_code == 0;
}

bool is_soft(vcpu_vmx &vmx)
{
    return (exit_intr_info(vmx) & INTR_INFO_TYPE_MASK) == INTR_TYPE_SOFT_EXCEPTION;
}

} // namespace

bool is_real_mode_exception(const vcpu_vmx &vmx, u8 vector)
{
    if (!vmx.vm86_active || vector == DB_VECTOR)
        return false;
    return vector != BP_VECTOR || (vmx.debug.control & KVM_GUESTDBG_USE_SW_BP) == 0;
}

Outcome handle_real_mode_exception(vcpu_vmx &vmx, u8 vector, u32 error_code)
{
    if (may_be_ours(vector, error_code)) {
        vmx.stats.emulated++;
        return emulate_instruction(vmx);
    }
    queue_exception(vmx, vector);
    if (is_soft(vmx)) { // INT3 and INTO return behind themselves
        vmx.exception.soft = true;
        vmx.event_instruction_length = vmcs_read(VM_EXIT_INSTRUCTION_LEN);
    }
    return Outcome::resume();
}

} // namespace minivmx
