// SPDX-License-Identifier: GPL-2.0-only
// The slots as readers see them: lookups, and how one array is made from another.
#include <minivmx/memslot.hpp>

#include <minivmx/dirty_log.hpp>

namespace minivmx {

// ---- Lookups ----------------------------------------------------------------

u32 MemSlotArray::chunk_of(u64 gfn) const
{
    u32 low = 0;
    u32 high = chunk_count_;
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (entries()[middle].first_gfn <= gfn)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? 0 : low - 1;
}

u32 SlotChunk::position_above(u64 gfn) const
{
    u32 low = 0;
    u32 high = count;
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (slots[middle].base_gfn <= gfn)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const MemSlot *MemSlotArray::slot_at(u32 place) const
{
    if (place / SlotChunk::kSlots >= chunk_count_)
        return nullptr;
    const SlotChunk &chunk = *entries()[place / SlotChunk::kSlots].chunk;
    const u32 position = place % SlotChunk::kSlots;
    return position < chunk.count ? &chunk.slots[position] : nullptr;
}

bool MemSlotArray::is_gap_behind(u32 place, u64 gfn) const
{
    const MemSlot *before = slot_at(place);
    if (!before || gfn < before->end_gfn())
        return false;
    const u32 index = place / SlotChunk::kSlots;
    if (place % SlotChunk::kSlots + 1 < entries()[index].chunk->count)
        return gfn < before[1].base_gfn;
    return index + 1 == chunk_count_ || gfn < entries()[index + 1].first_gfn;
}

const MemSlot *MemSlotArray::find(u64 gfn, u32 &hint, u32 &gap) const
{
    const MemSlot *slot = slot_at(hint);
    if (slot && slot->contains(gfn))
        return slot;
    if (is_gap_behind(gap, gfn))
        return nullptr;
    const u32 index = chunk_of(gfn);
    const SlotChunk &chunk = *entries()[index].chunk;
    const u32 above = chunk.position_above(gfn);
    if (above == 0)
        return nullptr;
    slot = &chunk.slots[above - 1];
    const bool found = slot->contains(gfn);
    (found ? hint : gap) = index * SlotChunk::kSlots + above - 1;
    return found ? slot : nullptr;
}

const MemSlot *MemSlotArray::find(u64 gfn, u32 &hint) const
{
    u32 no_gap = kNoPlace;
    return find(gfn, hint, no_gap);
}

bool MemSlotArray::overlaps(u64 base_gfn, u64 end_gfn, u32 id) const
{
    // Slots don't overlap each other, so their ends are in the same order as their bases.
    u32 index = chunk_of(end_gfn - 1);
    u32 above = entries()[index].chunk->position_above(end_gfn - 1);
    for (;;) {
        if (above == 0) {
            if (index == 0)
                return false;
            above = entries()[--index].chunk->count;
        }
        const MemSlot &slot = entries()[index].chunk->slots[--above];
        if (slot.end_gfn() <= base_gfn)
            return false;
        if (slot.id != id)
            return true;
    }
}

// ---- The next array ---------------------------------------------------------

void SlotChunk::append(const MemSlot &slot)
{
    slots[count++] = slot;
}

bool SlotChunk::holds(const MemSlot *slot) const
{
    return slot >= slots && slot < slots + count;
}

// What becomes of a chunk (null: none yet) without `removed` and with `added`: no chunk, one, or
// two halves of one that was full. False: no memory.
bool SlotsUpdate::rebuild(const SlotChunk *old, const MemSlot *removed, const MemSlot *added)
{
    u32 size = added ? 1 : 0;
    if (old)
        size += old->count - (old->holds(removed) ? 1 : 0);
    const u32 first_part = size <= SlotChunk::kSlots ? size : size / 2;
    u32 placed = 0;
    SlotChunk *chunk = nullptr;
    auto place = [&](const MemSlot &slot) {
        if (placed == 0 || placed == first_part) {
            chunk = static_cast<SlotChunk *>(host_zalloc(sizeof(SlotChunk)));
            if (!chunk)
                return false;
            fresh_[fresh_count_++] = chunk;
        }
        placed++;
        chunk->append(slot);
        return true;
    };
    bool added_is_placed = added == nullptr;
    for (u32 i = 0; old && i < old->count; i++) {
        const MemSlot &slot = old->slots[i];
        if (&slot == removed)
            continue;
        if (!added_is_placed && added->base_gfn < slot.base_gfn) {
            added_is_placed = true;
            if (!place(*added))
                return false;
        }
        if (!place(slot))
            return false;
    }
    return added_is_placed || place(*added);
}

void MemSlotArray::append(SlotChunk *chunk)
{
    Entry &entry = entries()[chunk_count_++];
    entry = {chunk->slots[0].base_gfn, ~u64{0}, 0, chunk};
    for (u32 i = 0; i < chunk->count; i++) {
        const MemSlot &slot = chunk->slots[i];
        if (slot.hva < entry.hva_start)
            entry.hva_start = slot.hva;
        if (slot.hva_end() > entry.hva_end)
            entry.hva_end = slot.hva_end();
    }
    count_ += chunk->count;
}

void MemSlotArray::append(const Entry &entry)
{
    entries()[chunk_count_++] = entry;
    count_ += entry.chunk->count;
}

bool SlotsUpdate::prepare(const MemSlotArray *old, const MemSlot *removed, const MemSlot *added)
{
    if (!old)
        return rebuild(nullptr, nullptr, added) && assemble(old, 0, 0);

    // One chunk changes, or two.
    const u32 to = added ? old->chunk_of(added->base_gfn) : old->chunk_of(removed->base_gfn);
    const u32 from = removed ? old->chunk_of(removed->base_gfn) : to;
    const u32 first = to < from ? to : from;
    const u32 last = to < from ? from : to;
    const u32 changed[] = {first, last};
    for (const u32 index : changed) {
        SlotChunk *chunk = old->entries()[index].chunk;
        stale_[stale_count_++] = chunk;
        if (!rebuild(chunk, removed, index == to ? added : nullptr))
            return false;
        if (stale_count_ == 1)
            first_fresh_ = fresh_count_;
        if (first == last)
            break;
    }
    return assemble(old, first, last);
}

// The chunks of the old array, with what was made in the places of `first` and `last`.
bool SlotsUpdate::assemble(const MemSlotArray *old, u32 first, u32 last)
{
    const u32 old_count = old ? old->chunk_count_ : 0;
    const u32 count = old_count - stale_count_ + fresh_count_;
    if (count == 0)
        return true; // no slot is left
    next_ = static_cast<MemSlotArray *>(
        host_zalloc(sizeof(MemSlotArray) + count * sizeof(MemSlotArray::Entry)));
    if (!next_)
        return false;
    u32 fresh = 0;
    for (u32 i = 0; i < old_count; i++) {
        if (i == first || i == last) {
            const u32 end = i == first && first != last ? first_fresh_ : fresh_count_;
            while (fresh < end)
                next_->append(fresh_[fresh++]);
        } else {
            next_->append(old->entries()[i]);
        }
    }
    while (fresh < fresh_count_)
        next_->append(fresh_[fresh++]);
    return true;
}

void SlotsUpdate::cancel()
{
    while (fresh_count_ > 0)
        host_free(fresh_[--fresh_count_]);
    host_free(next_);
    next_ = nullptr;
}

void SlotsUpdate::finish(const MemSlotArray *old)
{
    while (stale_count_ > 0)
        host_free(stale_[--stale_count_]);
    host_free(const_cast<MemSlotArray *>(old));
}

void MemSlotArray::destroy(const MemSlotArray *array)
{
    if (!array)
        return;
    for (u32 i = 0; i < array->chunk_count_; i++) {
        SlotChunk *chunk = array->entries()[i].chunk;
        for (u32 slot = 0; slot < chunk->count; slot++)
            DirtyBitmap::release(chunk->slots[slot].dirty);
        host_free(chunk);
    }
    host_free(const_cast<MemSlotArray *>(array));
}

} // namespace minivmx
