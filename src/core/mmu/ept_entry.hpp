// SPDX-License-Identifier: GPL-2.0-only
// An EPT entry: SDM Vol. 3C, 29.3.2, tables 29-1 to 29-7.
#pragma once

#include <minivmx/ept.hpp>
#include <minivmx/host.h>
#include <minivmx/types.hpp>

namespace minivmx {

struct MemSlot;

inline constexpr u64 kEptRead = bit64(0), kEptWrite = bit64(1), kEptExecute = bit64(2);
inline constexpr u64 kEptPermissions = kEptRead | kEptWrite | kEptExecute;
inline constexpr u64 kEptMemoryTypeWriteBack = u64{6} << 3;
inline constexpr u64 kEptIgnorePat = bit64(6);
inline constexpr u64 kEptLarge = bit64(7); // a leaf above level 1
inline constexpr u64 kEptAccessed = bit64(8), kEptDirty = bit64(9);
inline constexpr u64 kEptAddressMask = 0x000ffffffffff000;
// Where a leaf that was made not present, so that the next access shows, keeps its permissions. The
// CPU ignores every other bit of an entry whose bits 2:0 are 0 (29.3.2).
inline constexpr unsigned kEptTrackedShift = 52;

// Ignored by the CPU (29.3.2, tables 29-5 to 29-7): the owner may write the page, so the guest may,
// but for dirty logging.
inline constexpr u64 kEptOwnerWritable = bit64(55);

// No memory there, and nobody need look again: write without read is a misconfiguration
// (29.3.3.1), which has an exit reason of its own. No address, so that nothing can be read through
// it speculatively. Only at level 1, and never where a slot is.
inline constexpr u64 kEptMmio = kEptWrite | kEptExecute;

inline constexpr unsigned kEptEntries = 512;

// Frames that one entry of a table of this level covers.
constexpr u64 ept_span(unsigned level)
{
    return u64{1} << (9 * (level - 1));
}

constexpr unsigned ept_index(u64 gfn, unsigned level)
{
    return static_cast<unsigned>(gfn >> (9 * (level - 1))) & (kEptEntries - 1);
}

constexpr bool ept_is_leaf(u64 entry, unsigned level)
{
    return level == 1 || (entry & kEptLarge) != 0;
}

// Present, or tracked: something that a flush must follow when it goes. CPUs don't cache a
// misconfigured entry (29.4.2).
constexpr bool ept_in_use(u64 entry)
{
    return entry != 0 && entry != kEptMmio;
}

constexpr bool ept_is_tracked(u64 entry)
{
    return entry != 0 && (entry & kEptPermissions) == 0;
}

inline u64 *ept_table_of(u64 entry)
{
    return static_cast<u64 *>(host_phys_page(entry & kEptAddressMask));
}

// The CPU reads entries at any time, so they are written in one piece.
inline u64 ept_load(const u64 *entry)
{
    return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

inline void ept_store(u64 *entry, u64 value) // NOLINT(readability-non-const-parameter)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

inline bool ept_table_is_empty(const u64 *table)
{
    for (unsigned i = 0; i < kEptEntries; i++) {
        if (table[i] != 0)
            return false;
    }
    return true;
}

// Adds a table of this level, with all below it, to the list of tables to be freed. The CPU may
// still be walking it.
void ept_unlink_table(u64 *table, unsigned level, u64 *&unlinked);

// The leaf that maps the frame for an access. In a logged slot only a write makes a page writable,
// or, where dirty flags show writes, dirty.
u64 ept_leaf_value(const EptFeatures &features, const MemSlot &slot, const host_frame &frame,
                   unsigned level, bool write);

// A small page was mapped at this entry for an access: maps what is at hand around it, if the guest
// seems to go through its memory in sequence. The mmu lock is held. current->mm is the VM's.
// [atomic]
void ept_map_around(host_vm *host, const Ept &ept, const MemSlot &slot, u64 gfn, u64 *entry,
                    bool write);

} // namespace minivmx
