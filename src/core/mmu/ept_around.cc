// SPDX-License-Identifier: GPL-2.0-only
// Fault-around: a guest that goes through its memory page by page would exit for each. Where a page
// beside the one it met is in use already, what the owner's tables have around it is mapped at
// once.
//
// Nothing is faulted in for that, and nothing looks used or written that isn't: such entries have
// no accessed flag, by which the host sorts pages by use; they are writable only where the host
// counts the page as written already; and in a logged slot only where the CPU notes the write
// itself (page-modification logging), else the write protection stays.
#include <minivmx/ept.hpp>

#include <minivmx/memslot.hpp>

#include "ept_entry.hpp"

namespace minivmx {

namespace {

// Naturally aligned blocks of so many entries: 128 KiB of memory.
constexpr unsigned kAround = 32;

struct Run {
    unsigned first, end; // of a table's entries
};

bool is_accessed(const u64 *entry)
{
    const u64 value = ept_load(entry);
    return ept_in_use(value) && (value & kEptAccessed) != 0;
}

bool neighbour_is_accessed(const u64 *table, unsigned index)
{
    return (index > 0 && is_accessed(&table[index - 1])) ||
           (index + 1 < kEptEntries && is_accessed(&table[index + 1]));
}

// The empty entries on both sides of index, as far as the block and the slot reach.
Run empty_around(const u64 *table, unsigned index, u64 gfn, const MemSlot &slot)
{
    const unsigned block = index & ~(kAround - 1);
    const u64 below = gfn - slot.base_gfn;
    const u64 above = slot.end_gfn() - gfn;
    const unsigned low = index - block < below ? block : index - static_cast<unsigned>(below);
    const unsigned high =
        block + kAround - index < above ? block + kAround : index + static_cast<unsigned>(above);
    Run run{index, index + 1};
    while (run.first > low && ept_load(&table[run.first - 1]) == 0)
        run.first--;
    while (run.end < high && ept_load(&table[run.end]) == 0)
        run.end++;
    return run;
}

} // namespace

void ept_map_around(host_vm *host, const Ept &ept, const MemSlot &slot, u64 gfn, u64 *entry,
                    bool write)
{
    const unsigned index = ept_index(gfn, 1);
    u64 *table = entry - index;
    // Without accessed flags all of it would look used.
    if (!ept.features.accessed_dirty || !neighbour_is_accessed(table, index))
        return;
    const Run run = empty_around(table, index, gfn, slot);
    if (run.end - run.first == 1)
        return;
    host_frame frame{};
    const u64 readable = ept_leaf_value(ept.features, slot, frame, 1, false) & ~kEptAccessed;
    frame.writable = true;
    const u64 writable = ept_leaf_value(ept.features, slot, frame, 1, false) & ~kEptAccessed;

    u64 frames[kAround] __attribute__((uninitialized)); // the kernel's builds zero others
    host_frames_at_hand(host, slot.hva_of_gfn(gfn) - (u64{index - run.first} << 12),
                        run.end - run.first, frames);
    for (unsigned i = run.first; i < run.end; i++) {
        const u64 found = frames[i - run.first];
        const bool may_write = (found & HOST_NEAR_WRITABLE) != 0;
        // What can't be written as its neighbour was would be an exit again, and a flush.
        if (i == index || found == 0 || (write && !may_write))
            continue;
        ept_store(&table[i], (found & kEptAddressMask) | (may_write ? writable : readable));
    }
}

} // namespace minivmx
