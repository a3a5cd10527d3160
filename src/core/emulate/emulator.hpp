// SPDX-License-Identifier: GPL-2.0-only
// What the parts of the emulator share.
#pragma once

#include <minivmx/emulate.hpp>
#include <minivmx/guest_memory.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// The translation that the exit itself came with, which saves a walk.
struct KnownTranslation {
    bool valid;
    bool write;
    u64 linear, gpa;
};

// One run of the instruction in vmx.pending. Its steps return whether to go on; where they don't,
// `outcome` says what comes instead.
struct Emulation {
    vcpu_vmx &vmx;
    PendingInstruction &pending;
    AddressState state;
    KnownTranslation known;
    Outcome outcome;

    explicit Emulation(vcpu_vmx &v)
        : vmx{v}, pending{v.pending}, state{address_state(v)}, known{}, outcome{Outcome::resume()}
    {
        // Guest memory that another vCPU's sibling thread must not find in the cache passes through
        // ours.
        v.area->flush_l1d = 1;
    }
    const Instruction &insn() const { return pending.instruction; }
};

// ---- Instruction bytes (fetch.cc) -------------------------------------------

u64 linear_rip(vcpu_vmx &vmx);
// Fetches and decodes the instruction at CS:RIP into pending.instruction. False: outcome is an
// exception of the fetch, #UD, or an emulation failure.
[[nodiscard]] bool fetch_and_decode(Emulation &e);

// ---- Operands (operands.cc) -------------------------------------------------

u64 address_mask(const Instruction &insn);
// A register as wide as addresses are: a count or a pointer of a string instruction.
u64 read_address_register(Emulation &e, u8 reg);
void write_address_register(Emulation &e, u8 reg, u64 value);
// Adds n elements of this size to the register, or subtracts them if RFLAGS.DF is set.
void advance_address_register(Emulation &e, u8 reg, u64 n, u32 size);
bool direction_down(Emulation &e);

u64 read_register_operand(Emulation &e, const Operand &operand);
void write_register_operand(Emulation &e, const Operand &operand, u64 value);
// The offset of the explicit memory operand in its segment.
u64 memory_offset(Emulation &e);

// The linear address of size bytes at segment:offset. False: an exception is queued.
[[nodiscard]] bool to_linear(Emulation &e, u8 segment, u64 offset, u32 size, bool write,
                             u64 &linear);
// Reads size bytes into pending.data, unless they are there already. False: an exception is queued,
// or user space is asked for them; then the instruction runs again when it has answered.
[[nodiscard]] bool read_source(Emulation &e, u64 linear, u32 size);
// Writes the first size bytes of pending.data. Bytes that user space has to write leave
// pending.kind == kMmioWrite and kvm_run filled. False: an exception is queued and nothing was
// written.
[[nodiscard]] bool write_destination(Emulation &e, u64 linear, u32 size);
// Whether size bytes may be written there. False: an exception is queued.
[[nodiscard]] bool probe_write(Emulation &e, u64 linear, u32 size);
// Fills kvm_run with the next fragment of the MMIO access under way.
void ask_for_fragment(vcpu_vmx &vmx);

// Ends one iteration of a string instruction: counts down and either leaves RIP where it is or
// moves it on. n: elements done.
void finish_iterations(Emulation &e, u64 n);
// Without REP 1, else rCX.
u64 iterations_left(Emulation &e);

u64 load_little_endian(const u8 *bytes, u32 size);
void store_little_endian(u8 *bytes, u64 value, u32 size);

// ---- Execution --------------------------------------------------------------

// Runs pending.instruction from its start (emulate.cc).
Outcome execute(Emulation &e);
// OUTS and INS (port_io.cc).
Outcome execute_outs(Emulation &e);
Outcome execute_ins(Emulation &e);
// The data of INS is there: the rest of it goes to memory.
Outcome store_ins_data(Emulation &e);
// #UD is queued; KVM's answer to an instruction it doesn't know. At CPL 0 user space hears of it,
// too.
Outcome fail_emulation(vcpu_vmx &vmx, const u8 *bytes, u32 size);

} // namespace minivmx
