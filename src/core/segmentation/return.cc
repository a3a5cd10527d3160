// SPDX-License-Identifier: GPL-2.0-only
// RET and IRET.
#include "transfer.hpp"

#include <minivmx/run.hpp>
#include <minivmx/state.hpp>

#include "delivery.hpp"

namespace minivmx {

namespace {

// Of EFLAGS: SDM Vol. 1, 3.4.3.
constexpr u64 kStatus = 0x8d5, kControl = X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_NT,
              kUpper = X86_EFLAGS_RF | X86_EFLAGS_AC | X86_EFLAGS_ID,
              kVirtualIf = X86_EFLAGS_VIF | X86_EFLAGS_VIP;

// The instruction ends here, by the flags it began with: TF traps behind it if it was set then.
// Only the bits of `mask` come from the image.
void finish_with_flags(vcpu_vmx &vmx, u64 image, u64 mask)
{
    finish_jump(vmx, read_rip(vmx));
    write_program_flags(vmx, (program_flags(vmx) & ~mask) | (image & mask));
}

// ---- Real and virtual-8086 mode ---------------------------------------------

bool pop_real_code(FarTransfer &s, Stack &stack, u64 &rip, u64 &selector)
{
    return pop(s, stack, s.operand_size, rip) && pop(s, stack, s.operand_size, selector) &&
           (rip <= segment_limit(s.vmx, kCs) || refuse(s, GP_VECTOR, 0));
}

void enter_real_code(FarTransfer &s, u64 rip, u64 selector, u64 rsp)
{
    write_rsp(s.vmx, rsp);
    load_real_mode_segment(s.vmx, kCs, static_cast<u16>(selector));
    write_rip(s.vmx, rip);
}

bool return_in_real_mode(FarTransfer &s, u32 release)
{
    Stack stack = current_stack(s.vmx);
    u64 rip, selector;
    if (!pop_real_code(s, stack, rip, selector))
        return false;
    enter_real_code(s, rip, selector, stack.advanced(release));
    return true;
}

// Virtual-8086 mode without IOPL 3: with CR4.VME a 16-bit IRET changes VIF in the place of IF. SDM
// Vol. 3B, 21.2.7, 21.3.3.4, and Vol. 2A, IRET.
bool virtual_interrupt_flag(FarTransfer &s, u64 &image, u64 &mask)
{
    if (image & X86_EFLAGS_TF || (image & X86_EFLAGS_IF && read_rflags(s.vmx) & X86_EFLAGS_VIP))
        return refuse(s, GP_VECTOR, 0);
    mask = (mask & ~X86_EFLAGS_IF) | X86_EFLAGS_VIF;
    image = (image & ~X86_EFLAGS_VIF) | (image & X86_EFLAGS_IF ? X86_EFLAGS_VIF : 0);
    return true;
}

bool iret_in_real_mode(FarTransfer &s)
{
    u64 mask = kStatus | kControl | X86_EFLAGS_IF | X86_EFLAGS_IOPL;
    if (s.operand_size == 4)
        mask |= kUpper;
    bool virtual_if = false;
    if (in_vm86(s.vmx)) {
        virtual_if = (read_rflags(s.vmx) & X86_EFLAGS_IOPL) != X86_EFLAGS_IOPL;
        mask &= ~X86_EFLAGS_IOPL;
        if (virtual_if && (!(guest_cr4(s.vmx) & X86_CR4_VME) || s.operand_size != 2))
            return refuse(s, GP_VECTOR, 0);
    }
    Stack stack = current_stack(s.vmx);
    u64 rip, selector, image;
    if (!pop_real_code(s, stack, rip, selector) || !pop(s, stack, s.operand_size, image) ||
        (virtual_if && !virtual_interrupt_flag(s, image, mask)))
        return false;
    enter_real_code(s, rip, selector, stack.rsp);
    finish_with_flags(s.vmx, image, mask);
    return true;
}

// ---- Protected mode ---------------------------------------------------------

// CS as it was pushed: its RPL is the level to return to.
bool find_return_code(FarTransfer &s, u64 selector, u64 rip, CodeTarget &target)
{
    if (!find_code(s, static_cast<u16>(selector), rip, target))
        return false;
    const u8 rpl = target.selector & kSelectorRpl;
    const u8 vector =
        rpl < target.cpl ? u8{GP_VECTOR} : check_return_code(target.descriptor, rpl, GP_VECTOR);
    target.cpl = rpl;
    return vector == kNoFault || refuse(s, vector, target.selector);
}

// SS:rSP as they were pushed, for the code that is returned to.
bool find_return_stack(FarTransfer &s, const CodeTarget &target, u64 popped_ss, u64 popped_rsp,
                       Stack &stack)
{
    const u16 selector = static_cast<u16>(popped_ss);
    const u8 rpl = selector & kSelectorRpl;
    stack.state.code_64 = target.is_64(s);
    if (is_null_selector(selector)) {
        if (!target.is_64(s) || target.cpl == 3 || rpl != target.cpl)
            return refuse(s, GP_VECTOR, 0);
        stack.ss = null_segment(selector, target.cpl);
    } else {
        Descriptor d;
        if (!read_descriptor(s, selector, GP_VECTOR, d))
            return false;
        const u8 vector = check_stack(d, rpl, target.cpl, GP_VECTOR);
        if (vector != kNoFault)
            return refuse(s, vector, selector);
        if (!mark_accessed(s, d))
            return false;
        stack.ss = d.to_register(selector);
    }
    stack.set(popped_rsp);
    return true;
}

// What the less privileged code must not access is gone: SDM Vol. 3A, 5.8.6.
void drop_privileged_segments(vcpu_vmx &vmx, u8 cpl)
{
    constexpr Segment kData[] = {kEs, kDs, kFs, kGs};
    for (const Segment which : kData) {
        const AccessRights rights{segment_rights(vmx, which)};
        if (rights.usable() && !rights.conforming() && rights.dpl() < cpl)
            write_segment_register(vmx, which, null_segment(0));
    }
}

void enter_outer(FarTransfer &s, const CodeTarget &target, const Stack &stack)
{
    const bool outward = target.cpl > guest_cpl(s.vmx);
    enter_code(s.vmx, target);
    write_segment_register(s.vmx, kSs, stack.ss);
    write_rsp(s.vmx, stack.rsp);
    if (outward)
        drop_privileged_segments(s.vmx, target.cpl);
}

bool return_in_protected_mode(FarTransfer &s, u32 release)
{
    Stack stack = current_stack(s.vmx);
    CodeTarget target;
    u64 rip, selector;
    if (!pop(s, stack, s.operand_size, rip) || !pop(s, stack, s.operand_size, selector) ||
        !find_return_code(s, selector, rip, target))
        return false;
    stack.rsp = stack.advanced(release);
    if (target.cpl == guest_cpl(s.vmx)) {
        if (!ready_code(s, target))
            return false;
        enter_code(s.vmx, target);
        write_rsp(s.vmx, stack.rsp);
        return true;
    }
    u64 rsp, ss;
    if (!pop(s, stack, s.operand_size, rsp) || !pop(s, stack, s.operand_size, ss) ||
        !find_return_stack(s, target, ss, rsp, stack) || !ready_code(s, target))
        return false;
    stack.rsp = stack.advanced(release);
    enter_outer(s, target, stack);
    return true;
}

// ---- IRET -------------------------------------------------------------------

// SDM Vol. 2A, IRET, "RETURN-TO-VIRTUAL-8086-MODE"; Vol. 3B, 21.2.5.
bool return_to_vm86(FarTransfer &s, Stack &stack, u64 rip, u64 cs, u64 image)
{
    constexpr u64 kLimit = 0xffff, kDefined = 0x3f7fd5;
    constexpr Segment kOrder[] = {kSs, kEs, kDs, kFs, kGs};
    u64 rsp, selectors[5];
    if (!pop(s, stack, s.operand_size, rsp))
        return false;
    for (u64 &selector : selectors)
        if (!pop(s, stack, s.operand_size, selector))
            return false;
    if (rip > kLimit)
        return refuse(s, GP_VECTOR, 0);
    write_rip(s.vmx, rip);
    finish_with_flags(s.vmx, image, kDefined);
    write_segment_register(s.vmx, kCs, vm86_segment(static_cast<u16>(cs)));
    for (u32 i = 0; i < 5; i++)
        write_segment_register(s.vmx, kOrder[i], vm86_segment(static_cast<u16>(selectors[i])));
    write_rsp(s.vmx, rsp);
    return true;
}

u64 flags_of_return(const FarTransfer &s, u8 cpl)
{
    const u64 iopl = (read_rflags(s.vmx) & X86_EFLAGS_IOPL) >> 12;
    u64 mask = kStatus | kControl;
    if (s.operand_size != 2)
        mask |= kUpper;
    if (cpl <= iopl)
        mask |= X86_EFLAGS_IF;
    if (cpl == 0)
        mask |= X86_EFLAGS_IOPL | (s.operand_size != 2 ? kVirtualIf : 0);
    return mask;
}

bool iret_in_protected_mode(FarTransfer &s)
{
    const u8 cpl = guest_cpl(s.vmx);
    Stack stack = current_stack(s.vmx);
    CodeTarget target;
    u64 rip, selector, image;
    if (!pop(s, stack, s.operand_size, rip) || !pop(s, stack, s.operand_size, selector) ||
        !pop(s, stack, s.operand_size, image))
        return false;
    if (image & X86_EFLAGS_VM && s.operand_size == 4 && cpl == 0 && !s.state.long_mode)
        return return_to_vm86(s, stack, rip, selector, image);
    if (!find_return_code(s, selector, rip, target))
        return false;
    const u64 mask = flags_of_return(s, cpl);
    // 64-bit code always finds SS:RSP there: SDM Vol. 3A, 6.14.3.
    if (target.cpl == cpl && !is_64_bit_code(s.vmx)) {
        if (!ready_code(s, target))
            return false;
        enter_code(s.vmx, target);
        write_rsp(s.vmx, stack.rsp);
    } else {
        u64 rsp, ss;
        if (!pop(s, stack, s.operand_size, rsp) || !pop(s, stack, s.operand_size, ss) ||
            !find_return_stack(s, target, ss, rsp, stack) || !ready_code(s, target))
            return false;
        enter_outer(s, target, stack);
    }
    finish_with_flags(s.vmx, image, mask);
    return true;
}

// The task that this one is nested in: SDM Vol. 3A, 8.4.
TransferEnd return_from_task(FarTransfer &s)
{
    u16 link;
    if (!read_system(s, segment_base(s.vmx, kTr), &link, sizeof(link)))
        return TransferEnd::kFault;
    s.task = {link, TaskSwitchSource::kIret};
    return TransferEnd::kTask;
}

} // namespace

bool return_far(FarTransfer &s, u32 release)
{
    return !is_protmode(s.vmx) || in_vm86(s.vmx) ? return_in_real_mode(s, release)
                                                 : return_in_protected_mode(s, release);
}

TransferEnd return_from_interrupt(FarTransfer &s)
{
    bool done;
    if (!is_protmode(s.vmx) || in_vm86(s.vmx)) {
        done = iret_in_real_mode(s);
    } else if (read_rflags(s.vmx) & X86_EFLAGS_NT) {
        if (!s.state.long_mode)
            return return_from_task(s);
        done = refuse(s, GP_VECTOR, 0);
    } else {
        done = iret_in_protected_mode(s);
    }
    return done ? TransferEnd::kThere : TransferEnd::kFault;
}

} // namespace minivmx
