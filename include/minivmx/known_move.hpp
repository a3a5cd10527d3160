// SPDX-License-Identifier: GPL-2.0-only
// Moves between a register and a device that come again and again from the same place: drivers do
// little else. To emulate one takes two walks of the guest's tables and a decoder; to find that
// nothing of what these read has changed takes a dozen reads of the guest's memory.
#pragma once

#include <minivmx/decode.hpp>
#include <minivmx/host.h>
#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>
#include <minivmx/x86.hpp>

namespace minivmx {

struct AddressState;
struct Emulation;
struct vcpu_vmx;

// A MOV in 64-bit mode with all that was read of the guest's memory to emulate it: the entries of
// its tables, for the instruction and for its operand, and the instruction's bytes. As long as they
// are what they were, and where they were, the emulation would end the same way.
struct KnownMove {
    static constexpr u32 kMaxWords = 4 + 4 + 3; // two walks, and 15 bytes wherever they begin

    u64 rip, cr3;
    u64 slots_generation;          // MemSlots'; 0: nothing is known
    u64 operand_page, device_page; // numbers of the operand's page: linear, guest-physical
    u32 privilege; // what decided whether the access is allowed; with EPT the CPU decides anew
    u32 word_count;
    host_user_word words[kMaxWords];
    Instruction instruction;
};

struct KnownMoves {
    u64 last_rip; // of an instruction that touched a device: what comes only once isn't worth it
    KnownMove moves[4];
    u64 operand_pages[8]; // of late, by their last three bits; for touched_at()

    // One look for a page fault, which mostly has nothing to do with devices.
    u64 &operand_page(u64 linear) { return operand_pages[linear >> kPageShift & 7]; }
    bool touched_at(u64 linear) { return operand_page(linear) == linear >> kPageShift; }
};

// The last exit found no memory at gpa. True: the instruction is a known move, `outcome` says what
// came of it. False: nothing was done. [atomic, or what host_let_sleep() makes of it]
bool repeat_known_move(vcpu_vmx &vmx, u64 gpa, Outcome &outcome);
// The same where shadow tables stand in for EPT: the last exit was a page fault at `linear`, met by
// an instruction, not by an event's delivery. state: that of paging at the fault. [sleep]
bool repeat_known_access(vcpu_vmx &vmx, const AddressState &state, u64 linear, u32 error_code,
                         Outcome &outcome);
// The instruction that is about to be emulated touched gpa, where no memory is. [sleep]
void remember_move(Emulation &e, u64 gpa);

} // namespace minivmx
