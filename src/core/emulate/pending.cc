// SPDX-License-Identifier: GPL-2.0-only
// User space has answered: the instruction that asked goes on.
//
// kvm_run and the port data page are user space's to write at any time. What is taken from them is
// data only, read once; all sizes, counts and addresses come from vmx.pending.
#include "emulator.hpp"

namespace minivmx {

namespace {

// Whether the instruction that asked is still the one at CS:RIP.
bool is_where_it_was(vcpu_vmx &vmx)
{
    return vmx.pending.in_place || linear_rip(vmx) == vmx.pending.linear_rip;
}

template <class Value>
void take_port_data(vcpu_area &area)
{
    const Value value = *static_cast<const volatile Value *>(area.pio_data);
    area.regs[kRax] = with_part(area.regs[kRax], sizeof(Value), value);
}

void complete_port_in(vcpu_vmx &vmx)
{
    switch (vmx.pending.io_size) {
    case 1:
        take_port_data<u8>(*vmx.area);
        break;
    case 2:
        take_port_data<u16>(*vmx.area);
        break;
    default:
        take_port_data<u32>(*vmx.area);
        break;
    }
    skip_emulated_instruction(vmx);
}

Outcome complete_string_in(vcpu_vmx &vmx)
{
    host_let_sleep(vmx.host);
    Emulation e{vmx};
    return store_ins_data(e);
}

// What it reads is all there is to it, so it needn't run again from its start.
bool is_load(const Instruction &insn)
{
    return insn.operation == Operation::kMov && insn.destination.kind == OperandKind::kRegister;
}

Outcome complete_mmio_read(vcpu_vmx &vmx)
{
    if (!next_fragment(vmx))
        return Outcome::to_user();
    if (!is_where_it_was(vmx))
        return Outcome::resume();
    if (is_load(vmx.pending.instruction)) {
        finish_load(vmx);
        return Outcome::resume();
    }
    keep_read(vmx.pending);
    host_let_sleep(vmx.host);
    Emulation e{vmx};
    return execute(e);
}

Outcome complete_mmio_write(vcpu_vmx &vmx)
{
    if (!next_fragment(vmx))
        return Outcome::to_user();
    // Elements of an INS may wait behind one that went to user space.
    if (vmx.pending.instruction.operation != Operation::kIns ||
        vmx.pending.done == vmx.pending.count)
        return Outcome::resume();
    if (!is_where_it_was(vmx))
        return Outcome::resume();
    host_let_sleep(vmx.host);
    Emulation e{vmx};
    return store_ins_data(e);
}

} // namespace

void finish_load(vcpu_vmx &vmx)
{
    const Instruction &insn = vmx.pending.instruction;
    write_register_operand(vmx, insn.destination,
                           load_little_endian(vmx.pending.data, insn.destination.size));
    set_instruction_length(vmx, insn.length);
    finish_instruction(vmx, insn.length);
}

void note_place_of_pending(vcpu_vmx &vmx)
{
    PendingInstruction &pending = vmx.pending;
    if (pending.kind == PendingIo::kNone || !pending.in_place)
        return;
    pending.linear_rip = linear_rip(vmx);
    pending.in_place = false;
}

Outcome complete_pending(vcpu_vmx &vmx)
{
    const PendingIo kind = vmx.pending.kind;
    if (kind == PendingIo::kMmioRead)
        return complete_mmio_read(vmx);
    if (kind == PendingIo::kMmioWrite)
        return complete_mmio_write(vmx);

    vmx.pending.kind = PendingIo::kNone;
    if (!is_where_it_was(vmx))
        return Outcome::resume(); // user space made the vCPU go on elsewhere, as after a reset
    if (kind == PendingIo::kPortOut)
        skip_emulated_instruction(vmx);
    else if (kind == PendingIo::kPortIn)
        complete_port_in(vmx);
    else
        return complete_string_in(vmx);
    return Outcome::resume();
}

} // namespace minivmx
