// SPDX-License-Identifier: GPL-2.0-only
// The guest's debug registers. They stay in memory, and MOV DR exits, until the guest touches one:
// then all of them are loaded and MOV DR exits no more, until the next exit for whatever reason
// brings them back (KVM_DEBUGREG_WONT_EXIT). So a guest that sets several in a row pays for one
// exit. SDM Vol. 3B, 18.2.
//
// While user space debugs the guest, or wants to see each MOV DR, it is carried out here instead.
#include <minivmx/control_shadow.hpp>
#include <minivmx/run.hpp>

namespace minivmx {

namespace {

u64 read_dr(const vcpu_vmx &vmx, u8 number)
{
    if (number < 4)
        return vmx.area->db[number];
    return number == 4 || number == 6 ? vmx.area->dr6 : vmx.area->dr7;
}

// SDM Vol. 2B, MOV "Move to/from Debug Registers": #GP for bits 63:32 of DR6 and DR7.
bool write_dr(vcpu_vmx &vmx, u8 number, u64 value)
{
    if (number < 4) {
        vmx.area->db[number] = value;
        return true;
    }
    if (value >> 32)
        return false;
    if (number == 4 || number == 6) {
        // What is fixed in DR6: SDM Vol. 3B, 18.2.3. Bus-lock and RTM traps are not virtualized.
        constexpr u64 kChangeable = DR6_TRAP_BITS | DR6_BD | DR6_BS | bit64(15);
        vmx.area->dr6 = (value & kChangeable) | DR6_ACTIVE_LOW;
        return true;
    }
    constexpr u64 kReserved = 0xd000;
    vmx.area->dr7 = (value & ~kReserved) | kDr7Fixed;
    update_dr7(vmx);
    return true;
}

Outcome move_dr(vcpu_vmx &vmx, const DrAccessInfo &access)
{
    if (access.from) {
        const u64 value = read_dr(vmx, access.dr);
        write_gpr(vmx, access.gpr, is_64_bit_code(vmx) ? value : static_cast<u32>(value));
    } else {
        const u64 value = read_gpr(vmx, access.gpr);
        if (!write_dr(vmx, access.dr, is_64_bit_code(vmx) ? value : static_cast<u32>(value))) {
            inject_gp(vmx);
            return Outcome::resume();
        }
    }
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

// The exit comes before the general-detect exception that the access would have raised: SDM Vol.
// 3C, 26.1.3.
Outcome general_detect(vcpu_vmx &vmx)
{
    if (user_space_has_breakpoints(vmx))
        return debug_exit(vmx, DB_VECTOR, DR6_BD | DR6_ACTIVE_LOW);
    inject_debug_exception(vmx, DR6_BD);
    return Outcome::resume();
}

} // namespace

void update_dr7(vcpu_vmx &vmx)
{
    const u64 dr7 = user_space_has_breakpoints(vmx) ? vmx.debug.dr7 : vmx.area->dr7;
    for (u32 i = 0; i < 4; i++)
        vmx.area->loaded_db[i] =
            user_space_has_breakpoints(vmx) ? vmx.debug.db[i] : vmx.area->db[i];
    vmcs_write(GUEST_DR7, dr7);
    if (dr7 & DR7_BP_EN_MASK)
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

namespace {

// What keeps the access from taking place: true, and `outcome` is what comes instead.
bool dr_access_faults(vcpu_vmx &vmx, const DrAccessInfo &access, Outcome &outcome)
{
    outcome = Outcome::resume();
    // DR4 and DR5 are names of DR6 and DR7, unless debug extensions are on: SDM Vol. 3B, 18.2.2.
    if ((access.dr == 4 || access.dr == 5) && guest_cr4(vmx) & X86_CR4_DE) {
        inject_ud(vmx);
        return true;
    }
    if (guest_cpl(vmx) > 0) {
        inject_gp(vmx);
        return true;
    }
    if (!(vmcs_read(GUEST_DR7) & DR7_GD))
        return false;
    outcome = general_detect(vmx);
    return true;
}

} // namespace

Outcome access_debug_register(vcpu_vmx &vmx, const DrAccessInfo &access)
{
    Outcome outcome = Outcome::resume();
    return dr_access_faults(vmx, access, outcome) ? outcome : move_dr(vmx, access);
}

Outcome handle_dr(vcpu_vmx &vmx)
{
    const DrAccessInfo access = DrAccessInfo::decode(exit_qualification(vmx));
    Outcome outcome = Outcome::resume();
    if (dr_access_faults(vmx, access, outcome))
        return outcome;
    if (vmx.debug.control || vmx.intercepted_controls & MINIVMX_INTERCEPT_MOV_DR)
        return move_dr(vmx, access);
    exec_controls_clearbit<CPU_BASED_MOV_DR_EXITING>(vmx.vmcs01);
    vmx.area->switch_db_regs |= KVM_DEBUGREG_WONT_EXIT;
    return Outcome::resume(); // on the same instruction, which now executes
}

} // namespace minivmx
