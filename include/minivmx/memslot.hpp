// SPDX-License-Identifier: GPL-2.0-only
// Memory slots: which ranges of guest-physical memory are backed by which ranges of the owner's
// address space.
//
// Readers (vCPU threads) take no lock. The slots live in one array that is never changed once it is
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

// Every slot of a VM, ordered by guest frame, and an index of them ordered by hva. Immutable once
// made.
class MemSlotArray {
  public:
    // `old` (null: none) without the slot `removed` (null: none) and with `added` (null: none),
    // which fits between the others. Null when there is no memory. [sleep]
    static MemSlotArray *derive(const MemSlotArray *old, const MemSlot *removed,
                                const MemSlot *added);
    static void release(MemSlotArray *array);

    u32 count() const { return static_cast<u32>(count_); }
    const MemSlot *begin() const { return slots(); }
    const MemSlot *end() const { return slots() + count_; }

    // The slot that holds gfn, or null. hint: index of where to look first; becomes the slot's
    // index when there is one.
    const MemSlot *find(u64 gfn, u32 &hint) const;
    const MemSlot *find_id(u32 id) const;
    // Whether a slot other than id shares a frame with [base_gfn, end_gfn).
    bool overlaps(u64 base_gfn, u64 end_gfn, u32 id) const;

    // Calls visit(slot) for every slot that shares a byte with [start, end) of the owner's address
    // space. Slots may share host memory, so there can be several.
    template <class Visit>
    void for_each_in_hva_range(u64 start, u64 end, Visit visit) const
    {
        const HvaEntry *index = hva_index();
        for (u32 i = first_hva_entry_above(start); i < count_; i++) {
            const MemSlot &slot = slots()[index[i].slot];
            if (slot.hva >= end)
                return;
            if (slot.hva_end() > start)
                visit(slot);
        }
    }

  private:
    // In the order of the slots' hva; max_end is the largest hva_end() of this entry and all before
    // it, so that a search for an address can leave out a whole prefix.
    struct HvaEntry {
        u64 max_end;
        u32 slot;
    };

    MemSlot *slots() { return reinterpret_cast<MemSlot *>(this + 1); }
    const MemSlot *slots() const { return reinterpret_cast<const MemSlot *>(this + 1); }
    HvaEntry *hva_index() { return reinterpret_cast<HvaEntry *>(slots() + count_); }
    const HvaEntry *hva_index() const
    {
        return reinterpret_cast<const HvaEntry *>(slots() + count_);
    }
    // The first index entry whose max_end lies above the address.
    u32 first_hva_entry_above(u64 address) const;
    // The first slot whose base_gfn lies above gfn.
    u32 first_slot_above(u64 gfn) const;

    u32 copy_slots(Span<const MemSlot> old, u32 removed_at, const MemSlot *added);
    void build_hva_index(Span<const HvaEntry> old, u32 removed_at, u32 added_at);

    u64 count_;
};

// What one vCPU is reading; see the head of this file. Only `array` is read by other threads.
struct SlotsHazard {
    const MemSlotArray *array; // null: nothing
    u32 depth;                 // readers nest
    u32 hint;                  // where the last lookup ended
    SlotsHazard *next;         // of the VM's list, under the mmu lock
};

// A VM's slots. All zero is a VM without any.
struct MemSlots {
    const MemSlotArray *current; // null: no slots. Changed under the mmu lock
    SlotsHazard *hazards;        // of every vCPU; changed under the mmu lock
};

// KVM_SET_USER_MEMORY_REGION's rules and errno values. The caller (core_set_memory_region) holds
// the slots mutex of the host; a removed or moved slot is out of every vCPU's sight when it
// returns. [sleep]
int set_memory_region(kvm_vm &kvm, const kvm_userspace_memory_region &region);
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
