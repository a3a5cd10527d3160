// SPDX-License-Identifier: GPL-2.0-only
// The guest's debug registers. They stay in memory, and MOV DR exits, until the guest touches one:
// then all of them are loaded and MOV DR exits no more, until the next exit for whatever reason
// brings them back (KVM_DEBUGREG_WONT_EXIT). So a guest that sets several in a row pays for one
// exit. SDM Vol. 3B, 18.2.
#include <minivmx/control_shadow.hpp>
#include <minivmx/run.hpp>

namespace minivmx {

void update_dr7(vcpu_vmx &vmx)
{
    if (vmx.area->dr7 & DR7_BP_EN_MASK)
        vmx.area->switch_db_regs |= KVM_DEBUGREG_BP_ENABLED;
    else
        vmx.area->switch_db_regs &= ~static_cast<u32>(KVM_DEBUGREG_BP_ENABLED);
}

void sync_dirty_debug_regs(vcpu_vmx &vmx)
{
    vmx.area->dr7 = vmcs_read(GUEST_DR7);
    vmx.area->switch_db_regs &= ~static_cast<u32>(KVM_DEBUGREG_WONT_EXIT);
    exec_controls_setbit<CPU_BASED_MOV_DR_EXITING>(vmx.vmcs01);
    update_dr7(vmx);
}

Outcome handle_dr(vcpu_vmx &vmx)
{
    const DrAccessInfo access = DrAccessInfo::decode(exit_qualification(vmx));
    // DR4 and DR5 are names of DR6 and DR7, unless debug extensions are on: SDM Vol. 3B, 18.2.2.
    if ((access.dr == 4 || access.dr == 5) && guest_cr4(vmx) & X86_CR4_DE) {
        inject_ud(vmx);
        return Outcome::resume();
    }
    if (guest_cpl(vmx) > 0) {
        inject_gp(vmx);
        return Outcome::resume();
    }
    // The exit comes before the general-detect exception that the access would have raised: SDM
    // Vol. 3C, 26.1.3.
    if (vmcs_read(GUEST_DR7) & DR7_GD) {
        inject_debug_exception(vmx, DR6_BD);
        return Outcome::resume();
    }
    exec_controls_clearbit<CPU_BASED_MOV_DR_EXITING>(vmx.vmcs01);
    vmx.area->switch_db_regs |= KVM_DEBUGREG_WONT_EXIT;
    return Outcome::resume(); // on the same instruction, which now executes
}

} // namespace minivmx
