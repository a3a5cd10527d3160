// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/known_move.hpp>

#include <minivmx/memslot.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/segment.hpp>

#include "../mmu/guest_walk.hpp"
#include "emulator.hpp"

namespace minivmx {

namespace {

KnownMove &place_of(vcpu_vmx &vmx, u64 rip)
{
    constexpr u64 kPlaces = sizeof(vmx.known_moves.moves) / sizeof(KnownMove);
    static_assert((kPlaces & (kPlaces - 1)) == 0);
    return vmx.known_moves.moves[(rip ^ rip >> 4) & (kPlaces - 1)];
}

u64 slots_generation(const vcpu_vmx &vmx)
{
    return __atomic_load_n(&vmx.kvm->slots.generation, __ATOMIC_ACQUIRE);
}

bool is_store(const Instruction &insn)
{
    return insn.destination.kind == OperandKind::kMemory;
}

u32 bytes_moved(const Instruction &insn)
{
    return insn.destination.size;
}

bool lies_in_one_page(u64 address, u32 size)
{
    return (address & (kPageSize - 1)) + size <= kPageSize;
}

// ---- To remember ------------------------------------------------------------

// Segments with a base, and what lies in two pages, are left to those who know how.
bool may_be_known(Emulation &e, u64 rip, u64 linear)
{
    const Instruction &insn = e.insn();
    const bool loads =
        insn.destination.kind == OperandKind::kRegister && insn.source.kind == OperandKind::kMemory;
    const bool stores = is_store(insn) && (insn.source.kind == OperandKind::kRegister ||
                                           insn.source.kind == OperandKind::kImmediate);
    return e.state.code_64 && e.state.paging && insn.operation == Operation::kMov &&
           (loads || stores) && insn.memory.segment < kFs && lies_in_one_page(rip, insn.length) &&
           lies_in_one_page(linear, bytes_moved(insn));
}

bool hva_of(const SlotsReader &slots, u64 gpa, u64 &hva)
{
    const MemSlot *slot = slots.find(gpa >> kPageShift);
    if (slot)
        hva = slot->hva_of_gfn(gpa >> kPageShift) + (gpa & (kPageSize - 1));
    return slot != nullptr;
}

bool add_walk(KnownMove &known, const SlotsReader &slots, const GuestWalk &walk)
{
    for (u32 i = 0; i < walk.count; i++) {
        host_user_word &word = known.words[known.word_count++];
        word.mask = ~u64{0};
        word.value = walk.entries[i].value;
        if (!hva_of(slots, walk.entries[i].gpa, word.hva))
            return false;
    }
    return true;
}

bool add_code(KnownMove &known, const SlotsReader &slots, u64 gpa, const u8 *code, u32 length)
{
    u64 hva;
    if (!hva_of(slots, gpa, hva))
        return false;
    for (u32 i = 0; i < length; i++) {
        const u64 at = hva + i;
        if (i == 0 || (at & 7) == 0)
            known.words[known.word_count++] = {at & ~u64{7}, 0, 0};
        host_user_word &word = known.words[known.word_count - 1];
        word.value |= u64{code[i]} << (at & 7) * 8;
        word.mask |= u64{0xff} << (at & 7) * 8;
    }
    return true;
}

// Whoever makes the access in the same way is allowed the same by the same entries: SDM Vol.
// 3A, 4.6.
u32 privilege_of(const AddressState &state)
{
    const bool ac = state.smap && !state.user && state.ac;
    return u32{state.write_protect} | u32{state.smep} << 1 | u32{state.smap} << 2 |
           u32{state.nxe} << 3 | u32{state.user} << 4 | u32{ac} << 5;
}

// What was read of memory, as it is after the walks have set their flags in it.
bool add_words(Emulation &e, KnownMove &known, u64 linear, u64 gpa)
{
    const SlotsReader slots{e.vmx};
    GuestWalk walk;
    GuestFault fault;
    known.word_count = 0;
    return !slots.find(gpa >> kPageShift) &&
           walk_guest_tables(e.vmx, e.state, known.rip, Access{.fetch = true}, walk, fault) ==
               MemoryResult::kOk &&
           add_walk(known, slots, walk) &&
           add_code(known, slots, walk.gpa, e.pending.code, e.insn().length) &&
           walk_guest_tables(e.vmx, e.state, linear, Access{.write = is_store(e.insn())}, walk,
                             fault) == MemoryResult::kOk &&
           walk.gpa == gpa && add_walk(known, slots, walk);
}

} // namespace

void remember_move(Emulation &e, u64 gpa)
{
    vcpu_vmx &vmx = e.vmx;
    const u64 rip = read_rip(vmx);
    const bool again = vmx.known_moves.last_rip == rip;
    vmx.known_moves.last_rip = rip;
    if (!again)
        return;
    const u64 linear = memory_offset(vmx, e.insn());
    if (!may_be_known(e, rip, linear))
        return;
    KnownMove &known = place_of(vmx, rip);
    const u64 generation = slots_generation(vmx); // before what is read by it
    known.slots_generation = 0;
    known.rip = rip;
    known.cr3 = e.state.cr3;
    known.operand_page = linear >> kPageShift;
    vmx.known_moves.operand_page(linear) = known.operand_page;
    known.device_page = gpa >> kPageShift;
    known.privilege = privilege_of(e.state);
    known.instruction = e.insn();
    if (add_words(e, known, linear, gpa))
        known.slots_generation = generation;
}

// ---- To repeat --------------------------------------------------------------

namespace {

// The same instruction in the same address space and mode.
[[gnu::always_inline]] inline bool is_in_place(vcpu_vmx &vmx, const KnownMove &known, u64 rip)
{
    return known.rip == rip && known.slots_generation == slots_generation(vmx) &&
           known.slots_generation != 0 && known.cr3 == guest_cr3(vmx) && is_64_bit_code(vmx);
}

// The bytes are what they were.
[[gnu::always_inline]] inline bool has_operand_at(const KnownMove &known, u64 linear)
{
    return linear >> kPageShift == known.operand_page &&
           lies_in_one_page(linear, bytes_moved(known.instruction)) &&
           host_user_words_are(known.words, known.word_count);
}

// What the access may do was the CPU's to check: entries that lie in memory and still lead to the
// device say that it was the operand's own access which ended in the exit, after those checks.
bool is_known(vcpu_vmx &vmx, const KnownMove &known, u64 rip, u64 gpa)
{
    if (known.device_page != gpa >> kPageShift || !is_in_place(vmx, known, rip))
        return false;
    const u64 linear = memory_offset(vmx, known.instruction);
    return ((linear ^ gpa) & (kPageSize - 1)) == 0 && has_operand_at(known, linear);
}

Outcome store_to_device(vcpu_vmx &vmx, const Instruction &insn, u64 gpa)
{
    const u64 value = insn.source.kind == OperandKind::kImmediate
                          ? insn.immediate
                          : read_register_operand(vmx, insn.source);
    vmx.pending.instruction.operation = Operation::kMov;
    __builtin_memcpy(vmx.pending.data, &value, sizeof(value));
    const bool served = access_device(vmx, PendingIo::kMmioWrite, gpa, bytes_moved(insn));
    finish_instruction(vmx, insn.length);
    return served ? Outcome::resume() : Outcome::to_user();
}

Outcome load_from_device(vcpu_vmx &vmx, const Instruction &insn, u64 gpa)
{
    vmx.pending.instruction = insn;
    vmx.pending.reads_done = vmx.pending.read_end = 0;
    if (!access_device(vmx, PendingIo::kMmioRead, gpa, bytes_moved(insn)))
        return Outcome::to_user();
    finish_load(vmx);
    return Outcome::resume();
}

[[gnu::always_inline]] inline Outcome repeat_move(vcpu_vmx &vmx, const Instruction &insn, u64 gpa)
{
    return is_store(insn) ? store_to_device(vmx, insn, gpa) : load_from_device(vmx, insn, gpa);
}

} // namespace

bool repeat_known_move(vcpu_vmx &vmx, u64 gpa, Outcome &outcome)
{
    const u64 rip = read_rip(vmx);
    const KnownMove &known = place_of(vmx, rip);
    if (!is_known(vmx, known, rip, gpa))
        return false;
    if (has_mmio_devices(*vmx.kvm))
        host_let_sleep(vmx.host);
    outcome = repeat_move(vmx, known.instruction, gpa);
    return true;
}

[[gnu::noinline]] bool repeat_known_access(vcpu_vmx &vmx, const AddressState &state, u64 linear,
                                           u32 error_code, Outcome &outcome)
{
    const u64 rip = read_rip(vmx);
    const KnownMove &known = place_of(vmx, rip);
    const bool write = (error_code & PFERR_WRITE) != 0;
    if (known.privilege != privilege_of(state) || !is_in_place(vmx, known, rip) ||
        is_store(known.instruction) != write || memory_offset(vmx, known.instruction) != linear ||
        private_page(*vmx.kvm, known.device_page) || !has_operand_at(known, linear))
        return false;
    outcome = repeat_move(vmx, known.instruction,
                          known.device_page << kPageShift | (linear & (kPageSize - 1)));
    return true;
}

} // namespace minivmx
