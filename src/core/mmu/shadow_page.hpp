// SPDX-License-Identifier: GPL-2.0-only
// Shadow pages: the tables that the CPU walks, what they were made from, and who points where. The
// head of shadow.hpp says how they are used. The mmu lock is held wherever a ShadowMmu is changed.
#pragma once

#include <minivmx/host.h>
#include <minivmx/shadow.hpp>
#include <minivmx/types.hpp>

#include "gfn_map.hpp"
#include "guest_walk.hpp"

namespace minivmx {

// ---- Entries -----------------------------------------------------------------------------------

// A shadow entry has the format of 4-level or PAE paging (SDM Vol. 3A, 4.5 and 4.4). The CPU runs
// with CR0.WP = 1 and EFER.NXE = 1 whatever the guest has set.
inline constexpr u64 kSptePresent = bit64(0), kSpteWrite = bit64(1), kSpteUser = bit64(2),
                     kSpteAccessed = bit64(5), kSpteDirty = bit64(6), kSpteLarge = bit64(7),
                     kSpteNoExecute = bit64(63);
inline constexpr u64 kSpteAddressMask = 0x000ffffffffff000;
// Ignored by the CPU: the owner may write the page, and the guest's tables allow this translation's
// users to (their dirty flag is set). With both, kSpteWrite may be set, but for dirty logging and
// for frames that hold tables.
inline constexpr u64 kSpteOwnerWritable = bit64(9), kSpteGuestWritable = bit64(10);
inline constexpr u64 kSpteMayWrite = kSpteOwnerWritable | kSpteGuestWritable;
// An entry above level 1 that points to another shadow page grants everything: the leaf says it
// all.
inline constexpr u64 kSpteTable = kSptePresent | kSpteWrite | kSpteUser | kSpteAccessed;

inline constexpr unsigned kShadowEntries = 512;

// The CPU reads entries and sets accessed and dirty flags at any time.
inline u64 spte_load(const u64 *entry)
{
    return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

// Frames that one entry of a table of this level covers.
constexpr u64 shadow_span(unsigned level)
{
    return u64{1} << (9 * (level - 1));
}

constexpr unsigned shadow_index(u64 linear, unsigned level)
{
    return static_cast<unsigned>(linear >> (12 + 9 * (level - 1))) & (kShadowEntries - 1);
}

// One entry of one shadow page: the page's number and the entry's. 0 is none: there is no page 0.
using SpteRef = u32;

// ---- What a page is made from ------------------------------------------------------------------

enum class GuestTable : u8 {
    kDirect, // none: gfn, gfn + span ... one after the other (no paging, or inside a large page)
    k32,     // 32-bit paging: 1024 entries of 4 bytes, so that a guest's table takes two shadow
             // pages (level 1) or four (level 2)
    kPae,
    k64,
};

// With the frame: all that decides what a shadow page's entries must look like. Pages of equal gfn
// and role are the same page.
struct ShadowRole {
    u8 level; // 1: its entries map 4 KiB pages
    GuestTable table;
    u8 quadrant; // k32: which part of the guest's table
    u8 rights;   // kRight*: what the entries above this table allow; direct: all that is allowed
    bool write_protect; // CR0.WP
    bool nxe;           // EFER.NXE
    bool smep, smap;    // only where CR0.WP is 0
    bool pse;           // k32: CR4.PSE, which gives bit 7 of a directory's entries its meaning

    bool direct() const { return table == GuestTable::kDirect; }
    bool operator==(const ShadowRole &other) const
    {
        return __builtin_memcmp(this, &other, sizeof(ShadowRole)) == 0;
    }
    // Size of one of the guest's entries, and which of them makes entry i.
    u32 guest_entry_size() const { return table == GuestTable::k32 ? 4 : 8; }
    u32 guest_index(unsigned i) const
    {
        if (table != GuestTable::k32)
            return i;
        return level == 1 ? quadrant * 512u + i : quadrant * 256u + i / 2;
    }
};

static_assert(__has_unique_object_representations(ShadowRole)); // it is compared as bytes

struct SpteLink {
    SpteRef next, prev; // 0: none; of the frame's leaves, or of the child's parents
};

struct ShadowPage {
    u64 gfn; // the guest's table; direct: the first frame that is mapped
    ShadowRole role;
    u32 number;  // in ShadowMmu::directory; never 0
    u32 uses;    // as a vCPU's root
    bool unsync; // the frame may be written without a fault
    bool zapped; // out of every list and table; here until its last use ends
    u64 generation;

    u64 *entries;    // what the CPU walks
    u64 *guest;      // what entries were made from, as read from the guest; null when direct
    SpteLink *links; // by entry
    u64 unsync_below[kShadowEntries / 64]; // by entry: the child is unsync, or something below it
    u32 marked;                            // how many entries are
    SpteRef parents;                       // the entries that point here
    u32 parent_count;
    u32 used; // entries that are present

    ShadowPage *newer, *older;           // all pages, by when a fault last walked through them
    ShadowPage *frame_next, *frame_prev; // of the same frame
};

// ---- The VM's pages ----------------------------------------------------------------------------

// What bounds the time under the lock. A guest that wants more of one gets less speed: the oldest
// go, and come back by faults.
inline constexpr u32 kMaxFrameLeaves = 1024; // entries that map one frame
inline constexpr u32 kMaxParents = 1024;     // entries that point to one shadow page
inline constexpr u32 kMaxFramePages = 32;    // shadow pages of one frame
inline constexpr u32 kMaxUnsyncSteps = 4096; // entries marked because something below is unsync
inline constexpr u32 kMaxShadowPages = (1u << 18) - 1;

struct ShadowMmu {
    kvm_vm *kvm;
    GfnMap frames; // by frame
    GfnMap runs;   // by frame >> 9: entries that map 2 MiB, tables inside
    // By number, 512 a page. Free numbers are a list through their places.
    ShadowPage **directory[kMaxShadowPages / 512 + 1];
    u32 numbers;     // how many were ever given out
    u32 free_number; // the first that is free again; 0: none
    u32 count;       // pages that exist and are not zapped
    bool dead;       // shadow_clear_all() was called
    // By when a fault last walked through them. Those of older generations are the oldest.
    ShadowPage *newest, *oldest;
    u64 generation; // never 0; changes when vCPUs have to find new roots
    // Something that a CPU may still have cached is out of the tables: whoever next needs to know
    // that a frame isn't mapped, or can't be written, flushes even if he finds nothing.
    bool unflushed;
    // How often an entry above level 1 went: then a flush of one address, which a CPU does for one
    // small page, isn't enough for a guest's large one.
    u64 upper_changes;
    void *table;   // a page to read one of the guest's tables into
    u32 slot_hint; // where a frame's slot was found last
};

// What an operation leaves to be done.
struct ShadowChanges {
    bool flush = false;          // before the lock is released: finish()
    ShadowPage *freed = nullptr; // after it is released: shadow_free()
};
// Under the lock: makes every vCPU flush if need be.
void shadow_finish(ShadowMmu &mmu, ShadowChanges &changes);
// Without it. [sleep]
void shadow_free(ShadowChanges &changes);

ShadowPage *page_by_number(const ShadowMmu &mmu, u32 number);
inline ShadowPage &page_of(const ShadowMmu &mmu, SpteRef ref)
{
    return *page_by_number(mmu, ref >> 9);
}
inline SpteRef ref_of(const ShadowPage &page, unsigned index)
{
    return page.number << 9 | index;
}

// Whether the entry leads to another shadow page.
inline bool has_child(const ShadowPage &page, unsigned index)
{
    const u64 entry = spte_load(&page.entries[index]);
    return page.role.level > 1 && (entry & (kSptePresent | kSpteLarge)) == kSptePresent;
}
ShadowPage &child_of(const ShadowPage &page, unsigned index); // only if has_child()

// Before a fault makes pages: where the limit is reached, the oldest go. Pages that a fault has
// just walked through stay.
void make_room(ShadowMmu &mmu, ShadowChanges &changes);
// The page of this frame and role, made if need be, and now the youngest. A new one has no entries;
// its frame is protected from now on, unless that has unsync pages already: then it is one, too.
// Null: the stock is exhausted, or the VM is going; try the fault again. May zap pages of the same
// frame that no fault walked through lately.
ShadowPage *find_or_make(ShadowMmu &mmu, ShadowStock &stock, u64 gfn, const ShadowRole &role,
                         ShadowChanges &changes);
// A fault walks through the page: it is the youngest now. Not for obsolete ones.
void touch(ShadowMmu &mmu, ShadowPage &page);
ShadowPage *find_page(const ShadowMmu &mmu, u64 gfn, const ShadowRole &role);

// Entry `index`, which must be empty, leads to child; guest: what it is made from (direct: unused).
// False: too much must be marked because the child is unsync; try the fault again.
[[nodiscard]] bool link_child(ShadowMmu &mmu, ShadowPage &page, unsigned index, ShadowPage &child,
                              u64 guest);
// Entry `index`, made from `guest`, maps the frame that this names (2 MiB if spte has kSpteLarge).
// What was there before is replaced. kSpteWrite is left out where the frame holds a table that is
// not unsync. False: the stock is exhausted, the VM is going, or a large page can't be mapped
// because tables are inside.
[[nodiscard]] bool set_leaf(ShadowMmu &mmu, ShadowStock &stock, ShadowPage &page, unsigned index,
                            u64 spte, u64 guest);
// Gives a leaf other rights.
void change_leaf(ShadowMmu &mmu, ShadowPage &page, unsigned index, u64 spte);
// The frame that a leaf maps, and that it would map.
u64 leaf_gfn(const ShadowPage &page, unsigned index);
u64 guest_leaf_gfn(const ShadowRole &role, u64 guest, unsigned index);
// Sets ShadowMmu::unflushed if there was anything.
void clear_entry(ShadowMmu &mmu, ShadowPage &page, unsigned index);

// Whether a 2 MiB entry may map the run of frames with gfn: no tables inside.
bool may_map_large(const ShadowMmu &mmu, u64 gfn);
// Whether the frame holds a guest's table that is write-protected.
bool is_protected(const ShadowMmu &mmu, u64 gfn);
// A write to the frame: its shadow pages become unsync.
void mark_unsync(ShadowMmu &mmu, u64 gfn);

// Whether b, read now, makes the same entry as a, from which it was made. leaf: it maps a page.
bool same_guest_entry(const ShadowRole &role, u64 a, u64 b, bool leaf);

// The guest has flushed: compares what is unsync below these roots with the guest's tables. cursor:
// where to go on, 0 at first. Does a bounded part of the work; true: more is to be done, after the
// lock was released for a moment. Flushes by itself.
[[nodiscard]] bool sync_below(ShadowMmu &mmu, ShadowPage &root, u64 &cursor,
                              ShadowChanges &changes);
// The guest has flushed one address: the entries that translate it are compared. root: what the
// entry of the vCPU's page-directory-pointer table leads to, with PAE.
void sync_linear(ShadowMmu &mmu, ShadowPage &root, u64 linear);

// A vCPU's root: stays in memory until it is released, even if it is zapped.
void hold_root(ShadowPage &page);
void release_root(ShadowMmu &mmu, ShadowPage &page, ShadowChanges &changes);
// Takes the page out of all tables and lists.
void zap_page(ShadowMmu &mmu, ShadowPage &page, ShadowChanges &changes);

// ---- Between the files of shadow paging --------------------------------------------------------

ShadowPage *first_page(const ShadowMmu &mmu, const FrameInfo &info); // of the frame, or null
inline bool is_obsolete(const ShadowMmu &mmu, const ShadowPage &page)
{
    return page.generation != mmu.generation;
}
inline SpteRef next_ref(const ShadowMmu &mmu, SpteRef ref)
{
    return page_of(mmu, ref).links[ref % kShadowEntries].next;
}

// The page itself, or a page below it, is to be compared at the next flush. Then all entries that
// lead to it are marked in unsync_below of their pages.
inline bool is_unsync(const ShadowPage &page)
{
    return page.unsync || page.marked != 0;
}
void set_unsync_below(ShadowPage &page, unsigned index, bool unsync);
inline bool is_marked_below(const ShadowPage &page, unsigned index)
{
    return (page.unsync_below[index / 64] >> index % 64 & 1) != 0;
}
// The first marked entry from `index` on, or kShadowEntries.
unsigned next_marked(const ShadowPage &page, unsigned index);
// Marks them, for a page that becomes unsync. False: that would take more than `steps`; some are
// not marked.
[[nodiscard]] bool mark_parents(const ShadowMmu &mmu, const ShadowPage &page, u32 &steps);

// The guest may no longer write the frame without a fault; whether CPUs have to forget that it
// could. Entries of 2 MiB around it go.
[[nodiscard]] bool protect_gfn(ShadowMmu &mmu, u64 gfn);
// All leaves in the list: clears them; clears these bits in them; whether one has the bits.
bool clear_leaves(ShadowMmu &mmu, FrameInfo &info);
bool take_bits(const ShadowMmu &mmu, const FrameInfo &info, u64 bits);
bool have_bits(const ShadowMmu &mmu, const FrameInfo &info, u64 bits);

// Zaps the oldest pages until no more than `keep` are there, `most` of them at most; how many.
u32 zap_oldest(ShadowMmu &mmu, u64 keep, u32 most, ShadowChanges &changes);

} // namespace minivmx
