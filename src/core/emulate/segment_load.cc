// SPDX-License-Identifier: GPL-2.0-only
// Loads of segment registers by MOV, POP, LDS and its siblings; what programs may ask about
// selectors: ARPL, LAR, LSL, VERR, VERW; the bases of FS and GS in 64-bit code.
#include <minivmx/state.hpp>

#include "../segmentation/load.hpp"
#include "../segmentation/stack.hpp"
#include "emulator.hpp"
#include "native.hpp"

namespace minivmx {

// ---- Loads ------------------------------------------------------------------

namespace {

// SDM Vol. 3A, 6.8.3: what follows a load of SS isn't interrupted; LSS loads both SS and rSP, and
// blocks nothing.
void block_after_stack_load(vcpu_vmx &vmx)
{
    write_interruptibility(vmx, read_interruptibility(vmx) | GUEST_INTR_STATE_MOV_SS);
}

bool load_selector(Emulation &e, Segment which, u64 selector)
{
    SystemAccess s{e.vmx};
    if (load_segment_register(s, which, static_cast<u16>(selector)))
        return true;
    conclude_failure(e, s);
    return false;
}

void move_to_segment(Emulation &e)
{
    const Instruction &insn = e.insn();
    const Segment which = static_cast<Segment>(insn.destination.reg);
    u64 selector;
    if (!load_operand(e, insn.source, selector) || !load_selector(e, which, selector))
        return;
    finish_instruction(e.vmx, insn.length);
    if (which == kSs)
        block_after_stack_load(e.vmx);
}

void pop_segment(Emulation &e)
{
    const Instruction &insn = e.insn();
    const Segment which = static_cast<Segment>(insn.destination.reg);
    Stack stack = current_stack(e.vmx);
    u64 linear;
    if (!to_linear(e, kSs, stack.rsp & stack.mask(), insn.operand_size, false, linear) ||
        !read_source(e, linear, insn.operand_size))
        return;
    const u64 selector = load_little_endian(e.pending.data, sizeof(u16));
    const u64 rsp = stack.advanced(insn.operand_size);
    if (!load_selector(e, which, selector))
        return;
    write_rsp(e.vmx, rsp);
    finish_instruction(e.vmx, insn.length);
    if (which == kSs)
        block_after_stack_load(e.vmx);
}

Segment segment_of_far_load(const Instruction &insn)
{
    switch (insn.opcode) {
    case 0xc4:
        return kEs;
    case 0xc5:
        return kDs;
    case 0xb2:
        return kSs;
    case 0xb4:
        return kFs;
    default:
        return kGs;
    }
}

void load_pointer(Emulation &e)
{
    const Instruction &insn = e.insn();
    const u32 offset_size = insn.source.size - 2u;
    u64 linear;
    if (!operand_linear(e, insn.source.size, false, linear) ||
        !read_source(e, linear, insn.source.size))
        return;
    const u64 offset = load_little_endian(e.pending.data, offset_size);
    const u64 selector = load_little_endian(e.pending.data + offset_size, sizeof(u16));
    if (!load_selector(e, segment_of_far_load(insn), selector))
        return;
    (void)store_operand(e, insn.destination, offset); // a register
    finish_instruction(e.vmx, insn.length);
}

} // namespace

void execute_segment_load(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kPopSegment:
        return pop_segment(e);
    case Operation::kLoadFarPointer:
        return load_pointer(e);
    default:
        return move_to_segment(e);
    }
}

// ---- Questions --------------------------------------------------------------

namespace {

void set_zero_flag(vcpu_vmx &vmx, bool set)
{
    const u64 flags = read_rflags(vmx) & ~native::kZero;
    write_rflags(vmx, set ? flags | native::kZero : flags);
}

// The types that LAR and LSL answer for: SDM Vol. 2A, their tables.
bool answers(const SystemAccess &s, const Descriptor &d, bool limit)
{
    if (!d.system())
        return true;
    const bool tss16 = d.tss() && d.type() < 8;
    if (d.type() == kTypeLdt || (d.tss() && !tss16))
        return true;
    if (s.state.long_mode)
        return !limit && d.type() == kTypeCallGate32;
    if (limit)
        return tss16;
    return tss16 || d.type() == kTypeCallGate16 || d.type() == kTypeTaskGate ||
           d.type() == kTypeCallGate32;
}

bool is_visible(SystemAccess &s, const Descriptor &d, u16 selector)
{
    const u8 rpl = selector & kSelectorRpl;
    return d.conforming() || (d.dpl() >= guest_cpl(s.vmx) && d.dpl() >= rpl);
}

// False: there is no such descriptor, or s has a reason why nobody can tell.
bool find_descriptor(SystemAccess &s, u16 selector, Descriptor &d)
{
    return !is_null_selector(selector) && read_descriptor(s, selector, GP_VECTOR, d);
}

// A selector beyond its table is an answer, not a fault.
bool went_wrong(const SystemAccess &s)
{
    return s.not_memory || s.fault.vector == PF_VECTOR;
}

bool allows(Operation operation, SystemAccess &s, const Descriptor &d, u16 selector)
{
    switch (operation) {
    case Operation::kLar:
        return answers(s, d, false) && is_visible(s, d, selector);
    case Operation::kLsl:
        return answers(s, d, true) && is_visible(s, d, selector);
    case Operation::kVerr:
        return d.readable() && is_visible(s, d, selector);
    default: // kVerw
        return d.writable() && is_visible(s, d, selector);
    }
}

} // namespace

// They don't exist where there are no descriptors: #UD.
void execute_selector_question(Emulation &e)
{
    constexpr u64 kLarBits = 0x00ffff00;
    const Instruction &insn = e.insn();
    if (!e.state.protected_mode || in_vm86(e.vmx)) {
        inject_ud(e.vmx);
        return;
    }
    u64 value;
    if (!load_operand(e, insn.source, value))
        return;
    const u16 selector = static_cast<u16>(value);
    SystemAccess s{e.vmx};
    Descriptor d{};
    const bool found = find_descriptor(s, selector, d);
    if (went_wrong(s)) {
        conclude_failure(e, s);
        return;
    }
    const bool yes = found && allows(insn.operation, s, d, selector);
    if (yes && insn.operation == Operation::kLar)
        (void)store_operand(e, insn.destination, d.raw >> 32 & kLarBits);
    else if (yes && insn.operation == Operation::kLsl)
        (void)store_operand(e, insn.destination, d.limit());
    set_zero_flag(e.vmx, yes);
    finish_instruction(e.vmx, insn.length);
}

// SDM Vol. 2A, ARPL.
void execute_arpl(Emulation &e)
{
    const Instruction &insn = e.insn();
    if (!e.state.protected_mode || in_vm86(e.vmx)) {
        inject_ud(e.vmx);
        return;
    }
    u64 source, selector;
    if (!load_operand(e, insn.source, source) || !load_operand(e, insn.destination, selector))
        return;
    const bool raise = (selector & kSelectorRpl) < (source & kSelectorRpl);
    const u64 raised = (selector & ~u64{kSelectorRpl}) | (source & kSelectorRpl);
    if (raise && !store_operand(e, insn.destination, raised))
        return;
    set_zero_flag(e.vmx, raise);
    finish_instruction(e.vmx, insn.length);
}

// ---- FS and GS in 64-bit code -----------------------------------------------

// SDM Vol. 2B, RDFSBASE and its siblings; SWAPGS.
void execute_segment_base(Emulation &e)
{
    const Instruction &insn = e.insn();
    if (insn.operation == Operation::kSwapgs) {
        if (guest_cpl(e.vmx) > 0) {
            inject_gp(e.vmx);
            return;
        }
        const u64 base = segment_base(e.vmx, kGs);
        write_segment_base(e.vmx, kGs, host_read_kernel_gs_base(e.vmx.host));
        host_write_kernel_gs_base(e.vmx.host, base);
        finish_instruction(e.vmx, insn.length);
        return;
    }
    if (!(guest_cr4(e.vmx) & X86_CR4_FSGSBASE)) {
        inject_ud(e.vmx);
        return;
    }
    const Segment which = insn.modrm & 8 ? kGs : kFs; // ModRM.reg's lowest bit
    if (insn.operation == Operation::kReadSegmentBase) {
        (void)store_operand(e, insn.destination, segment_base(e.vmx, which));
    } else {
        u64 base;
        (void)load_operand(e, insn.source, base);
        if (!is_canonical_address(e.vmx, base)) {
            inject_gp(e.vmx);
            return;
        }
        write_segment_base(e.vmx, which, base);
    }
    finish_instruction(e.vmx, insn.length);
}

} // namespace minivmx
