// SPDX-License-Identifier: GPL-2.0-only
// Bitmaps of written pages: filled by whoever writes guest memory, read by KVM_GET_DIRTY_LOG and
// KVM_CLEAR_DIRTY_LOG.
#include <minivmx/dirty_log.hpp>

#include <minivmx.h>

#include <minivmx/ept.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "ept_entry.hpp"

namespace minivmx {

static_assert(KVM_MEM_LOG_DIRTY_PAGES == 1, "MemSlot::logged() names the bit by its number");

// ---- The bitmap -------------------------------------------------------------

DirtyBitmap *DirtyBitmap::create(u64 npages, bool all_dirty)
{
    const u64 words = (npages + 63) / 64;
    auto *bitmap =
        static_cast<DirtyBitmap *>(host_zalloc(sizeof(DirtyBitmap) + 2 * words * sizeof(u64)));
    if (!bitmap)
        return nullptr;
    bitmap->words_ = words;
    if (all_dirty) {
        for (u64 i = 0; i < words; i++)
            bitmap->bits()[i] = ~u64{0};
        if (npages % 64 != 0)
            bitmap->bits()[words - 1] = bit64(npages % 64) - 1;
    }
    return bitmap;
}

void DirtyBitmap::release(DirtyBitmap *bitmap)
{
    host_free(bitmap);
}

void DirtyBitmap::mark(u64 page)
{
    const u64 bit = bit64(page % 64);
    // Mostly it is set already; then the line need not be fetched for writing.
    if ((peek(page / 64) & bit) == 0)
        __atomic_fetch_or(&bits()[page / 64], bit, __ATOMIC_SEQ_CST);
}

// ---- Marking ----------------------------------------------------------------

void mark_page_dirty(const MemSlot &slot, u64 gfn)
{
    if (slot.dirty)
        slot.dirty->mark(gfn - slot.base_gfn);
}

void mark_range_dirty(const MemSlot &slot, u64 gpa, u64 size)
{
    if (!slot.dirty || size == 0)
        return;
    for (u64 gfn = gpa >> kPageShift; gfn <= (gpa + size - 1) >> kPageShift; gfn++)
        mark_page_dirty(slot, gfn);
}

void mark_page_dirty(vcpu_vmx &vmx, u64 gfn)
{
    const SlotsReader slots{vmx};
    if (const MemSlot *slot = slots.find(gfn))
        mark_page_dirty(*slot, gfn);
}

void mark_page_dirty(kvm_vm &kvm, u64 gfn)
{
    u32 hint = 0;
    host_mmu_lock(kvm.host);
    const MemSlotArray *slots = kvm.slots.current;
    if (const MemSlot *slot = slots ? slots->find(gfn, hint) : nullptr)
        mark_page_dirty(*slot, gfn);
    host_mmu_unlock(kvm.host);
}

// ---- Noticing writes --------------------------------------------------------

bool watch_writes(kvm_vm &kvm, u64 base_gfn, u64 end_gfn)
{
    if (kvm.shadow)
        return shadow_watch_writes(kvm, base_gfn, end_gfn);
    return ept_watch_writes(kvm.ept, base_gfn, end_gfn, hardware.params.pml);
}

void watch_slot(kvm_vm &kvm, const MemSlot &slot)
{
    constexpr u64 kTurn = u64{1} << 18; // frames: a gibibyte
    bool flush = false;
    for (u64 gfn = slot.base_gfn; gfn < slot.end_gfn(); gfn += kTurn) {
        const u64 end = slot.end_gfn() - gfn < kTurn ? slot.end_gfn() : gfn + kTurn;
        host_mmu_lock(kvm.host);
        flush |= watch_writes(kvm, gfn, end);
        host_mmu_unlock(kvm.host);
    }
    if (flush)
        host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
}

int enable_manual_dirty_log(kvm_vm &kvm, u64 options)
{
    // "Initially set" makes sense only with the other.
    const u64 allowed = (options & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0
                            ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET
                            : KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    if ((options & ~allowed) != 0)
        return -EINVAL;
    __atomic_store_n(&kvm.manual_dirty_log, static_cast<u32>(options), __ATOMIC_RELAXED);
    return 0;
}

namespace {

bool is_manual(const kvm_vm &kvm)
{
    return __atomic_load_n(&kvm.manual_dirty_log, __ATOMIC_RELAXED) != 0;
}

// ---- The ioctls -------------------------------------------------------------

// Bits 31:16 choose an address space; there is only one, since there is no SMM.
bool slot_number_is_valid(u32 number)
{
    return number < kUserMemSlots;
}

const MemSlot *find_logged(const kvm_vm &kvm, u32 number)
{
    const MemSlot *slot = find_slot_by_id(kvm, number);
    return slot && slot->dirty ? slot : nullptr;
}

// The pages that a word of the bitmap stood for are watched again. The mmu lock is held.
bool watch_word(kvm_vm &kvm, const MemSlot &slot, u64 word, u64 taken)
{
    bool flush = false;
    u64 gfn = slot.base_gfn + word * 64;
    while (taken != 0) {
        const unsigned skip = lowest_bit(taken);
        gfn += skip;
        taken >>= skip;
        const unsigned run = ~taken == 0 ? 64 : lowest_bit(~taken);
        flush |= watch_writes(kvm, gfn, gfn + run);
        gfn += run;
        taken = run == 64 ? 0 : taken >> run;
    }
    return flush;
}

// Takes from words [first, first + count) the bits that wanted(i) names, into scratch[i], and
// watches their pages.
template <class Wanted>
void take_bits(kvm_vm &kvm, const MemSlot &slot, u64 first, u64 count, Wanted wanted)
{
    constexpr u64 kTurn = 4096; // words for which the mmu lock is held at a time
    u64 *taken = slot.dirty->scratch();
    bool flush = false;
    for (u64 begin = 0; begin < count; begin += kTurn) {
        const u64 end = count - begin < kTurn ? count : begin + kTurn;
        host_mmu_lock(kvm.host);
        for (u64 i = begin; i < end; i++) {
            const u64 mask = wanted(i) & slot.dirty->peek(first + i);
            taken[i] = mask == 0 ? 0 : slot.dirty->take(first + i, mask);
            if (taken[i] != 0)
                flush |= watch_word(kvm, slot, first + i, taken[i]);
        }
        host_mmu_unlock(kvm.host);
    }
    // Before user space can read the pages: whoever writes them later is noticed.
    if (flush)
        host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
}

// What the vCPUs' buffers hold goes to the bitmaps: see the head of dirty_log.hpp.
void collect_dirty_pages(kvm_vm &kvm)
{
    if (uses_pml(kvm))
        host_request_all(kvm.host, 0);
}

int get_dirty_log(kvm_vm &kvm, u32 number, core_dirty_log *log)
{
    if (!slot_number_is_valid(number))
        return -EINVAL;
    const MemSlot *slot = find_logged(kvm, number);
    if (!slot)
        return -ENOENT;
    collect_dirty_pages(kvm);

    const u64 words = slot->dirty->word_count();
    log->size = words * sizeof(u64);
    log->bitmap = slot->dirty->bits();
    if (is_manual(kvm))
        return 0; // nothing is forgotten until KVM_CLEAR_DIRTY_LOG
    take_bits(kvm, *slot, 0, words, [](u64) { return ~u64{0}; });
    log->bitmap = slot->dirty->scratch();
    return 0;
}

// Whether pages [first, first + count) may be cleared: whole words, or up to the slot's end.
bool range_is_valid(const MemSlot &slot, u64 first, u64 count)
{
    if (first > slot.npages || count > slot.npages - first)
        return false;
    return count == slot.npages - first || count % 64 == 0;
}

} // namespace

bool starts_all_dirty(const kvm_vm &kvm)
{
    return (__atomic_load_n(&kvm.manual_dirty_log, __ATOMIC_RELAXED) &
            KVM_DIRTY_LOG_INITIALLY_SET) != 0;
}

extern "C" {

int core_get_dirty_log(core_vm *vm, host_u32 slot, core_dirty_log *log)
{
    return get_dirty_log(to_kvm(vm), slot, log);
}

int core_prepare_clear_dirty_log(core_vm *vm, const kvm_clear_dirty_log *clear, core_dirty_log *log)
{
    kvm_vm &kvm = to_kvm(vm);
    if (!slot_number_is_valid(clear->slot) || clear->first_page % 64 != 0)
        return -EINVAL;
    const MemSlot *slot = find_logged(kvm, clear->slot);
    if (!slot)
        return -ENOENT;
    if (!range_is_valid(*slot, clear->first_page, clear->num_pages))
        return -EINVAL;
    collect_dirty_pages(kvm);
    log->bitmap = slot->dirty->scratch();
    log->size = (u64{clear->num_pages} + 63) / 64 * sizeof(u64);
    return 0;
}

void core_clear_dirty_log(core_vm *vm, const kvm_clear_dirty_log *clear)
{
    kvm_vm &kvm = to_kvm(vm);
    // The slots mutex is held since core_prepare_clear_dirty_log(): it is there and fits.
    const MemSlot *slot = find_logged(kvm, clear->slot);
    if (!slot)
        return;
    const u64 *wanted = slot->dirty->scratch();
    take_bits(kvm, *slot, clear->first_page / 64, (u64{clear->num_pages} + 63) / 64,
              [wanted](u64 i) { return wanted[i]; });
}

} // extern "C"

} // namespace minivmx
