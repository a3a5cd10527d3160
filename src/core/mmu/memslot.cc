// SPDX-License-Identifier: GPL-2.0-only
// Memory slots: the array that readers see, and KVM_SET_USER_MEMORY_REGION.
#include <minivmx/memslot.hpp>

#include <linux/kvm.h>

#include <minivmx/dirty_log.hpp>
#include <minivmx/ept.hpp>
#include <minivmx/result.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>
#include <minivmx/x86.hpp>

namespace minivmx {

static_assert(KVM_MEM_READONLY == 2, "MemSlot::read_only() names the bit by its number");

// ---- The array --------------------------------------------------------------

u32 MemSlotArray::first_slot_above(u64 gfn) const
{
    u32 low = 0;
    u32 high = count();
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (slots()[middle].base_gfn <= gfn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const MemSlot *MemSlotArray::find(u64 gfn, u32 &hint) const
{
    if (hint < count_ && slots()[hint].contains(gfn))
        return &slots()[hint];
    const u32 above = first_slot_above(gfn);
    if (above == 0 || !slots()[above - 1].contains(gfn))
        return nullptr;
    hint = above - 1;
    return &slots()[hint];
}

const MemSlot *MemSlotArray::find_id(u32 id) const
{
    for (const MemSlot &slot : *this) {
        if (slot.id == id)
            return &slot;
    }
    return nullptr;
}

bool MemSlotArray::overlaps(u64 base_gfn, u64 end_gfn, u32 id) const
{
    // Slots don't overlap each other, so their ends are in the same order as their bases.
    for (u32 i = first_slot_above(end_gfn - 1); i > 0; i--) {
        const MemSlot &slot = slots()[i - 1];
        if (slot.end_gfn() <= base_gfn)
            return false;
        if (slot.id != id)
            return true;
    }
    return false;
}

u32 MemSlotArray::first_hva_entry_above(u64 address) const
{
    u32 low = 0;
    u32 high = count();
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (hva_index()[middle].max_end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// The old slots in their order, without the removed one, and the added one in its place; returns
// where that is (kUserMemSlots: nothing is added).
u32 MemSlotArray::copy_slots(Span<const MemSlot> old, u32 removed_at, const MemSlot *added)
{
    u32 next = 0;
    u32 added_at = kUserMemSlots;
    auto place = [&](const MemSlot &slot) {
        added_at = next;
        slots()[next++] = slot;
    };
    for (u32 i = 0; i < old.size(); i++) {
        if (i == removed_at)
            continue;
        if (added && added_at == kUserMemSlots && added->base_gfn < old[i].base_gfn)
            place(*added);
        slots()[next++] = old[i];
    }
    if (added && added_at == kUserMemSlots)
        place(*added);
    return added_at;
}

// The same in the order of the hva, from the old index.
void MemSlotArray::build_hva_index(Span<const HvaEntry> old, u32 removed_at, u32 added_at)
{
    bool placed = added_at == kUserMemSlots;
    u32 next = 0;
    u64 max_end = 0;
    auto append = [&](u32 slot) {
        if (slots()[slot].hva_end() > max_end)
            max_end = slots()[slot].hva_end();
        hva_index()[next++] = {max_end, slot};
    };
    for (const HvaEntry &entry : old) {
        if (entry.slot == removed_at)
            continue;
        u32 slot = entry.slot > removed_at ? entry.slot - 1 : entry.slot;
        if (slot >= added_at)
            slot++;
        if (!placed && slots()[added_at].hva < slots()[slot].hva) {
            append(added_at);
            placed = true;
        }
        append(slot);
    }
    if (!placed)
        append(added_at);
}

MemSlotArray *MemSlotArray::derive(const MemSlotArray *old, const MemSlot *removed,
                                   const MemSlot *added)
{
    Span<const MemSlot> old_slots;
    Span<const HvaEntry> old_index;
    u32 removed_at = kUserMemSlots;
    if (old) {
        old_slots = {old->slots(), old->count()};
        old_index = {old->hva_index(), old->count()};
        if (removed)
            removed_at = static_cast<u32>(removed - old->slots());
    }
    const u64 count = old_slots.size() - (removed ? 1 : 0) + (added ? 1 : 0);
    auto *array = static_cast<MemSlotArray *>(
        host_zalloc(sizeof(MemSlotArray) + count * (sizeof(MemSlot) + sizeof(HvaEntry))));
    if (!array)
        return nullptr;
    array->count_ = count;
    const u32 added_at = array->copy_slots(old_slots, removed_at, added);
    array->build_hva_index(old_index, removed_at, added_at);
    return array;
}

void MemSlotArray::release(MemSlotArray *array)
{
    host_free(array);
}

// ---- Readers and updaters ---------------------------------------------------

void register_slots_reader(kvm_vm &kvm, SlotsHazard &hazard)
{
    host_mmu_lock(kvm.host);
    hazard.next = kvm.slots.hazards;
    kvm.slots.hazards = &hazard;
    host_mmu_unlock(kvm.host);
}

void unregister_slots_reader(kvm_vm &kvm, SlotsHazard &hazard)
{
    host_mmu_lock(kvm.host);
    for (SlotsHazard **link = &kvm.slots.hazards; *link; link = &(*link)->next) {
        if (*link == &hazard) {
            *link = hazard.next;
            break;
        }
    }
    host_mmu_unlock(kvm.host);
}

SlotsReader::SlotsReader(vcpu_vmx &vmx) : kvm_{*vmx.kvm}, hazard_{vmx.slots_hazard}
{
    if (hazard_.depth++ != 0)
        return;
    const MemSlotArray *array = __atomic_load_n(&kvm_.slots.current, __ATOMIC_RELAXED);
    for (;;) {
        // Store and load in this order in every thread's view (hence sequential consistency):
        // either the updater sees the hazard, or this thread sees the new array.
        __atomic_store_n(&hazard_.array, array, __ATOMIC_SEQ_CST);
        const MemSlotArray *now = __atomic_load_n(&kvm_.slots.current, __ATOMIC_SEQ_CST);
        if (now == array)
            return;
        array = now;
    }
}

SlotsReader::~SlotsReader()
{
    if (--hazard_.depth == 0)
        __atomic_store_n(&hazard_.array, nullptr, __ATOMIC_RELEASE);
}

const MemSlot *SlotsReader::find(u64 gfn) const
{
    return hazard_.array ? hazard_.array->find(gfn, hazard_.hint) : nullptr;
}

bool SlotsReader::current() const
{
    return hazard_.array == kvm_.slots.current;
}

namespace {

bool is_being_read(kvm_vm &kvm, const MemSlotArray *array)
{
    bool found = false;
    host_mmu_lock(kvm.host);
    for (const SlotsHazard *hazard = kvm.slots.hazards; hazard && !found; hazard = hazard->next)
        found = __atomic_load_n(&hazard->array, __ATOMIC_SEQ_CST) == array;
    host_mmu_unlock(kvm.host);
    return found;
}

int failure(Errno error)
{
    return -static_cast<int>(error);
}

// One call of KVM_SET_USER_MEMORY_REGION that is to be carried out.
struct SlotChange {
    const MemSlot *removed; // of the current array; null: none
    const MemSlot *added;   // null: none
    bool watch;             // logging begins, and writes have to be noticed from now on

    // The same memory at the same place: what is mapped stays.
    bool in_place() const { return removed && added && removed->base_gfn == added->base_gfn; }
    bool starts_logging() const
    {
        return added && added->logged() && !(removed && removed->logged());
    }
    bool stops_logging() const
    {
        return removed && removed->logged() && !(added && added->logged());
    }
    // A bitmap that goes with the old slot.
    DirtyBitmap *retired_bitmap() const
    {
        if (!removed || (added && added->dirty == removed->dirty))
            return nullptr;
        return removed->dirty;
    }
};

// Whether the slot could hold a large page, so that the small ones made for logging should go.
bool may_be_large(const EptFeatures &features, const MemSlot &slot)
{
    constexpr u64 kLargePages = 512;
    return features.pages_2m && slot.npages >= kLargePages &&
           ((slot.base_gfn ^ slot.hva >> kPageShift) & (kLargePages - 1)) == 0;
}

// Takes away what the old slots allowed and the new ones don't. Translations of a slot that goes
// must go with it: the mmu notifiers, which find translations through the slots, would miss them.
// Where a slot comes there may be marks for "no memory". The mmu lock is held.
void zap_for_change(kvm_vm &kvm, const SlotChange &change, u64 *&unlinked)
{
    const MemSlot *removed = change.removed;
    const MemSlot *added = change.added;
    bool flush = false;
    if (change.in_place()) {
        if (change.stops_logging() && may_be_large(kvm.ept.features, *added))
            flush = ept_zap_gfn_range(kvm.ept, added->base_gfn, added->end_gfn(), unlinked);
    } else {
        if (removed)
            flush |= ept_zap_gfn_range(kvm.ept, removed->base_gfn, removed->end_gfn(), unlinked);
        if (added)
            flush |= ept_zap_gfn_range(kvm.ept, added->base_gfn, added->end_gfn(), unlinked);
    }
    kvm.ept.mmio_tables = 0; // some went, and the guest alone can't come here
    if (flush)
        host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
}

// Publishes `next` in place of the current array and frees that once nobody reads it. -EEXIST: the
// APIC-access page is where the slot should be.
int replace_slots(kvm_vm &kvm, const MemSlotArray *next, const SlotChange &change)
{
    u64 *unlinked = nullptr;
    host_mmu_lock(kvm.host);
    if (change.added && kvm.ept.apic_access_page && change.added->contains(kApicAccessGfn)) {
        host_mmu_unlock(kvm.host);
        return failure(Errno::kExist);
    }
    const MemSlotArray *old = kvm.slots.current;
    __atomic_store_n(&kvm.slots.current, next, __ATOMIC_SEQ_CST);
    zap_for_change(kvm, change, unlinked);
    host_mmu_unlock(kvm.host);

    ept_free_unlinked(unlinked);
    if (change.watch)
        watch_slot(kvm, *change.added);
    while (old && is_being_read(kvm, old))
        host_relax();
    MemSlotArray::release(const_cast<MemSlotArray *>(old));
    return 0;
}

// Applies a change that was found sound.
int change_slots(kvm_vm &kvm, const SlotChange &change)
{
    const MemSlotArray *old = kvm.slots.current;
    const bool empty = change.removed && !change.added && old->count() == 1;
    MemSlotArray *next = empty ? nullptr : MemSlotArray::derive(old, change.removed, change.added);
    if (!next && !empty)
        return failure(Errno::kNoMem);

    DirtyBitmap *retired = change.retired_bitmap();
    const bool starts = change.starts_logging();
    const bool stops = change.stops_logging();
    if (starts)
        start_logging_a_slot(kvm);
    const int error = replace_slots(kvm, next, change); // frees change.removed
    if (error != 0) {
        MemSlotArray::release(next);
        if (starts)
            stop_logging_a_slot(kvm);
        return error;
    }
    if (stops)
        stop_logging_a_slot(kvm);
    DirtyBitmap::release(retired);
    return 0;
}

// ---- KVM_SET_USER_MEMORY_REGION ---------------------------------------------

// What is wrong with the region by itself, whatever slots there are. The order is KVM's.
int check_region(const kvm_userspace_memory_region &region)
{
    if ((region.flags & ~u32{KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES}) != 0)
        return failure(Errno::kInval);
    if (((region.memory_size | region.guest_phys_addr | region.userspace_addr) & (kPageSize - 1)) !=
        0)
        return failure(Errno::kInval);
    if (!host_user_range_ok(region.userspace_addr, region.memory_size))
        return failure(Errno::kInval);
    // Bits 31:16 choose an address space; there is only one, since there is no SMM.
    if (region.slot >= kUserMemSlots)
        return failure(Errno::kInval);
    if (region.guest_phys_addr + region.memory_size < region.guest_phys_addr)
        return failure(Errno::kInval);
    if ((region.memory_size >> kPageShift) > kMemSlotMaxPages)
        return failure(Errno::kInval);
    return 0;
}

// Whether the slot may stand beside the others.
int check_place(const kvm_vm &kvm, const MemSlot &slot)
{
    const MemSlotArray *slots = kvm.slots.current;
    if (slots && slots->overlaps(slot.base_gfn, slot.end_gfn(), slot.id))
        return failure(Errno::kExist);
    if (slot.end_gfn() - 1 > kvm.ept.features.max_gfn)
        return failure(Errno::kInval);
    return 0;
}

// A slot can be moved, and logged or not; nothing else of it changes.
bool may_become(const MemSlot &old, const MemSlot &slot)
{
    return slot.hva == old.hva && slot.npages == old.npages &&
           ((slot.flags ^ old.flags) & KVM_MEM_READONLY) == 0;
}

// A slot that is to be logged gets a bitmap, unless it has one from before. The bitmap moves with
// its slot.
int add_slot(kvm_vm &kvm, const MemSlot *old, MemSlot slot)
{
    const bool all_dirty = starts_all_dirty(kvm);
    bool created = false;
    if (slot.logged() && old)
        slot.dirty = old->dirty;
    if (slot.logged() && !slot.dirty) {
        slot.dirty = DirtyBitmap::create(slot.npages, all_dirty);
        if (!slot.dirty)
            return failure(Errno::kNoMem);
        created = true;
    }
    SlotChange change{old, &slot, false};
    change.watch = change.in_place() && change.starts_logging() && !all_dirty;
    const int error = change_slots(kvm, change);
    if (error != 0 && created)
        DirtyBitmap::release(slot.dirty);
    return error;
}

} // namespace

int set_memory_region(kvm_vm &kvm, const kvm_userspace_memory_region &region)
{
    if (int error = check_region(region))
        return error;

    const MemSlotArray *slots = kvm.slots.current;
    const MemSlot *old = slots ? slots->find_id(region.slot) : nullptr;
    if (region.memory_size == 0)
        return old ? change_slots(kvm, {old, nullptr, false}) : failure(Errno::kInval);

    const MemSlot slot = {.base_gfn = region.guest_phys_addr >> kPageShift,
                          .npages = region.memory_size >> kPageShift,
                          .hva = region.userspace_addr,
                          .flags = region.flags,
                          .id = region.slot,
                          .dirty = nullptr};
    if (old && !may_become(*old, slot))
        return failure(Errno::kInval);
    if (old && slot.base_gfn == old->base_gfn && slot.flags == old->flags)
        return 0;
    if (!old || slot.base_gfn != old->base_gfn) {
        if (int error = check_place(kvm, slot))
            return error;
    }
    return add_slot(kvm, old, slot);
}

void destroy_memory_slots(kvm_vm &kvm)
{
    if (const MemSlotArray *slots = kvm.slots.current) {
        for (const MemSlot &slot : *slots)
            DirtyBitmap::release(slot.dirty);
    }
    MemSlotArray::release(const_cast<MemSlotArray *>(kvm.slots.current));
    kvm.slots.current = nullptr;
}

extern "C" int core_set_memory_region(core_vm *vm, const kvm_userspace_memory_region *region)
{
    return set_memory_region(to_kvm(vm), *region);
}

} // namespace minivmx
