// SPDX-License-Identifier: GPL-2.0-only
// Shadow pages whose frames the guest may write: how they become so, and how they are compared with
// the guest's tables again.
#include "shadow_page.hpp"

#include <minivmx/memslot.hpp>
#include <minivmx/vm.hpp>

#include "guest_walk.hpp"

namespace minivmx {

// ---- What is unsync, and where -----------------------------------------------------------------

void set_unsync_below(ShadowPage &page, unsigned index, bool unsync)
{
    if (is_marked_below(page, index) == unsync)
        return;
    page.unsync_below[index / 64] ^= bit64(index % 64);
    page.marked += unsync ? 1 : -1;
}

unsigned next_marked(const ShadowPage &page, unsigned index)
{
    while (index < kShadowEntries) {
        const u64 word = page.unsync_below[index / 64] >> index % 64;
        if (word != 0)
            return index + lowest_bit(word);
        index = (index | 63) + 1;
    }
    return kShadowEntries;
}

bool mark_parents(const ShadowMmu &mmu, const ShadowPage &page, u32 &steps)
{
    for (SpteRef ref = page.parents; ref != 0; ref = next_ref(mmu, ref)) {
        if (steps == 0)
            return false;
        steps--;
        ShadowPage &parent = page_of(mmu, ref);
        // Where something is unsync already, all above is marked: else it isn't marked itself.
        if (!is_unsync(parent) && !mark_parents(mmu, parent, steps))
            return false;
        set_unsync_below(parent, ref % kShadowEntries, true);
    }
    return true;
}

namespace {

// The page is to become unsync. Entries that can't be marked in bounded time are cleared: then
// nobody reaches the page through them before a fault, which reads the guest's tables, has made
// them anew.
void make_unsync(ShadowMmu &mmu, ShadowPage &page)
{
    if (page.unsync)
        return;
    u32 steps = kMaxUnsyncSteps;
    const bool marked = is_unsync(page) || mark_parents(mmu, page, steps);
    page.unsync = true;
    for (SpteRef ref = page.parents; !marked && ref != 0;) {
        const SpteRef next = next_ref(mmu, ref);
        ShadowPage &parent = page_of(mmu, ref);
        if (!is_marked_below(parent, ref % kShadowEntries))
            clear_entry(mmu, parent, ref % kShadowEntries);
        ref = next;
    }
}

} // namespace

void mark_unsync(ShadowMmu &mmu, u64 gfn)
{
    const FrameInfo *info = mmu.frames.find(gfn);
    if (!info || info->shadowing == 0)
        return;
    for (ShadowPage *page = first_page(mmu, *info); page; page = page->frame_next) {
        if (!page->role.direct() && !is_obsolete(mmu, *page))
            make_unsync(mmu, *page);
    }
}

// ---- Comparing ---------------------------------------------------------------------------------

namespace {

// Bits of a guest's entry that decide what is made of it. SDM Vol. 3A, tables 4-5, 4-6, 4-9 to
// 4-11, 4-16 to 4-20: the rest is ignored, caching, or "global", which we don't pass on. In PAE
// entries bits 62:52 are reserved.
u64 meaningful_bits(const ShadowRole &role, bool leaf)
{
    u64 bits = kPtePresent | kPteWritable | kPteUser | kPteAccessed | kPtePageSize | kPteNoExecute |
               kSpteAddressMask;
    if (leaf)
        bits |= kPteDirty;
    if (role.table == GuestTable::kPae)
        bits |= 0x7ff0000000000000;
    return bits;
}

// The slot of the frame, or null.
const MemSlot *slot_of(ShadowMmu &mmu, u64 gfn)
{
    const MemSlotArray *slots = mmu.kvm->slots.current;
    return slots ? slots->find(gfn, mmu.slot_hint) : nullptr;
}

// A leaf that may be written: whether it can be now, without a fault that would be told of it.
bool needs_no_write_fault(ShadowMmu &mmu, u64 gfn)
{
    const MemSlot *slot = slot_of(mmu, gfn);
    return slot && !slot->logged() && !is_protected(mmu, gfn);
}

// A leaf for a small page whose guest entry changed in nothing but what it allows needn't go: true
// if it was adapted. Without CR0.WP its rights also depend on the access that made it; large ones
// are not executable where the host can't bear it (nx_huge_pages).
bool adapt_leaf(ShadowMmu &mmu, ShadowPage &page, unsigned index, u64 now)
{
    constexpr u64 kRights = kPteWritable | kPteUser | kPteDirty;
    const u64 was = page.guest[index];
    const u64 adaptable = kRights | (page.role.nxe ? kPteNoExecute : 0);
    if (!page.role.write_protect || page.role.level > 1 ||
        ((was ^ now) & meaningful_bits(page.role, true) & ~adaptable) != 0)
        return false;

    const bool writable = (now & kPteWritable) != 0 && (now & kPteDirty) != 0 &&
                          (page.role.rights & kRightWrite) != 0;
    const bool user = (now & kPteUser) != 0 && (page.role.rights & kRightUser) != 0;
    const bool execute = (now & kPteNoExecute) == 0 && (page.role.rights & kRightExecute) != 0;
    u64 spte = spte_load(&page.entries[index]);
    spte = writable ? spte | kSpteGuestWritable : spte & ~(kSpteGuestWritable | kSpteWrite);
    spte = user ? spte | kSpteUser : spte & ~kSpteUser;
    spte = execute ? spte & ~kSpteNoExecute : spte | kSpteNoExecute;
    page.guest[index] = now;
    if ((spte & kSpteMayWrite) == kSpteMayWrite && needs_no_write_fault(mmu, leaf_gfn(page, index)))
        spte |= kSpteWrite | kSpteDirty;
    change_leaf(mmu, page, index, spte);
    return true;
}

// Entry `index` was made from what the guest's table had then; this is what it has now.
void compare_entry(ShadowMmu &mmu, ShadowPage &page, unsigned index, u64 now)
{
    const u64 was = page.guest[index];
    if (was == now)
        return;
    const bool child = has_child(page, index);
    // A large page of the guest's may be made of small ones.
    const bool leaf = !child || child_of(page, index).role.direct();
    if (same_guest_entry(page.role, was, now, leaf))
        return;
    if (child || !adapt_leaf(mmu, page, index, now))
        clear_entry(mmu, page, index);
}

// Where the owner has the guest's frame; 0: nowhere.
u64 hva_of(ShadowMmu &mmu, u64 gfn)
{
    const MemSlot *slot = slot_of(mmu, gfn);
    return slot ? slot->hva_of_gfn(gfn) : 0;
}

// The guest's entry of that number, as the table in memory has it.
u64 entry_in(const void *table, u32 size, u32 index)
{
    return size == 4 ? static_cast<const u32 *>(table)[index]
                     : static_cast<const u64 *>(table)[index];
}

void clear_page(ShadowMmu &mmu, ShadowPage &page)
{
    for (unsigned i = 0; page.used > 0 && i < kShadowEntries; i++)
        clear_entry(mmu, page, i);
}

// The frame is protected, and every CPU knows. Of the guest's table only the parts are read that
// something was made of; what can't be read at once is forgotten: the faults that follow can wait
// for it.
void compare_page(ShadowMmu &mmu, ShadowPage &page)
{
    constexpr unsigned kPart = 64;
    const u32 size = page.role.guest_entry_size();
    const u64 hva = page.used == 0 ? 0 : hva_of(mmu, page.gfn);
    u32 left = page.used;
    for (unsigned i = 0, read_to = 0, first = 0; left > 0 && i < kShadowEntries; i++) {
        if (page.guest[i] == 0)
            continue;
        left--;
        if (i >= read_to) {
            read_to = (i | (kPart - 1)) + 1;
            first = page.role.guest_index(read_to - kPart);
            const u32 count = page.role.guest_index(read_to - 1) - first + 1;
            if (hva == 0 || host_read_user_atomic(mmu.table, hva + u64{first} * size,
                                                  usize{count} * size) != 0) {
                clear_page(mmu, page);
                return;
            }
        }
        compare_entry(mmu, page, i, entry_in(mmu.table, size, page.role.guest_index(i) - first));
    }
}

} // namespace

bool same_guest_entry(const ShadowRole &role, u64 a, u64 b, bool leaf)
{
    return ((a ^ b) & meaningful_bits(role, leaf)) == 0;
}

// ---- After a flush of everything ---------------------------------------------------------------

namespace {

// A part of the way through what is unsync below a root. Pages that are found are protected and
// count as in sync from then on: they are compared, after one flush for all, before the lock is
// released.
struct Collection {
    static constexpr u32 kPages = 16, kSteps = 4096;
    ShadowMmu &mmu;
    ShadowChanges &changes;
    u64 cursor; // entries of level 1 before this one, counted from the root's first, are done
    ShadowPage *pages[kPages];
    u32 count;
    u32 steps;

    bool full() const { return count == kPages || steps >= kSteps; }

    void add(ShadowPage &page)
    {
        changes.flush |= protect_gfn(mmu, page.gfn);
        page.unsync = false;
        pages[count++] = &page;
    }

    // The page covers entries of level 1 from `base` on. False: it is not done yet; the cursor says
    // where to go on.
    bool visit(ShadowPage &page, u64 base)
    {
        if (full()) {
            cursor = base > cursor ? base : cursor;
            return false;
        }
        steps++;
        if (page.unsync)
            add(page);
        const u64 span = shadow_span(page.role.level);
        const u64 skip = cursor > base ? (cursor - base) / span : 0;
        for (unsigned i = next_marked(page, static_cast<unsigned>(skip)); i < kShadowEntries;
             i = next_marked(page, i + 1)) {
            ShadowPage &child = child_of(page, i);
            if (!visit(child, base + i * span))
                return false;
            if (!is_unsync(child))
                set_unsync_below(page, i, false);
        }
        return true;
    }

    void compare()
    {
        shadow_finish(mmu, changes);
        for (u32 i = 0; i < count; i++)
            compare_page(mmu, *pages[i]);
    }
};

} // namespace

bool sync_below(ShadowMmu &mmu, ShadowPage &root, u64 &cursor, ShadowChanges &changes)
{
    if (!is_unsync(root))
        return false;
    Collection collection{mmu, changes, cursor, {}, 0, 0};
    // cppcheck-suppress danglingTemporaryLifetime ; {} is an array here, not a temporary
    const bool done = collection.visit(root, 0);
    collection.compare();
    cursor = collection.cursor;
    return !done;
}

// ---- After a flush of one address --------------------------------------------------------------

namespace {

void compare_one(ShadowMmu &mmu, ShadowPage &page, unsigned index)
{
    if (page.guest[index] == 0)
        return;
    const u32 size = page.role.guest_entry_size();
    const u64 hva = hva_of(mmu, page.gfn);
    u64 now = 0;
    if (hva != 0 &&
        host_read_user_atomic(&now, hva + u64{page.role.guest_index(index)} * size, size) == 0)
        compare_entry(mmu, page, index, now);
    else
        clear_entry(mmu, page, index);
}

} // namespace

void sync_linear(ShadowMmu &mmu, ShadowPage &root, u64 linear)
{
    for (ShadowPage *page = &root;;) {
        const unsigned index = shadow_index(linear, page->role.level);
        if (page->unsync) {
            compare_one(mmu, *page, index);
            // A guest's 4 MiB page has two entries, and goes as a whole.
            if (page->role.table == GuestTable::k32 && page->role.level == 2)
                compare_one(mmu, *page, index ^ 1);
        }
        // Below there is nothing to compare.
        if (!is_marked_below(*page, index))
            return;
        page = &child_of(*page, index);
    }
}

} // namespace minivmx
