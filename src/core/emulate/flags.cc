// SPDX-License-Identifier: GPL-2.0-only
// Instructions that are about RFLAGS: CLC to STD, CLI, STI, LAHF, SAHF, PUSHF, POPF. Who may change
// IF: SDM Vol. 2A, "CLI", Vol. 2B, "STI", "POPF", "PUSHF"; Vol. 3B, 21.3 and 21.4 for the virtual
// interrupt flag of virtual-8086 mode (CR4.VME) and of protected mode (CR4.PVI).
#include "../segmentation/delivery.hpp"
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

namespace {

bool in_virtual_8086_mode(Emulation &e)
{
    return e.state.protected_mode && (read_rflags(e.vmx) & X86_EFLAGS_VM) != 0;
}

u8 io_privilege_level(Emulation &e)
{
    constexpr unsigned kIoplShift = 12;
    return static_cast<u8>(read_rflags(e.vmx) >> kIoplShift & 3);
}

// Which flag stands for "interrupts are enabled".
enum class InterruptFlag : u8 { kReal, kVirtual, kForbidden };

InterruptFlag interrupt_flag(Emulation &e)
{
    if (!e.state.protected_mode)
        return InterruptFlag::kReal;
    const bool virtual_8086 = in_virtual_8086_mode(e);
    const u8 cpl = virtual_8086 ? 3 : guest_cpl(e.vmx);
    if (cpl <= io_privilege_level(e))
        return InterruptFlag::kReal;
    const u64 extension = virtual_8086 ? X86_CR4_VME : X86_CR4_PVI;
    return cpl == 3 && (guest_cr4(e.vmx) & extension) != 0 ? InterruptFlag::kVirtual
                                                           : InterruptFlag::kForbidden;
}

void finish_with_flags(Emulation &e, u64 flags)
{
    finish_instruction(e.vmx, e.insn().length);
    write_rflags(e.vmx, flags & ~X86_EFLAGS_RF);
}

// ---- IF ---------------------------------------------------------------------

// Interrupts stay off for one more instruction if they were: SDM Vol. 3A, 6.8.1.
void enable_interrupts(Emulation &e)
{
    const u64 flags = read_rflags(e.vmx);
    finish_with_flags(e, flags | X86_EFLAGS_IF);
    if (!(flags & X86_EFLAGS_IF))
        write_interruptibility(e.vmx, read_interruptibility(e.vmx) | GUEST_INTR_STATE_STI);
}

void set_interrupt_flag(Emulation &e, bool on)
{
    const u64 flags = read_rflags(e.vmx);
    const InterruptFlag which = interrupt_flag(e);
    if (which == InterruptFlag::kForbidden ||
        (which == InterruptFlag::kVirtual && on && flags & X86_EFLAGS_VIP))
        inject_gp(e.vmx);
    else if (which == InterruptFlag::kVirtual)
        finish_with_flags(e, on ? flags | X86_EFLAGS_VIF : flags & ~X86_EFLAGS_VIF);
    else if (on)
        enable_interrupts(e);
    else
        finish_with_flags(e, flags & ~X86_EFLAGS_IF);
}

// ---- AH ---------------------------------------------------------------------

void flags_to_ah(Emulation &e)
{
    const u64 ah = (read_rflags(e.vmx) & native::kLowFlags) | X86_EFLAGS_FIXED;
    write_gpr_part(e.vmx, kRax, 2, ah << 8 | (read_gpr(e.vmx, kRax) & 0xff));
    finish_instruction(e.vmx, e.insn().length);
}

void flags_from_ah(Emulation &e)
{
    const u64 ah = read_gpr(e.vmx, kRax) >> 8;
    finish_with_flags(e, (read_rflags(e.vmx) & ~native::kLowFlags) | (ah & native::kLowFlags));
}

// ---- The stack --------------------------------------------------------------

constexpr u64 kWordFlags = 0xffff;

// In virtual-8086 mode PUSHF and POPF are sensitive to IOPL; with CR4.VME, 16-bit ones work with
// VIF in IF's place. False: #GP is queued.
bool may_move_flags(Emulation &e, bool &with_vif)
{
    with_vif = false;
    if (!in_virtual_8086_mode(e) || io_privilege_level(e) == 3)
        return true;
    with_vif = e.insn().operand_size == 2 && (guest_cr4(e.vmx) & X86_CR4_VME) != 0;
    if (!with_vif)
        inject_gp(e.vmx);
    return with_vif;
}

void push_flags(Emulation &e)
{
    const u32 size = e.insn().operand_size;
    bool with_vif;
    u64 rsp;
    if (!may_move_flags(e, with_vif))
        return;
    u64 flags = program_flags(e.vmx) & ~(X86_EFLAGS_VM | X86_EFLAGS_RF);
    if (with_vif) {
        flags = flags & X86_EFLAGS_VIF ? flags | X86_EFLAGS_IF : flags & ~X86_EFLAGS_IF;
        flags |= X86_EFLAGS_IOPL;
    }
    if (!push_element(e, size, size, flags, rsp))
        return;
    write_stack_pointer(e, rsp);
    finish_instruction(e.vmx, e.insn().length);
}

// What POPF changes; VM, VIF, VIP and what is reserved stay, RF becomes 0.
u64 changeable_flags(Emulation &e, bool with_vif)
{
    u64 mask = X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF |
               X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_OF | X86_EFLAGS_NT | X86_EFLAGS_AC |
               X86_EFLAGS_ID;
    const u8 cpl = in_virtual_8086_mode(e) ? 3 : e.state.protected_mode ? guest_cpl(e.vmx) : 0;
    if (cpl == 0)
        mask |= X86_EFLAGS_IOPL;
    if (cpl <= io_privilege_level(e) && !with_vif)
        mask |= X86_EFLAGS_IF;
    return e.insn().operand_size == 2 ? mask & kWordFlags : mask;
}

void pop_flags(Emulation &e)
{
    bool with_vif;
    u64 rsp = read_gpr(e.vmx, kRsp);
    u64 value;
    if (!may_move_flags(e, with_vif) || !pop_element(e, e.insn().operand_size, value, rsp))
        return;
    const u64 old = program_flags(e.vmx);
    if (with_vif && (value & X86_EFLAGS_TF || (value & X86_EFLAGS_IF && old & X86_EFLAGS_VIP))) {
        inject_gp(e.vmx);
        return;
    }
    const u64 mask = changeable_flags(e, with_vif);
    u64 flags = (old & ~mask) | (value & mask);
    if (with_vif)
        flags = value & X86_EFLAGS_IF ? flags | X86_EFLAGS_VIF : flags & ~X86_EFLAGS_VIF;
    write_stack_pointer(e, rsp);
    finish_instruction(e.vmx, e.insn().length); // traps by the old TF
    write_program_flags(e.vmx, flags & ~X86_EFLAGS_RF);
}

} // namespace

void execute_flags(Emulation &e)
{
    const u64 flags = read_rflags(e.vmx);
    switch (e.insn().operation) {
    case Operation::kClc:
        return finish_with_flags(e, flags & ~X86_EFLAGS_CF);
    case Operation::kStc:
        return finish_with_flags(e, flags | X86_EFLAGS_CF);
    case Operation::kCmc:
        return finish_with_flags(e, flags ^ X86_EFLAGS_CF);
    case Operation::kCld:
        return finish_with_flags(e, flags & ~X86_EFLAGS_DF);
    case Operation::kStd:
        return finish_with_flags(e, flags | X86_EFLAGS_DF);
    case Operation::kCli:
        return set_interrupt_flag(e, false);
    case Operation::kSti:
        return set_interrupt_flag(e, true);
    case Operation::kLahf:
        return flags_to_ah(e);
    default: // kSahf
        return flags_from_ah(e);
    }
}

void execute_flags_on_stack(Emulation &e)
{
    if (e.insn().operation == Operation::kPushFlags)
        push_flags(e);
    else
        pop_flags(e);
}

} // namespace minivmx
