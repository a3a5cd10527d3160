// SPDX-License-Identifier: GPL-2.0-only
// A debugger outside of the guest: KVM_SET_GUEST_DEBUG, and KVM_GET/SET_DEBUGREGS.
//
// Single step is the guest's own RFLAGS.TF, which is on while user space wants to step and which
// neither the guest's registers as user space sees them nor what it writes there show. #DB always
// exits, so the trap comes to us. User space's breakpoints take the place of the guest's.
#include <minivmx/run.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

constexpr u32 kSupported = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP |
                           KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP |
                           KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_BLOCKIRQ;

// SDM Vol. 3B, 18.2.3 and 18.2.4: bits 63:32 of DR6 and DR7 are reserved.
bool is_valid_dr(u64 value)
{
    return value >> 32 == 0;
}

void set_trap_flag(vcpu_vmx &vmx, bool on)
{
    const u64 flags = read_rflags(vmx);
    write_rflags(vmx, on ? flags | X86_EFLAGS_TF : flags & ~X86_EFLAGS_TF);
    // Of an instruction that was carried out here, and that user space then looked at: not for the
    // guest.
    if (!on)
        forget_single_step_trap();
}

void use_control(vcpu_vmx &vmx, const kvm_guest_debug &args)
{
    const bool stepped = single_steps(vmx);
    vmx.debug.control = args.control & KVM_GUESTDBG_ENABLE ? args.control : 0;
    for (u32 i = 0; i < 4; i++)
        vmx.debug.db[i] = args.arch.debugreg[i];
    vmx.debug.dr7 = args.arch.debugreg[7] | kDr7Fixed;
    if (stepped || single_steps(vmx))
        set_trap_flag(vmx, single_steps(vmx));
    update_dr7(vmx);
    vmx_update_exception_bitmap(vmx);
}

} // namespace

Outcome debug_exit(vcpu_vmx &vmx, u8 vector, u64 dr6)
{
    kvm_run &run = *vmx.area->run;
    run.exit_reason = KVM_EXIT_DEBUG;
    run.debug.arch.exception = vector;
    run.debug.arch.pad = 0;
    run.debug.arch.pc = linear_rip(vmx);
    run.debug.arch.dr6 = dr6;
    run.debug.arch.dr7 = vmcs_read(GUEST_DR7);
    return Outcome::to_user();
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_set_guest_debug(core_vcpu *vcpu, const kvm_guest_debug *debug)
{
    constexpr u32 kInjects = KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP;
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (debug->control & ~kSupported)
        return -EINVAL;
    if (debug->control & kInjects) {
        if (vmx.exception.pending && !vmx.exception.reinject)
            return -EBUSY;
        queue_exception(vmx, debug->control & KVM_GUESTDBG_INJECT_DB ? DB_VECTOR : BP_VECTOR);
        // INT3 is a software exception: its return address is behind the instruction.
        if (vmx.exception.pending && vmx.exception.vector == BP_VECTOR) {
            vmx.exception.soft = true;
            if (!vmx.event_instruction_length)
                vmx.event_instruction_length = 1;
        }
    }
    use_control(vmx, *debug);
    return 0;
}

int core_get_debugregs(core_vcpu *vcpu, kvm_debugregs *regs)
{
    const vcpu_area &area = *to_vmx(vcpu).area;
    *regs = {};
    for (u32 i = 0; i < 4; i++)
        regs->db[i] = area.db[i];
    regs->dr6 = area.dr6;
    regs->dr7 = area.dr7;
    return 0;
}

int core_set_debugregs(core_vcpu *vcpu, const kvm_debugregs *regs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (regs->flags || !is_valid_dr(regs->dr6) || !is_valid_dr(regs->dr7))
        return -EINVAL;
    for (u32 i = 0; i < 4; i++)
        vmx.area->db[i] = regs->db[i];
    vmx.area->dr6 = regs->dr6;
    vmx.area->dr7 = regs->dr7;
    update_dr7(vmx);
    return 0;
}

} // extern "C"
