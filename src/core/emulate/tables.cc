// SPDX-License-Identifier: GPL-2.0-only
// Loads and stores of the descriptor-table registers, which exit where a client wants to see them
// or the guest's UMIP is emulated, and INVPCID. SDM Vol. 2A and 2B, the instructions' pages; Vol.
// 3A, 2.4 "Memory-Management Registers".
//
// Privilege is checked here, too: the bytes that are decoded may be others than those that exited.
#include <minivmx/segment.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>

#include "../segmentation/load.hpp"
#include "emulator.hpp"

namespace minivmx {

namespace {

bool loads(Operation operation)
{
    return operation == Operation::kLgdt || operation == Operation::kLidt ||
           operation == Operation::kLldt || operation == Operation::kLtr;
}

bool is_allowed(Emulation &e)
{
    const Operation operation = e.insn().operation;
    const bool of_tasks = operation >= Operation::kSldt;
    const bool virtual_8086 = (read_rflags(e.vmx) & X86_EFLAGS_VM) != 0;
    if (of_tasks && (!e.state.protected_mode || virtual_8086)) {
        inject_ud(e.vmx);
        return false;
    }
    if (guest_cpl(e.vmx) > 0 && (loads(operation) || guest_cr4(e.vmx) & X86_CR4_UMIP)) {
        inject_gp(e.vmx);
        return false;
    }
    return true;
}

// ---- GDTR and IDTR ----------------------------------------------------------

constexpr u32 kLimitSize = 2;

void store_table(Emulation &e, u64 base, u32 limit)
{
    const u32 size = e.insn().destination.size;
    u64 linear;
    if (!operand_linear(e, size, true, linear))
        return;
    store_little_endian(e.pending.data, limit, kLimitSize);
    store_little_endian(e.pending.data + kLimitSize, base, size - kLimitSize);
    if (write_destination(e, linear, size))
        finish_instruction(e.vmx, e.insn().length);
}

template <class BaseField, class LimitField>
void load_table(Emulation &e, BaseField base_field, LimitField limit_field)
{
    const Instruction &insn = e.insn();
    const u32 size = insn.source.size;
    u64 linear;
    if (!operand_linear(e, size, false, linear) || !read_source(e, linear, size))
        return;
    const u64 limit = load_little_endian(e.pending.data, kLimitSize);
    u64 base = load_little_endian(e.pending.data + kLimitSize, size - kLimitSize);
    // A 16-bit operand size leaves 24 bits of the base.
    if (!e.state.code_64 && insn.operand_size == 2)
        base &= 0xffffff;
    if (!is_canonical_address(e.vmx, base)) {
        inject_gp(e.vmx);
        return;
    }
    vmcs_write(base_field, base);
    vmcs_write(limit_field, static_cast<u32>(limit));
    e.vmx.check_state = true; // real mode's table of interrupts may have moved
    finish_instruction(e.vmx, insn.length);
}

// ---- LDTR and TR ------------------------------------------------------------

void load_ldtr(Emulation &e, u16 selector)
{
    SystemAccess s{e.vmx};
    if (load_ldt(s, selector, GP_VECTOR, NP_VECTOR))
        finish_instruction(e.vmx, e.insn().length);
    else
        conclude_failure(e, s);
}

void load_tr(Emulation &e, u16 selector)
{
    SystemAccess s{e.vmx};
    if (load_task_register(s, selector))
        finish_instruction(e.vmx, e.insn().length);
    else
        conclude_failure(e, s);
}

void store_selector(Emulation &e, u16 selector)
{
    if (store_operand(e, e.insn().destination, selector))
        finish_instruction(e.vmx, e.insn().length);
}

} // namespace

void execute_table_access(Emulation &e)
{
    u64 selector;
    if (!is_allowed(e))
        return;
    switch (e.insn().operation) {
    case Operation::kSgdt:
        return store_table(e, vmcs_read(GUEST_GDTR_BASE), vmcs_read(GUEST_GDTR_LIMIT));
    case Operation::kSidt:
        return store_table(e, vmcs_read(GUEST_IDTR_BASE), vmcs_read(GUEST_IDTR_LIMIT));
    case Operation::kLgdt:
        return load_table(e, GUEST_GDTR_BASE, GUEST_GDTR_LIMIT);
    case Operation::kLidt:
        return load_table(e, GUEST_IDTR_BASE, GUEST_IDTR_LIMIT);
    case Operation::kSldt:
        return store_selector(e, segment_selector(e.vmx, kLdtr));
    case Operation::kStr:
        return store_selector(e, segment_selector(e.vmx, kTr));
    default:
        break;
    }
    if (!load_operand(e, e.insn().source, selector))
        return;
    if (e.insn().operation == Operation::kLldt)
        load_ldtr(e, static_cast<u16>(selector));
    else
        load_tr(e, static_cast<u16>(selector));
}

// SDM Vol. 2A, INVPCID. The descriptor: PCID, reserved bits, linear address.
void execute_invpcid(Emulation &e)
{
    constexpr u32 kDescriptorSize = 16;
    constexpr u64 kAddress = 0, kOnePcid = 1, kLastType = 3, kPcidBits = 0xfff;
    u64 type, linear;
    (void)load_operand(e, e.insn().destination, type); // a register
    if (guest_cpl(e.vmx) > 0 || type > kLastType) {
        inject_gp(e.vmx);
        return;
    }
    if (!operand_linear(e, kDescriptorSize, false, linear) ||
        !read_source(e, linear, kDescriptorSize))
        return;
    const u64 pcid = load_little_endian(e.pending.data, 8);
    const u64 address = load_little_endian(e.pending.data + 8, 8);
    const bool of_one_pcid = type <= kOnePcid;
    const bool pcids = (guest_cr4(e.vmx) & X86_CR4_PCIDE) != 0;
    if (pcid & ~kPcidBits || (of_one_pcid && pcid && !pcids) ||
        (type == kAddress && !is_canonical_address(e.vmx, address))) {
        inject_gp(e.vmx);
        return;
    }
    if (of_one_pcid)
        invalidate_pcid(e.vmx, pcid, type == kAddress ? &address : nullptr);
    else
        forget_guest_translations(e.vmx);
    finish_instruction(e.vmx, e.insn().length);
}

} // namespace minivmx
