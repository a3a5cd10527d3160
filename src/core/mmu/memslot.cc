// SPDX-License-Identifier: GPL-2.0-only
// Memory slots: the array that readers see, and KVM_SET_USER_MEMORY_REGION.
#include <minivmx/memslot.hpp>

#include <linux/kvm.h>

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

void MemSlotArray::copy_slots(const MemSlotArray &old, const MemSlot *removed, const MemSlot *added,
                              u32 &added_at)
{
    u32 next = 0;
    for (u32 i = 0; i < old.count(); i++) {
        const MemSlot &slot = old.slots()[i];
        if (&slot == removed)
            continue;
        if (added && added_at == kUserMemSlots && added->base_gfn < slot.base_gfn) {
            added_at = next;
            slots()[next++] = *added;
        }
        slots()[next++] = slot;
    }
}

void MemSlotArray::build_hva_index(const MemSlotArray *old, const MemSlot *removed,
                                   const MemSlot *added, u32 added_at)
{
    const u32 removed_at = removed ? static_cast<u32>(removed - old->begin()) : kUserMemSlots;
    bool placed = added == nullptr;
    u32 next = 0;
    u64 max_end = 0;
    auto append = [&](u32 slot) {
        if (slots()[slot].hva_end() > max_end)
            max_end = slots()[slot].hva_end();
        hva_index()[next++] = {max_end, slot};
    };
    for (u32 i = 0; old && i < old->count(); i++) {
        u32 slot = old->hva_index()[i].slot;
        if (slot == removed_at)
            continue;
        if (slot > removed_at)
            slot--;
        if (added && slot >= added_at)
            slot++;
        if (!placed && added->hva < slots()[slot].hva) {
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
    const u64 count = (old ? old->count_ : 0) - (removed ? 1 : 0) + (added ? 1 : 0);
    void *memory = host_zalloc(sizeof(MemSlotArray) + count * (sizeof(MemSlot) + sizeof(HvaEntry)));
    if (!memory)
        return nullptr;

    MemSlotArray *array = static_cast<MemSlotArray *>(memory);
    array->count_ = count;
    u32 added_at = kUserMemSlots;
    if (old)
        array->copy_slots(*old, removed, added, added_at);
    if (added && added_at == kUserMemSlots) {
        added_at = array->count() - 1;
        array->slots()[added_at] = *added;
    }
    array->build_hva_index(old, removed, added, added_at);
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

// Publishes `next` in place of the current array and frees that once nobody reads it. The
// translations of `removed` go under the same lock, flushed: afterwards the mmu notifiers, which
// find translations through the slots, would miss them.
void replace_slots(kvm_vm &kvm, const MemSlotArray *next, const MemSlot *removed)
{
    u64 *unlinked = nullptr;

    host_mmu_lock(kvm.host);
    const MemSlotArray *old = kvm.slots.current;
    __atomic_store_n(&kvm.slots.current, next, __ATOMIC_SEQ_CST);
    if (removed && ept_zap_gfn_range(kvm.ept, removed->base_gfn, removed->end_gfn(), unlinked))
        host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
    host_mmu_unlock(kvm.host);

    ept_free_unlinked(unlinked);
    while (old && is_being_read(kvm, old))
        host_relax();
    MemSlotArray::release(const_cast<MemSlotArray *>(old));
}

// ---- KVM_SET_USER_MEMORY_REGION ---------------------------------------------

int failure(Errno error)
{
    return -static_cast<int>(error);
}

// What is wrong with the region by itself, whatever slots there are. The order is KVM's.
int check_region(const kvm_userspace_memory_region &region)
{
    if ((region.flags & ~u32{KVM_MEM_READONLY}) != 0)
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

// Applies the change that check_* found sound.
int change_slots(kvm_vm &kvm, const MemSlot *removed, const MemSlot *added)
{
    const MemSlotArray *old = kvm.slots.current;
    const bool empty = removed && !added && old->count() == 1;
    MemSlotArray *next = empty ? nullptr : MemSlotArray::derive(old, removed, added);
    if (!next && !empty)
        return failure(Errno::kNoMem);
    replace_slots(kvm, next, removed);
    return 0;
}

} // namespace

int set_memory_region(kvm_vm &kvm, const kvm_userspace_memory_region &region)
{
    if (int error = check_region(region))
        return error;

    const MemSlotArray *slots = kvm.slots.current;
    const MemSlot *old = slots ? slots->find_id(region.slot) : nullptr;
    if (region.memory_size == 0)
        return old ? change_slots(kvm, old, nullptr) : failure(Errno::kInval);

    const MemSlot slot = {region.guest_phys_addr >> kPageShift, region.memory_size >> kPageShift,
                          region.userspace_addr, region.flags, region.slot};
    if (old) {
        // A slot can be moved, nothing else.
        if (slot.hva != old->hva || slot.npages != old->npages || slot.flags != old->flags)
            return failure(Errno::kInval);
        if (slot.base_gfn == old->base_gfn)
            return 0;
    }
    if (slots && slots->overlaps(slot.base_gfn, slot.end_gfn(), slot.id))
        return failure(Errno::kExist);
    if (slot.end_gfn() - 1 > kvm.ept.features.max_gfn)
        return failure(Errno::kInval);
    return change_slots(kvm, old, &slot);
}

void destroy_memory_slots(kvm_vm &kvm)
{
    MemSlotArray::release(const_cast<MemSlotArray *>(kvm.slots.current));
    kvm.slots.current = nullptr;
}

extern "C" int core_set_memory_region(core_vm *vm, const kvm_userspace_memory_region *region)
{
    return set_memory_region(to_kvm(vm), *region);
}

} // namespace minivmx
