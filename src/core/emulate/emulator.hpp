// SPDX-License-Identifier: GPL-2.0-only
// What the parts of the emulator share.
//
// An instruction runs from its start to its end, or to where user space has to answer; then it runs
// again from its start, and what it has read before is there. So a family's function reads all of
// its operands first, then writes memory, which may fault, and only then changes registers, flags
// and RIP.
#pragma once

#include <minivmx/emulate.hpp>
#include <minivmx/guest_memory.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// One run of the instruction in vmx.pending. Its steps return whether to go on; where they don't,
// `outcome` says what comes instead.
struct Emulation {
    vcpu_vmx &vmx;
    PendingInstruction &pending;
    AddressState state;
    KnownTranslation known;
    Outcome outcome;
    u8 reads_used = 0; // of pending.reads_done, in this run
    u8 read_at = 0;
    bool ports_allowed = false; // the CPU has checked, before the exit
    u64 offset_added = 0;       // to the offset of the memory operand: BT's bit string, POP's stack
    u64 operand_linear = 0;     // where load_destination() read

    explicit Emulation(vcpu_vmx &v)
        : vmx{v}, pending{v.pending}, state{address_state(v)}, known{}, outcome{Outcome::resume()}
    {
        // Guest memory that another vCPU's sibling thread must not find in the cache passes through
        // ours.
        v.area->flush_l1d = 1;
    }
    const Instruction &insn() const { return pending.instruction; }
    // Nothing has been read yet: a new instruction, or the next iteration.
    void forget_reads()
    {
        pending.reads_done = pending.read_end = 0;
        reads_used = read_at = 0;
    }
};

// ---- Instruction bytes (fetch.cc) -------------------------------------------

// Fetches and decodes the instruction at CS:RIP into pending.instruction. False: outcome is an
// exception of the fetch, #UD, or an emulation failure.
[[nodiscard]] bool fetch_and_decode(Emulation &e);

// The same without any consequence for the guest. False: it can't be fetched, or isn't known.
[[nodiscard]] bool peek_instruction(vcpu_vmx &vmx, const AddressState &state, Instruction &insn);

// ---- Registers and addresses (operands.cc) ----------------------------------

constexpr u64 size_mask(u32 size)
{
    return size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1;
}
u64 load_little_endian(const u8 *bytes, u32 size);
void store_little_endian(u8 *bytes, u64 value, u32 size);

u64 address_mask(const Instruction &insn);
// A register as wide as addresses are: a count or a pointer of a string instruction.
u64 read_address_register(Emulation &e, u8 reg);
void write_address_register(Emulation &e, u8 reg, u64 value);
// Adds n elements of this size to the register, or subtracts them if RFLAGS.DF is set.
void advance_address_register(Emulation &e, u8 reg, u64 n, u32 size);
bool direction_down(Emulation &e);
// A register's value after a write of a part of it: one of 32 bits clears the upper half, narrower
// ones keep the rest. SDM Vol. 1, 3.4.1.1.
constexpr u64 with_part(u64 before, u32 size, u64 value)
{
    const u64 kept = size < 4 ? before & ~size_mask(size) : 0;
    return kept | (value & size_mask(size));
}
void write_gpr_part(vcpu_vmx &vmx, u8 reg, u32 size, u64 value);
// Operands that are general registers.
u64 read_register_operand(vcpu_vmx &vmx, const Operand &operand);
void write_register_operand(vcpu_vmx &vmx, const Operand &operand, u64 value);

// The linear address of size bytes at segment:offset. False: an exception is queued.
[[nodiscard]] bool to_linear(Emulation &e, u8 segment, u64 offset, u32 size, bool write,
                             u64 &linear);

// SDM Vol. 1, appendix B, table B-1: a condition by the low four bits of the opcode (moves.cc).
bool condition_holds(u8 opcode, u64 flags);

// Ends one iteration of a string instruction: counts down and either leaves RIP where it is or
// moves it on. n: elements done. last: the condition of REPE or REPNE says so.
void finish_iterations(Emulation &e, u64 n, bool last = false);
// Without REP 1, else rCX.
u64 iterations_left(Emulation &e);

// ---- Operands, wherever they are (operands.cc) ------------------------------

// Up to 8 bytes, zero-extended. False: see read_source().
[[nodiscard]] bool load_operand(Emulation &e, const Operand &operand, u64 &value);
// The same for one that is going to be written: faults as the write would.
[[nodiscard]] bool load_destination(Emulation &e, const Operand &operand, u64 &value);
// False: see write_destination().
[[nodiscard]] bool store_operand(Emulation &e, const Operand &operand, u64 value);
// To where load_destination() read `old`. With LOCK it is exchanged if it is still `old`; if it
// isn't, nothing happens and the guest runs the instruction again: false.
[[nodiscard]] bool store_destination(Emulation &e, const Operand &operand, u64 old, u64 value);
// The linear address of the explicit memory operand, after all checks but those of its pages.
// False: an exception is queued.
[[nodiscard]] bool operand_linear(Emulation &e, u32 size, bool write, u64 &linear);

// The offset of the explicit memory operand in its segment.
u64 memory_offset(vcpu_vmx &vmx, const Instruction &insn);

// ---- Memory (access.cc) -----------------------------------------------------

// Reads size bytes into pending.data, unless an earlier run has read them already. False: an
// exception is queued, or user space is asked for them; then the instruction runs again when it has
// answered. for_write: they will be written, too.
[[nodiscard]] bool read_source(Emulation &e, u64 linear, u32 size, bool for_write = false);
// Writes the first size bytes of pending.data. Bytes that user space has to write leave
// pending.kind == kMmioWrite and kvm_run filled. False: an exception is queued and nothing was
// written.
[[nodiscard]] bool write_destination(Emulation &e, u64 linear, u32 size);
// The same, if memory still holds `old`: see store_destination().
[[nodiscard]] bool exchange_destination(Emulation &e, u64 linear, u32 size, u64 old);
// Whether size bytes may be read or written there. False: an exception is queued.
[[nodiscard]] bool probe_read(Emulation &e, u64 linear, u32 size);
[[nodiscard]] bool probe_write(Emulation &e, u64 linear, u32 size);
// An access of a device by size bytes in one page, to or from pending.data. False: kvm_run asks
// user space for it.
[[nodiscard]] bool access_device(vcpu_vmx &vmx, PendingIo kind, u64 gpa, u32 size);
// Takes user space's answer for the fragment it was asked for and goes on to the next. True: that
// was the last; false: kvm_run asks for another one.
[[nodiscard]] bool next_fragment(vcpu_vmx &vmx);
// The access under way was a read and is complete: an instruction that runs again finds it.
void keep_read(PendingInstruction &pending);

// The pending instruction is a MOV to a register, and pending.data holds what it loads
// (pending.cc).
void finish_load(vcpu_vmx &vmx);

// ---- The stack (stack.cc) ---------------------------------------------------

// How many bytes of RSP count: SDM Vol. 3A, 6.2.3, the B flag of the stack segment.
u32 stack_width(Emulation &e);
// One element, which may be a device's. False: see write_destination() and read_source(). RSP
// changes only at the end of the instruction: `rsp` is what it becomes. Of a pushed slot the lowest
// `size` bytes are written; elements are popped from `rsp`.
[[nodiscard]] bool push_element(Emulation &e, u32 slot, u32 size, u64 value, u64 &rsp);
[[nodiscard]] bool pop_element(Emulation &e, u32 size, u64 &value, u64 &rsp);
void write_stack_pointer(Emulation &e, u64 rsp);

// ---- Execution --------------------------------------------------------------

// Runs pending.instruction from its start (emulate.cc).
Outcome execute(Emulation &e);
// One family each.
void execute_arithmetic(Emulation &e); // arithmetic.cc
void execute_shift(Emulation &e);
void execute_multiply(Emulation &e);
void execute_exchange(Emulation &e); // exchange.cc
void execute_bits(Emulation &e);     // bits.cc
void execute_move(Emulation &e);     // moves.cc
void execute_stack(Emulation &e);    // stack.cc
void execute_branch(Emulation &e);   // branches.cc
void execute_flags(Emulation &e);    // flags.cc
void execute_flags_on_stack(Emulation &e);
void execute_conversion(Emulation &e); // conversions.cc
void execute_decimal(Emulation &e);    // decimal.cc
void execute_bound(Emulation &e);      // bits.cc
void execute_processor(Emulation &e);  // processor.cc
void execute_port(Emulation &e);       // port_io.cc
void execute_x87(Emulation &e);        // x87.cc
void execute_fx_state(Emulation &e);   // fx_state.cc
void execute_vector(Emulation &e);     // vector.cc
void execute_string(Emulation &e);     // string.cc
void execute_far(Emulation &e);        // far.cc
void execute_interrupt(Emulation &e);
void execute_segment_load(Emulation &e); // segment_load.cc
void execute_selector_question(Emulation &e);
void execute_arpl(Emulation &e);
void execute_segment_base(Emulation &e);
void execute_privileged(Emulation &e); // system.cc
void execute_system(Emulation &e);
void execute_fast_call(Emulation &e);    // fast_call.cc
void execute_table_access(Emulation &e); // tables.cc
void execute_invpcid(Emulation &e);
// What the CPU would deliver before the instruction at CS:RIP; false: there is such a thing, and
// `outcome` says what comes now (boundary.cc).
[[nodiscard]] bool cross_boundary(vcpu_vmx &vmx, Outcome &outcome);
// Whether the program may access these ports (io_permission.cc). False: #GP or a page fault is
// queued.
[[nodiscard]] bool port_allowed(Emulation &e, u16 port, u32 size);
// OUTS and INS (port_io.cc).
Outcome execute_outs(Emulation &e);
Outcome execute_ins(Emulation &e);
// The data of INS is there: the rest of it goes to memory.
Outcome store_ins_data(Emulation &e);
// A step of the CPU's own access went wrong: its exception is queued, or the emulation fails.
struct SystemAccess;
void conclude_failure(Emulation &e, const SystemAccess &s);
// #UD is queued; KVM's answer to an instruction it doesn't know. At CPL 0 user space hears of it,
// too.
Outcome fail_emulation(vcpu_vmx &vmx, const u8 *bytes, u32 size);

} // namespace minivmx
