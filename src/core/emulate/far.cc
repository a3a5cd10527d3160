// SPDX-License-Identifier: GPL-2.0-only
// Far JMP, CALL, RET and IRET as instructions; what they do is
// src/core/segmentation/transfer.hpp's.
#include <minivmx/event_delivery.hpp>
#include <minivmx/run.hpp>

#include "../segmentation/delivery.hpp"
#include "../segmentation/transfer.hpp"
#include "../task/task.hpp"
#include "emulator.hpp"

namespace minivmx {

void conclude_failure(Emulation &e, const SystemAccess &s)
{
    if (s.not_memory)
        e.outcome = fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    else
        inject_fault(e.vmx, s.fault);
}

namespace {

u64 behind(Emulation &e)
{
    const u64 rip = read_rip(e.vmx) + e.insn().length;
    return e.state.code_64 ? rip : static_cast<u32>(rip);
}

// selector:offset, in the instruction or in memory. False: see load_operand().
bool load_far_pointer(Emulation &e, u16 &selector, u64 &offset)
{
    const Instruction &insn = e.insn();
    if (insn.source.kind == OperandKind::kFarPointer) {
        selector = insn.second_immediate;
        offset = insn.immediate;
        return true;
    }
    u64 linear;
    const u32 size = insn.source.size - 2u;
    if (!operand_linear(e, insn.source.size, false, linear) ||
        !read_source(e, linear, insn.source.size))
        return false;
    offset = load_little_endian(e.pending.data, size);
    selector = static_cast<u16>(load_little_endian(e.pending.data + size, 2));
    return true;
}

void switch_task_of_instruction(Emulation &e, FarTransfer &s)
{
    if (!switch_to_task(s, s.task, s.next_rip, nullptr))
        conclude_failure(e, s);
}

// false: it isn't there.
bool conclude(Emulation &e, FarTransfer &s, TransferEnd end)
{
    if (end == TransferEnd::kTask)
        switch_task_of_instruction(e, s);
    else if (end == TransferEnd::kFault)
        conclude_failure(e, s);
    return end == TransferEnd::kThere;
}

void interrupt_return(Emulation &e, FarTransfer &s)
{
    const TransferEnd end = return_from_interrupt(s);
    if (end != TransferEnd::kFault) // SDM Vol. 3A, 6.7.1
        set_nmis_masked(e.vmx, false);
    (void)conclude(e, s, end);
}

} // namespace

void execute_far(Emulation &e)
{
    const Instruction &insn = e.insn();
    FarTransfer s{e.vmx, insn.operand_size, behind(e)};
    u16 selector;
    u64 offset;
    bool done;
    switch (insn.operation) {
    case Operation::kIret:
        interrupt_return(e, s);
        return;
    case Operation::kRetFar:
        done = return_far(s, static_cast<u16>(insn.immediate));
        if (!done)
            conclude_failure(e, s);
        break;
    default:
        if (!load_far_pointer(e, selector, offset))
            return;
        done = conclude(e, s,
                        insn.operation == Operation::kJmpFar ? jump_far(s, selector, offset)
                                                             : call_far(s, selector, offset));
        break;
    }
    if (done)
        finish_jump(e.vmx, read_rip(e.vmx));
}

// ---- Software interrupts ----------------------------------------------------

namespace {

// INT n in virtual-8086 mode: by CR4.VME a map in the task's state says which interrupts stay
// there; the others want IOPL 3. SDM Vol. 3B, 21.3.3 and table 21-2. INT3 and INTO never ask.
enum class Vm86Interrupt : u8 { kToMonitor, kStays, kRefused, kFault };

Vm86Interrupt route_vm86_interrupt(SystemAccess &s, u8 vector)
{
    constexpr u32 kMapBase = 0x66, kMapSize = 32;
    const bool iopl3 = (read_rflags(s.vmx) & X86_EFLAGS_IOPL) == X86_EFLAGS_IOPL;
    bool redirected = false;
    if (guest_cr4(s.vmx) & X86_CR4_VME) {
        const SegmentRegister tr = read_segment_register(s.vmx, kTr);
        u16 map;
        u8 bits;
        if (!read_system(s, advance_linear(s.state, tr.base, kMapBase), &map, sizeof(map)))
            return Vm86Interrupt::kFault;
        if (map >= kMapSize &&
            !read_system(s, advance_linear(s.state, tr.base, map - kMapSize + vector / 8), &bits,
                         1))
            return Vm86Interrupt::kFault;
        redirected = map >= kMapSize && (bits >> vector % 8 & 1) == 0;
    }
    if (redirected)
        return Vm86Interrupt::kStays;
    return iopl3 ? Vm86Interrupt::kToMonitor : Vm86Interrupt::kRefused;
}

GuestEvent event_of(const Instruction &insn)
{
    GuestEvent event = {.type = INTR_TYPE_SOFT_INTR,
                        .vector = static_cast<u8>(insn.immediate),
                        .has_error_code = false,
                        .error_code = 0,
                        .instruction_length = insn.length};
    if (insn.operation == Operation::kInt)
        return event;
    event.type = INTR_TYPE_SOFT_EXCEPTION;
    event.vector = insn.operation == Operation::kInto ? OF_VECTOR : BP_VECTOR;
    return event;
}

void deliver(Emulation &e, const GuestEvent &event)
{
    if (deliver_event(e.vmx, event) == Delivered::kNotMemory)
        e.outcome = fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
}

// True: it goes through the monitor's IDT. The other ways end here.
bool leaves_vm86(Emulation &e, const GuestEvent &event)
{
    SystemAccess s{e.vmx};
    switch (route_vm86_interrupt(s, event.vector)) {
    case Vm86Interrupt::kToMonitor:
        return true;
    case Vm86Interrupt::kStays:
        if (deliver_redirected(e.vmx, event) == Delivered::kNotMemory)
            e.outcome = fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
        return false;
    case Vm86Interrupt::kRefused:
        inject_gp(e.vmx);
        return false;
    case Vm86Interrupt::kFault:
        break;
    }
    conclude_failure(e, s);
    return false;
}

} // namespace

void execute_interrupt(Emulation &e)
{
    const Instruction &insn = e.insn();
    if (insn.operation == Operation::kIcebp) {
        // SDM Vol. 3B, 18.3.1.4: #DB behind the instruction, whatever the gate's privilege.
        finish_instruction(e.vmx, insn.length);
        queue_exception(e.vmx, DB_VECTOR);
        return;
    }
    if (insn.operation == Operation::kInto && !(read_rflags(e.vmx) & X86_EFLAGS_OF)) {
        finish_instruction(e.vmx, insn.length);
        return;
    }
    if (insn.operation == Operation::kInt3 && (e.vmx.debug.control & KVM_GUESTDBG_USE_SW_BP)) {
        e.vmx.event_instruction_length = insn.length;
        e.outcome = debug_exit(e.vmx, BP_VECTOR, 0);
        return;
    }
    const GuestEvent event = event_of(insn);
    if (insn.operation != Operation::kInt || !in_vm86(e.vmx) || leaves_vm86(e, event))
        deliver(e, event);
}

} // namespace minivmx
