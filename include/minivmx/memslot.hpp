// SPDX-License-Identifier: GPL-2.0-only
// Memory slots: which ranges of guest-physical memory are backed by which ranges of the owner's
// address space.
//
// Readers (vCPU threads) take no lock. The slots live in an array that is never changed once it is
// published; an update publishes another. A reader first stores the array it is about to read in a
// place of its own (its hazard), then looks whether that array is still the current one; the
// updater, after it has published the new array, waits until no vCPU's hazard names the old one,
// and only then frees it. So when an update returns, nobody uses a slot that it removed.
#pragma once

#include <minivmx/host.h>
#include <minivmx/types.hpp>

namespace minivmx {

class DirtyBitmap;
struct kvm_vm;
struct vcpu_vmx;

// KVM_CAP_NR_MEMSLOTS: slot numbers are 0 .. kUserMemSlots - 1 (three of the 32767 are KVM's own).
inline constexpr u32 kUserMemSlots = 32764;
// KVM_MEM_MAX_NR_PAGES: the most pages one slot can have.
inline constexpr u64 kMemSlotMaxPages = (u64{1} << 31) - 1;

struct MemSlot {
    u64 base_gfn;
    u64 npages;
    u64 hva; // where base_gfn lies in the owner's address space, page-aligned
    u32 flags;
    u32 id;
    DirtyBitmap *dirty; // null unless its writes are logged: see dirty_log.hpp

    u64 end_gfn() const { return base_gfn + npages; }
    u64 hva_end() const { return hva + (npages << 12); }
    u64 hva_of_gfn(u64 gfn) const { return hva + ((gfn - base_gfn) << 12); }
    bool contains(u64 gfn) const { return gfn - base_gfn < npages; }
    bool logged() const { return (flags & 1) != 0; }    // KVM_MEM_LOG_DIRTY_PAGES
    bool read_only() const { return (flags & 2) != 0; } // KVM_MEM_READONLY
};

// Slots that follow one another, ordered by guest frame. Immutable once an array that names it is
// published.
struct SlotChunk {
    static constexpr u32 kSlots = 64;
    u32 count; // at least 1
    MemSlot slots[kSlots];

    // The first position whose slot begins above gfn.
    u32 position_above(u64 gfn) const;
    void append(const MemSlot &slot);
    bool holds(const MemSlot *slot) const;
};

// Every slot of a VM, in chunks, ordered by guest frame; at least one. Immutable once made: an
// update makes another array, which shares most chunks, so it costs little however many slots there
// are.
class MemSlotArray {
  public:
    u32 count() const { return count_; }
    // The slot that holds gfn, or null. hint: where to look first; becomes the slot's place when
    // there is one.
    const MemSlot *find(u64 gfn, u32 &hint) const;
    // The same; gap: the place behind which nothing was found the last time, as with the registers
    // of a device, which are asked for again and again.
    const MemSlot *find(u64 gfn, u32 &hint, u32 &gap) const;
    // Whether a slot other than id shares a frame with [base_gfn, end_gfn).
    bool overlaps(u64 base_gfn, u64 end_gfn, u32 id) const;

    // Calls visit(slot) for every slot that shares a byte with [start, end) of the owner's address
    // space. Slots may share host memory, so there can be several.
    template <class Visit>
    void for_each_in_hva_range(u64 start, u64 end, Visit visit) const
    {
        for (u32 i = 0; i < chunk_count_; i++) {
            const Entry &entry = entries()[i];
            if (entry.hva_start >= end || entry.hva_end <= start)
                continue;
            for (u32 position = 0; position < entry.chunk->count; position++) {
                const MemSlot &slot = entry.chunk->slots[position];
                if (slot.hva < end && slot.hva_end() > start)
                    visit(slot);
            }
        }
    }

    // When the VM goes: frees the array, its chunks, and the slots' bitmaps. Null: nothing.
    static void destroy(const MemSlotArray *array);

  private:
    friend class SlotsUpdate;
    struct Entry {
        u64 first_gfn;
        u64 hva_start, hva_end; // around all memory of the chunk's slots
        SlotChunk *chunk;
    };

    Entry *entries() { return reinterpret_cast<Entry *>(this + 1); }
    const Entry *entries() const { return reinterpret_cast<const Entry *>(this + 1); }
    // A place is a chunk's index times SlotChunk::kSlots plus the position in it; it may be of
    // another array, and then be none here.
    static constexpr u32 kNoPlace = ~u32{0};
    const MemSlot *slot_at(u32 place) const; // null: none
    // Whether gfn lies between that slot and the next, in neither.
    bool is_gap_behind(u32 place, u64 gfn) const;
    // The last chunk that begins at or below gfn, else the first.
    u32 chunk_of(u64 gfn) const;
    void append(SlotChunk *chunk);
    void append(const Entry &entry);

    u32 count_;
    u32 chunk_count_;
};

// A step from one array to the next.
class SlotsUpdate {
  public:
    // `old` (null: none) without the slot `removed` (null: none) and with `added` (null: none),
    // which fits between the others. False: no memory; then cancel(). [sleep]
    [[nodiscard]] bool prepare(const MemSlotArray *old, const MemSlot *removed,
                               const MemSlot *added);
    // What to publish; null: no slot is left.
    const MemSlotArray *next() const { return next_; }
    // Instead of publishing: frees what was made.
    void cancel();
    // After the old array's last reader has left: frees it and what only it had.
    void finish(const MemSlotArray *old);

  private:
    bool rebuild(const SlotChunk *old, const MemSlot *removed, const MemSlot *added);
    bool assemble(const MemSlotArray *old, u32 first, u32 last);

    MemSlotArray *next_ = nullptr;
    SlotChunk *fresh_[4] = {};
    u32 fresh_count_ = 0;
    u32 first_fresh_ = 0; // how many of them are in the place of the first stale one
    SlotChunk *stale_[2] = {};
    u32 stale_count_ = 0;
};

// What one vCPU is reading; see the head of this file. Only `array` is read by other threads.
struct SlotsHazard {
    const MemSlotArray *array; // null: nothing
    u32 depth;                 // readers nest
    u32 hint;                  // where the last slot was found
    u32 gap;                   // behind which slot was none
    SlotsHazard *next;         // of the VM's list, under the mmu lock
};

// A VM's slots. All zero is a VM without any.
struct MemSlots {
    static constexpr u32 kIdsPerPage = 512;
    const MemSlotArray *current; // null: no slots. Changed under the mmu lock
    u64 generation;              // one more with each change of it; 0: there has been none
    // By number: 0, or 1 + where the slot begins; null: none of these numbers. Under the host's
    // slots mutex.
    u64 *by_id[kUserMemSlots / kIdsPerPage + 1];
    SlotsHazard *hazards; // of every vCPU; changed under the mmu lock
};

// KVM_SET_USER_MEMORY_REGION's rules and errno values. The caller (core_set_memory_region) holds
// the slots mutex of the host; a removed or moved slot is out of every vCPU's sight when it
// returns. [sleep]
int set_memory_region(kvm_vm &kvm, const kvm_userspace_memory_region &region);
// The slot of that number, or null. The slots mutex is held.
const MemSlot *find_slot_by_id(const kvm_vm &kvm, u32 id);
// Frees what is left when the VM goes; no vCPU exists any more. [sleep]
void destroy_memory_slots(kvm_vm &kvm);

// Makes a vCPU's reading visible to updaters, for as long as the vCPU exists. Takes the mmu lock.
void register_slots_reader(kvm_vm &kvm, SlotsHazard &hazard);
void unregister_slots_reader(kvm_vm &kvm, SlotsHazard &hazard);

// While it lives, the slots it finds stay valid. Nests; may sleep while it lives, and an updater
// waits that long. Only the thread that holds the vCPU's mutex.
class SlotsReader {
  public:
    explicit SlotsReader(vcpu_vmx &vmx);
    ~SlotsReader();
    SlotsReader(const SlotsReader &) = delete;
    SlotsReader &operator=(const SlotsReader &) = delete;

    // The slot that holds gfn, or null: nothing is there.
    const MemSlot *find(u64 gfn) const;
    // Under the mmu lock: whether what this reader found is still how things are.
    bool current() const;

  private:
    kvm_vm &kvm_;
    SlotsHazard &hazard_;
};

} // namespace minivmx
