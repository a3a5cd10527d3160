// SPDX-License-Identifier: GPL-2.0-only
// Between two emulated instructions: the debug exceptions that the CPU would raise there. Traps of
// the instruction before come first, then breakpoints at the next one: SDM Vol. 3A, 6.9, table 6-2.
#include <minivmx/run.hpp>

#include "emulator.hpp"

namespace minivmx {

namespace {

// The pending debug exceptions have the places of DR6: SDM Vol. 3C, 25.4.2, table 25-4.
constexpr u64 kPendingTraps = DR6_TRAP_BITS | DR6_BS;

u64 take_pending_traps()
{
    const u64 pending = vmcs_read(GUEST_PENDING_DBG_EXCEPTIONS) & kPendingTraps;
    if (pending)
        vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
    return pending;
}

// Breakpoints on execution, of user space or of the guest: SDM Vol. 3B, 18.2.4 and 18.3.1.1.
u64 breakpoints_here(vcpu_vmx &vmx)
{
    const u64 dr7 = vmcs_read(GUEST_DR7);
    u64 hit = 0;
    if (!(dr7 & DR7_BP_EN_MASK) || read_rflags(vmx) & X86_EFLAGS_RF)
        return 0;
    for (u32 i = 0; i < 4; i++) {
        const bool enabled = (dr7 >> 2 * i & 3) != 0;
        const bool on_execution = (dr7 >> (16 + 4 * i) & 3) == 0;
        if (enabled && on_execution && vmx.area->loaded_db[i] == linear_rip(vmx))
            hit |= bit64(i);
    }
    return hit;
}

// Neither traps nor breakpoints come in the shadow of a load of SS: SDM Vol. 3A, 6.8.3.
bool in_shadow_of_stack_switch(vcpu_vmx &vmx)
{
    return (read_interruptibility(vmx) & GUEST_INTR_STATE_MOV_SS) != 0;
}

Outcome raise_debug_exception(vcpu_vmx &vmx, u64 what)
{
    if (single_steps(vmx) || user_space_has_breakpoints(vmx))
        return debug_exit(vmx, DB_VECTOR, what | DR6_ACTIVE_LOW);
    inject_debug_exception(vmx, what);
    return Outcome::resume();
}

} // namespace

Outcome deliver_pending_traps(vcpu_vmx &vmx)
{
    // What waits in the queue belongs to the same instruction and has come first.
    const bool held = vmx.exception.pending || in_shadow_of_stack_switch(vmx);
    const u64 traps = held ? 0 : take_pending_traps();
    return traps ? raise_debug_exception(vmx, traps) : Outcome::resume();
}

bool cross_boundary(vcpu_vmx &vmx, Outcome &outcome)
{
    if (in_shadow_of_stack_switch(vmx))
        return true;
    u64 what = take_pending_traps();
    if (!what)
        what = breakpoints_here(vmx);
    if (!what)
        return true;
    outcome = raise_debug_exception(vmx, what);
    return false;
}

} // namespace minivmx
