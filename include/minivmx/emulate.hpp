// SPDX-License-Identifier: GPL-2.0-only
// Instructions that the CPU leaves to software: port I/O and accesses to guest-physical addresses
// without memory.
//
// An instruction that user space must do a part of is not kept half done: it is decoded once and
// kept with what user space has answered so far (PendingInstruction); at the next KVM_RUN it runs
// again from its start, and reads take their values from there. Registers, RIP and memory change
// only when all of its reads are there.
#pragma once

#include <minivmx/decode.hpp>
#include <minivmx/exit.hpp>
#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

// What KVM_RUN has to finish before the guest goes on.
enum class PendingIo : u8 {
    kNone,
    kPortIn,   // IN: kvm_run's data goes to the accumulator
    kPortOut,  // OUT: only RIP has to move
    kStringIn, // INS: the data goes to guest memory
    kMmioRead,
    kMmioWrite,
};

// The part of an MMIO access that lies in one guest page: bytes [offset, offset + size) of
// PendingInstruction.data.
struct MmioFragment {
    u64 gpa;
    u8 offset;
    u8 size;
};

inline constexpr u32 kMaxOperandSize = 32; // a YMM register

// An instruction on its way through user space. Of user space's memory it holds only copies.
struct PendingInstruction {
    PendingIo kind;
    u8 reads_done;  // memory operands read so far; their bytes are in `read`, one after the other
    u8 read_end;    // how many bytes that is
    u8 access_size; // bytes of the memory access under way, all fragments
    u8 fragment_count; // of the MMIO access under way
    u8 fragment_next;  // the one that user space is asked for
    u8 io_size;        // bytes of one port access
    u8 code_size;
    u32 count; // elements of a string port access
    u32 done;  // of these, the ones in guest memory
    // Nobody has changed CS or RIP since user space was asked; else the instruction was at
    // linear_rip, and if the vCPU isn't, user space has moved it elsewhere.
    bool in_place;
    u64 linear_rip;
    Instruction instruction;
    MmioFragment fragments[2];
    // What the access under way reads or writes; and room for who takes 8 bytes where fewer count.
    u8 data[kMaxOperandSize + 7];
    u8 read[kMaxOperandSize];
    u8 code[kMaxInstructionLength]; // the instruction's bytes, should we not know it
};

// The instruction at CS:RIP, whatever it is and in whatever mode: for a guest whose state VM entry
// would refuse. One instruction, or some iterations of a repeated one; what the CPU would deliver
// before it comes in its place. [sleep]
Outcome emulate_instruction(vcpu_vmx &vmx);

// The first part of that: traps of the instruction before, which come before interrupts. They go
// into the queue, or to the debugger; no VM entry is needed to deliver them.
Outcome deliver_pending_traps(vcpu_vmx &vmx);

// The translation that an exit itself came with, which saves a walk.
struct KnownTranslation {
    bool valid;
    bool write;
    u64 linear, gpa;
};

// The instruction at CS:RIP touched gpa, where there is no memory. Devices of the module answer at
// once; else KVM_EXIT_MMIO, or KVM_EXIT_INTERNAL_ERROR with suberror EMULATION when it is none we
// know. [sleep]
Outcome emulate_mmio(vcpu_vmx &vmx, u64 gpa);
// The same for an access that shadow paging can't let the CPU do: to a place without memory, or one
// that the CPU's CR0.WP would refuse. [sleep]
Outcome emulate_access(vcpu_vmx &vmx, const KnownTranslation &known);

// The instruction at CS:RIP, which exited for what it does, is one of these. If another vCPU has
// written other bytes there since, those are left to the CPU. [sleep]
Outcome emulate_exited(vcpu_vmx &vmx, Operation first, Operation last);

// EXIT_REASON_IO_INSTRUCTION. String forms go to memory and may fault. [atomic or sleep]
Outcome handle_io(vcpu_vmx &vmx);
// The same for one that software met. [sleep]
Outcome handle_port_io(vcpu_vmx &vmx, const IoInfo &info);

// User space is about to change CS or RIP: what waits for its answer may not go on after that.
void note_place_of_pending(vcpu_vmx &vmx);

// At the start of KVM_RUN, whenever vmx.pending.kind != PendingIo::kNone, also with immediate_exit:
// takes user space's answer from kvm_run and finishes the instruction. [atomic or sleep]
Outcome complete_pending(vcpu_vmx &vmx);

// Fills kvm_run with KVM_EXIT_INTERNAL_ERROR, suberror EMULATION, as KVM does: exit information,
// and the instruction's bytes if size is not 0.
Outcome emulation_failure(vcpu_vmx &vmx, const u8 *bytes, u32 size);

} // namespace minivmx
