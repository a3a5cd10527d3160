// SPDX-License-Identifier: GPL-2.0-only
// Port I/O. What no device of the module answers is user space's; data goes through a page it
// shares with us (KVM_PIO_PAGE_OFFSET).
#include <minivmx/hardware.hpp>
#include <minivmx/irqchip.hpp>

#include "emulator.hpp"

namespace minivmx {

namespace {

// Older user space expects RIP behind an OUT to this port already at the exit:
// KVM_X86_QUIRK_OUT_7E_INC_RIP.
constexpr u16 kQuirkPort = 0x7e;

[[gnu::always_inline]] inline void ask_for_port(vcpu_vmx &vmx, u16 port, bool in, u32 size,
                                                u32 count)
{
    kvm_run *run = vmx.area->run;
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
    run->io.size = static_cast<u8>(size);
    run->io.port = port;
    run->io.count = count;
    run->io.data_offset = KVM_PIO_PAGE_OFFSET * kPageSize;
    vmx.pending.in_place = true;
}

// One store, as large as the port is.
[[gnu::always_inline]] inline void put_port_data(vcpu_vmx &vmx, u32 data, u32 size)
{
    void *page = vmx.area->pio_data;
    if (size == 1)
        *static_cast<u8 *>(page) = static_cast<u8>(data);
    else if (size == 2)
        *static_cast<u16 *>(page) = static_cast<u16>(data);
    else
        *static_cast<u32 *>(page) = data;
}

// From RAX to a device of the module, and the other way. False: it has none at this port. Not
// inlined: who asks user space needs no place for the data.
[[gnu::noinline]] bool out_to_device(vcpu_vmx &vmx, u16 port, u32 size)
{
    u32 data = static_cast<u32>(vmx.area->regs[kRax]);
    if (!kernel_pio(vmx, port, true, &data, size))
        return false;
    skip_emulated_instruction(vmx);
    return true;
}

[[gnu::noinline]] bool in_from_device(vcpu_vmx &vmx, u16 port, u32 size)
{
    u32 data = 0;
    if (!kernel_pio(vmx, port, false, &data, size))
        return false;
    write_gpr_part(vmx, kRax, size, data);
    skip_emulated_instruction(vmx);
    return true;
}

[[gnu::always_inline]] inline Outcome port_out(vcpu_vmx &vmx, u16 port, u32 size)
{
    if (has_port_devices(*vmx.kvm) && out_to_device(vmx, port, size))
        return Outcome::resume();
    put_port_data(vmx, static_cast<u32>(vmx.area->regs[kRax]), size);
    ask_for_port(vmx, port, false, size, 1);
    if (port == kQuirkPort) {
        skip_emulated_instruction(vmx);
    } else {
        vmx.pending.kind = PendingIo::kPortOut;
    }
    return Outcome::to_user();
}

[[gnu::always_inline]] inline Outcome port_in(vcpu_vmx &vmx, u16 port, u32 size)
{
    if (has_port_devices(*vmx.kvm) && in_from_device(vmx, port, size))
        return Outcome::resume();
    put_port_data(vmx, 0, size);
    ask_for_port(vmx, port, true, size, 1);
    vmx.pending.kind = PendingIo::kPortIn;
    vmx.pending.io_size = size;
    return Outcome::to_user();
}

// ---- INS and OUTS -----------------------------------------------------------

// What the exit says of a string instruction: SDM Vol. 3C, 28.2.5, table 28-8. Address size in bits
// 9:7, the segment (of OUTS) in bits 17:15.
void describe_string_io(Emulation &e, const IoInfo &info)
{
    Instruction &insn = e.pending.instruction;
    const u32 details = vmcs_read(VMX_INSTRUCTION_INFO);
    insn = Instruction{};
    insn.operation = info.in ? Operation::kIns : Operation::kOuts;
    insn.length = static_cast<u8>(vmcs_read(VM_EXIT_INSTRUCTION_LEN));
    insn.address_size = static_cast<u8>(2 << (details >> 7 & 3));
    insn.rep = info.rep;
    insn.memory.segment = static_cast<u8>(details >> 15 & 7);
    insn.destination.size = insn.source.size = info.size;
    e.pending.code_size = 0;
    e.ports_allowed = true; // which bytes that are fetched now need not be
}

bool is_string_io(const Instruction &insn, const IoInfo &info)
{
    return insn.operation == (info.in ? Operation::kIns : Operation::kOuts);
}

Outcome string_io(vcpu_vmx &vmx, const IoInfo &info)
{
    // IA32_VMX_BASIC[54]: exits of INS and OUTS describe the instruction.
    constexpr u32 kReportsInsOuts = bit32(54 - 32);
    Emulation e{vmx};
    e.forget_reads();
    if ((hardware.config.basic_cap & kReportsInsOuts) != 0) {
        describe_string_io(e, info);
    } else {
        if (!fetch_and_decode(e))
            return e.outcome;
        if (!is_string_io(e.insn(), info))
            return Outcome::resume(); // another vCPU changed the code meanwhile: the new code runs
    }
    return execute(e);
}

[[gnu::noinline]] Outcome handle_string_io(vcpu_vmx &vmx)
{
    host_let_sleep(vmx.host);
    return string_io(vmx, IoInfo::decode(exit_qualification(vmx)));
}

// Elements that lie in the page of the first one, at offset in their segment. At least 1: an
// element may cross pages.
u64 elements_in_page(Emulation &e, u64 linear, u64 offset, u32 size)
{
    const u64 in_page = linear & (kPageSize - 1);
    const u64 before_wrap =
        address_mask(e.insn()) - offset; // bytes behind this one until the offset wraps
    u64 n;
    if (in_page + size > kPageSize) {
        n = 1;
    } else if (direction_down(e)) {
        n = (in_page < offset ? in_page : offset) / size + 1;
    } else {
        n = (kPageSize - in_page) / size;
        if (before_wrap < kPageSize && (before_wrap + 1) / size < n)
            n = (before_wrap + 1) / size;
    }
    return n ? n : 1;
}

// How many elements of INS to ask for at once: those that will go where the first one goes, as far
// as can be told now, so that the device isn't read for elements that fault. 0: the first faults;
// the exception is queued.
u64 ins_batch(Emulation &e, u32 size)
{
    const u64 offset = read_address_register(e, kRdi);
    u64 linear;
    if (!to_linear(e, kEs, offset, size, true, linear))
        return 0;
    if (!probe_write(e, linear, size))
        return 0;
    u64 n = elements_in_page(e, linear, offset, size);
    const u64 left = iterations_left(e);
    n = n < left ? n : left;
    const u64 lowest = direction_down(e) ? offset - (n - 1) * size : offset;
    GuestFault fault;
    if (n > 1 && segment_to_linear(e.vmx, e.state, kEs, lowest, static_cast<u32>(n * size),
                                   Access{.write = true}, linear, fault) != MemoryResult::kOk)
        n = 1;
    return n;
}

} // namespace

Outcome handle_io(vcpu_vmx &vmx)
{
    const IoInfo info = IoInfo::decode(exit_qualification(vmx));
    if (info.string) [[unlikely]]
        return handle_string_io(vmx);
    return info.in ? port_in(vmx, info.port, info.size) : port_out(vmx, info.port, info.size);
}

Outcome handle_port_io(vcpu_vmx &vmx, const IoInfo &info)
{
    if (info.string)
        return string_io(vmx, info);
    return info.in ? port_in(vmx, info.port, info.size) : port_out(vmx, info.port, info.size);
}

// One element an exit, as kvm_intel does it: user space that has never met another count for OUT
// goes on working.
Outcome execute_outs(Emulation &e)
{
    const u32 size = e.pending.io_size = e.insn().source.size;
    u64 linear;
    if (!port_allowed(e, static_cast<u16>(read_gpr(e.vmx, kRdx)), size))
        return e.outcome;
    if (iterations_left(e) == 0) {
        finish_instruction(e.vmx, e.insn().length);
        return Outcome::resume();
    }
    if (!to_linear(e, e.insn().memory.segment, read_address_register(e, kRsi), size, false,
                   linear) ||
        !read_source(e, linear, size))
        return e.outcome;
    const u16 port = static_cast<u16>(read_gpr(e.vmx, kRdx));
    const bool done = kernel_pio(e.vmx, port, true, e.pending.data, size);
    if (!done) {
        __builtin_memcpy(e.vmx.area->pio_data, e.pending.data, size);
        ask_for_port(e.vmx, port, false, size, 1);
    }
    advance_address_register(e, kRsi, 1, size);
    finish_iterations(e, 1);
    return done ? Outcome::resume() : Outcome::to_user();
}

namespace {

// The elements of INS from a device of the module, if the port is one's; one that goes away
// meanwhile reads as 0.
bool kernel_ins(Emulation &e, u32 n)
{
    const u32 size = e.pending.io_size;
    const u16 port = static_cast<u16>(read_gpr(e.vmx, kRdx));
    u8 *data = static_cast<u8 *>(e.vmx.area->pio_data);
    for (u32 i = 0; i < n; i++)
        if (!kernel_pio(e.vmx, port, false, data + i * size, size) && i == 0)
            return false;
    e.pending.count = n;
    e.pending.done = 0;
    return true;
}

} // namespace

Outcome execute_ins(Emulation &e)
{
    const u32 size = e.pending.io_size = e.insn().destination.size;
    if (!port_allowed(e, static_cast<u16>(read_gpr(e.vmx, kRdx)), size))
        return e.outcome;
    if (iterations_left(e) == 0) {
        finish_instruction(e.vmx, e.insn().length);
        return Outcome::resume();
    }
    const u64 n = ins_batch(e, size);
    if (n == 0)
        return e.outcome;
    __builtin_memset(e.vmx.area->pio_data, 0, n * size);
    if (kernel_ins(e, static_cast<u32>(n)))
        return store_ins_data(e);
    ask_for_port(e.vmx, static_cast<u16>(read_gpr(e.vmx, kRdx)), true, size, static_cast<u32>(n));
    e.pending.kind = PendingIo::kStringIn;
    e.pending.count = static_cast<u32>(n);
    e.pending.done = 0;
    return Outcome::to_user();
}

// ---- The data of INS --------------------------------------------------------

namespace {

// Writes as much as can be written at once; what user space has to write goes alone. False: an
// exception is queued.
bool store_next_elements(Emulation &e, u64 &n)
{
    PendingInstruction &pending = e.pending;
    const u32 size = pending.io_size;
    const u8 *data = static_cast<const u8 *>(e.vmx.area->pio_data) + u64{pending.done} * size;
    const u64 offset = read_address_register(e, kRdi);
    u64 linear;
    GuestFault fault;

    n = direction_down(e) ? 1 : pending.count - pending.done;
    const u32 bytes = static_cast<u32>(n * size);
    if (n > 1 &&
        segment_to_linear(e.vmx, e.state, kEs, offset, bytes, Access{.write = true}, linear,
                          fault) == MemoryResult::kOk &&
        write_guest_virt(e.vmx, e.state, linear, data, bytes, fault) == MemoryResult::kOk)
        return true;

    n = 1;
    if (!to_linear(e, kEs, offset, size, true, linear))
        return false;
    for (u32 i = 0; i < size; i++)
        pending.data[i] = data[i];
    return write_destination(e, linear, size);
}

} // namespace

Outcome store_ins_data(Emulation &e)
{
    PendingInstruction &pending = e.pending;
    // User space may have changed rCX meanwhile.
    const u64 left = iterations_left(e);
    if (left < pending.count - pending.done)
        pending.count = pending.done + static_cast<u32>(left);
    while (pending.done < pending.count) {
        u64 n;
        if (!store_next_elements(e, n))
            return e.outcome;
        pending.done += static_cast<u32>(n);
        advance_address_register(e, kRdi, n, pending.io_size);
        finish_iterations(e, n);
        if (pending.kind == PendingIo::kMmioWrite)
            return e.outcome;
    }
    return Outcome::resume();
}

// ---- IN and OUT that did not exit -------------------------------------------

void execute_port(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool in = insn.operation == Operation::kIn;
    const Operand &number = in ? insn.source : insn.destination;
    const u8 size = in ? insn.destination.size : insn.source.size;
    const u16 port = static_cast<u16>(
        number.kind == OperandKind::kImmediate ? insn.immediate & 0xff : read_gpr(e.vmx, kRdx));
    if (port_allowed(e, port, size))
        e.outcome = handle_port_io(e.vmx, {size, in, false, false, port});
}

} // namespace minivmx
