// SPDX-License-Identifier: GPL-2.0-only
// General registers, RIP, RFLAGS and CPL, as the rest of the core reads and changes them. What the
// VMCS holds is read at most once an exit; RIP and RSP are written back at the next entry, RFLAGS
// at once.
#include <minivmx/hardware.hpp>
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

// SDM Vol. 3C, 25.4.2, table 25-4 "Format of Pending-Debug-Exceptions": bit 14, a single-step trap.
constexpr u64 kPendingSingleStep = bit64(14);

// In virtual-8086 mode that stands in for real mode: it is on, and IOPL is 3, or CLI, PUSHF and
// their kin would fault (SDM Vol. 3B, 21.2.7).
constexpr u64 kVirtual8086Flags = X86_EFLAGS_VM | X86_EFLAGS_IOPL;

} // namespace

u64 without_virtual_8086_flags(const vcpu_vmx &vmx, u64 flags)
{
    return (flags & ~kVirtual8086Flags) | (vmx.rmode.rflags & kVirtual8086Flags);
}

u64 read_rsp(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateRsp)) {
        vmx.area->regs[kRsp] = vmcs_read(GUEST_RSP);
        vmx.state_available |= kStateRsp;
    }
    return vmx.area->regs[kRsp];
}

void write_rsp(vcpu_vmx &vmx, u64 value)
{
    vmx.area->regs[kRsp] = value;
    vmx.state_available |= kStateRsp;
    vmx.state_dirty |= kStateRsp;
}

void write_rflags(vcpu_vmx &vmx, u64 value)
{
    // Elsewhere VM entry takes any segments, and nobody needs to know what the flags were.
    if (!hardware.params.unrestricted_guest && (read_rflags(vmx) ^ value) & X86_EFLAGS_VM)
        vmx.check_state = true;
    vmx.rflags = value;
    vmx.state_available |= kStateRflags;
    if (vmx.vm86_active) [[unlikely]] {
        vmx.rmode.rflags = value;
        value |= kVirtual8086Flags;
    }
    vmcs_write(GUEST_RFLAGS, value);
}

u64 read_gpr(vcpu_vmx &vmx, u8 index)
{
    return index == kRsp ? read_rsp(vmx) : vmx.area->regs[index & 15];
}

void write_gpr(vcpu_vmx &vmx, u8 index, u64 value)
{
    if (index == kRsp)
        write_rsp(vmx, value);
    else
        vmx.area->regs[index & 15] = value;
}

bool is_64_bit_code(vcpu_vmx &vmx)
{
    return is_long_mode(vmx) && (segment_rights(vmx, kCs) & AR_L) != 0;
}

u64 linear_rip(vcpu_vmx &vmx)
{
    const u64 rip = read_rip(vmx);
    return is_64_bit_code(vmx) ? rip : static_cast<u32>(segment_base(vmx, kCs) + rip);
}

u8 guest_cpl(vcpu_vmx &vmx)
{
    // SDM Vol. 3C, 25.4.1: the DPL of SS is the CPL, whatever the mode. In virtual-8086 mode that
    // stands in for real mode, the guest believes to be at CPL 0.
    if (vmx.vm86_active)
        return 0;
    return static_cast<u8>(AccessRights{vmcs_read(GUEST_SS_AR_BYTES)}.dpl());
}

namespace {

[[gnu::always_inline]] inline void advance_rip(vcpu_vmx &vmx, u32 length)
{
    const u64 before = read_rip(vmx);
    u64 after = before + length;
    // EIP wraps at 4 GiB outside 64-bit code. Asking for the mode costs VMREADs, so only if bit 31
    // went from 1 to 0.
    if ((before & ~after & bit64(31)) != 0 && !is_64_bit_code(vmx))
        after = static_cast<u32>(after);
    write_rip(vmx, after);
    set_interrupt_shadow_off(vmx);
}

} // namespace

// SDM Vol. 3B, 18.3.1.4: after an instruction that began with TF set comes a single-step trap; the
// CPU can't know that the instruction was carried out.
void trap_single_step(vcpu_vmx &vmx)
{
    if (read_rflags(vmx) & X86_EFLAGS_TF)
        vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS,
                   vmcs_read(GUEST_PENDING_DBG_EXCEPTIONS) | kPendingSingleStep);
}

void forget_single_step_trap()
{
    const u64 pending = vmcs_read(GUEST_PENDING_DBG_EXCEPTIONS);
    if (pending & kPendingSingleStep)
        vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, pending & ~kPendingSingleStep);
}

void step_over_instruction(vcpu_vmx &vmx)
{
    advance_rip(vmx, exit_instruction_length(vmx));
}

namespace {

[[gnu::noinline]] void retire_traced_instruction(vcpu_vmx &vmx)
{
    trap_single_step(vmx);
    // SDM Vol. 3B, 18.3.1.1: a completed instruction clears RF.
    if (read_rflags(vmx) & X86_EFLAGS_RF)
        write_rflags(vmx, read_rflags(vmx) & ~X86_EFLAGS_RF);
}

[[gnu::always_inline]] inline void retire_instruction(vcpu_vmx &vmx)
{
    if (read_rflags(vmx) & (X86_EFLAGS_TF | X86_EFLAGS_RF)) [[unlikely]]
        retire_traced_instruction(vmx);
}

[[gnu::always_inline]] inline void finish(vcpu_vmx &vmx, u32 length)
{
    advance_rip(vmx, length);
    retire_instruction(vmx);
}

} // namespace

void finish_instruction(vcpu_vmx &vmx, u32 length)
{
    finish(vmx, length);
}

void finish_jump(vcpu_vmx &vmx, u64 rip)
{
    write_rip(vmx, rip);
    set_interrupt_shadow_off(vmx);
    retire_instruction(vmx);
}

void skip_emulated_instruction(vcpu_vmx &vmx)
{
    finish(vmx, exit_instruction_length(vmx));
}

void finish_iteration(vcpu_vmx &vmx)
{
    set_interrupt_shadow_off(vmx);
    trap_single_step(vmx);
    // SDM Vol. 3B, 18.3.1.1: RF is set in the image of an iteration that goes on.
    write_rflags(vmx, read_rflags(vmx) | X86_EFLAGS_RF);
}

u32 exit_intr_info(vcpu_vmx &vmx)
{
    if (!(vmx.state_available & kStateIntrInfo)) {
        vmx.exit_intr_info = vmcs_read(VM_EXIT_INTR_INFO);
        vmx.state_available |= kStateIntrInfo;
    }
    return vmx.exit_intr_info;
}

} // namespace minivmx
