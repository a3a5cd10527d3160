// SPDX-License-Identifier: GPL-2.0-only
// Memory slots: the array that readers see, and KVM_SET_USER_MEMORY_REGION.
#include <minivmx/memslot.hpp>

#include <minivmx.h>

#include <minivmx/dirty_log.hpp>
#include <minivmx/ept.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/result.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>
#include <minivmx/x86.hpp>

namespace minivmx {

static_assert(KVM_MEM_READONLY == 2, "MemSlot::read_only() names the bit by its number");

// ---- Numbers ----------------------------------------------------------------

namespace {
constexpr u32 kIdMask = 0x7fff;
static_assert(sizeof(MemSlots::by_id) / sizeof(u64 *) * MemSlots::kIdsPerPage == kIdMask + 1);
} // namespace

const MemSlot *find_slot_by_id(const kvm_vm &kvm, u32 id)
{
    // User space's number, checked, but perhaps not yet when this is done speculatively.
    id &= kIdMask;
    const u64 *page = kvm.slots.by_id[id / MemSlots::kIdsPerPage];
    const u64 place = page ? page[id % MemSlots::kIdsPerPage] : 0;
    u32 hint = 0;
    return place && kvm.slots.current ? kvm.slots.current->find(place - 1, hint) : nullptr;
}

namespace {

bool reserve_id(kvm_vm &kvm, u32 id)
{
    u64 *&page = kvm.slots.by_id[id / MemSlots::kIdsPerPage];
    if (!page)
        page = static_cast<u64 *>(host_page_alloc());
    return page != nullptr;
}

void set_place_of_id(kvm_vm &kvm, u32 id, u64 place)
{
    kvm.slots.by_id[id / MemSlots::kIdsPerPage][id % MemSlots::kIdsPerPage] = place;
}

} // namespace

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
    return hazard_.array ? hazard_.array->find(gfn, hazard_.hint, hazard_.gap) : nullptr;
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
    // Shadow tables have no order by guest frames: where much has to go, all goes.
    bool obsoletes_shadow_pages() const
    {
        constexpr u64 kLargePages = 512;
        return in_place() ? stops_logging() && removed->npages >= kLargePages : removed != nullptr;
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
    if (kvm.shadow && change.obsoletes_shadow_pages()) {
        shadow_obsolete_all(kvm);
        flush = true;
    }
    kvm.ept.mmio_tables = 0; // some went, and the guest alone can't come here
    if (flush)
        host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
}

// Publishes the next array in place of the current one, and frees that once nobody reads it.
// -EEXIST: a private page is where the slot should be.
int replace_slots(kvm_vm &kvm, SlotsUpdate &update, const SlotChange &change)
{
    u64 *unlinked = nullptr;
    host_mmu_lock(kvm.host);
    if (change.added && private_page_in(kvm, change.added->base_gfn, change.added->end_gfn())) {
        host_mmu_unlock(kvm.host);
        return failure(Errno::kExist);
    }
    const MemSlotArray *old = kvm.slots.current;
    __atomic_store_n(&kvm.slots.generation, kvm.slots.generation + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&kvm.slots.current, update.next(), __ATOMIC_SEQ_CST);
    zap_for_change(kvm, change, unlinked);
    host_mmu_unlock(kvm.host);

    ept_free_unlinked(unlinked);
    shadow_free_obsolete(kvm);
    if (change.removed && !change.in_place())
        shadow_forget_gfns(kvm, change.removed->base_gfn, change.removed->end_gfn());
    if (change.watch)
        watch_slot(kvm, *change.added);
    while (old && is_being_read(kvm, old))
        host_relax();
    update.finish(old);
    return 0;
}

// Applies a change that was found sound.
int change_slots(kvm_vm &kvm, const SlotChange &change)
{
    const u32 id = change.added ? change.added->id : change.removed->id;
    SlotsUpdate update;
    if (!reserve_id(kvm, id) || !update.prepare(kvm.slots.current, change.removed, change.added)) {
        update.cancel();
        return failure(Errno::kNoMem);
    }

    DirtyBitmap *retired = change.retired_bitmap();
    const bool starts = change.starts_logging();
    const bool stops = change.stops_logging();
    // A slot that is replaced keeps its size.
    const bool replaces = change.removed && change.added;
    const u64 removed_pages = change.removed && !change.added ? change.removed->npages : 0;
    if (starts)
        start_logging_a_slot(kvm);
    const int error = replace_slots(kvm, update, change); // frees change.removed
    if (error != 0) {
        update.cancel();
        if (starts)
            stop_logging_a_slot(kvm);
        return error;
    }
    set_place_of_id(kvm, id, change.added ? change.added->base_gfn + 1 : 0);
    if (change.added && !replaces)
        add_slot_pages(kvm, change.added->npages);
    if (removed_pages)
        remove_slot_pages(kvm, removed_pages);
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

    const MemSlot *old = find_slot_by_id(kvm, region.slot);
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
    MemSlotArray::destroy(kvm.slots.current);
    kvm.slots.current = nullptr;
    for (u64 *page : kvm.slots.by_id)
        host_page_free(page);
}

extern "C" int core_set_memory_region(core_vm *vm, const kvm_userspace_memory_region *region)
{
    return set_memory_region(to_kvm(vm), *region);
}

} // namespace minivmx
