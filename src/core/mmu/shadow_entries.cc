// SPDX-License-Identifier: GPL-2.0-only
// Shadow entries: what they lead to, and the lists by which they are found again.
#include "shadow_page.hpp"

#include "guest_walk.hpp"

namespace minivmx {

// ---- Lists through links -----------------------------------------------------------------------

namespace {

SpteLink &link_of(const ShadowMmu &mmu, SpteRef ref)
{
    return page_of(mmu, ref).links[ref % kShadowEntries];
}

void add_ref(const ShadowMmu &mmu, SpteRef &head, SpteRef ref)
{
    link_of(mmu, ref) = {head, 0};
    if (head != 0)
        link_of(mmu, head).prev = ref;
    head = ref;
}

void remove_ref(const ShadowMmu &mmu, SpteRef &head, SpteRef ref)
{
    const SpteLink link = link_of(mmu, ref);
    if (link.next != 0)
        link_of(mmu, link.next).prev = link.prev;
    (link.prev != 0 ? link_of(mmu, link.prev).next : head) = link.next;
    link_of(mmu, ref) = {0, 0};
}

void spte_store(u64 *entry, u64 value) // NOLINT(readability-non-const-parameter)
{
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

bool is_large(u64 entry)
{
    return (entry & kSpteLarge) != 0;
}

// Entries of the list go, the youngest first.
void clear_refs(ShadowMmu &mmu, const SpteRef &head, u32 count)
{
    for (; head != 0 && count > 0; count--) {
        const SpteRef ref = head;
        clear_entry(mmu, page_of(mmu, ref), ref % kShadowEntries);
    }
}

} // namespace

// ---- Children ----------------------------------------------------------------------------------

ShadowPage &child_of(const ShadowPage &page, unsigned index)
{
    const u64 entry = spte_load(&page.entries[index]);
    return *static_cast<ShadowPage *>(host_phys_owner(entry & kSpteAddressMask));
}

bool link_child(ShadowMmu &mmu, ShadowPage &page, unsigned index, ShadowPage &child, u64 guest)
{
    if (is_unsync(child)) {
        u32 steps = kMaxUnsyncSteps;
        if (!is_unsync(page) && !mark_parents(mmu, page, steps))
            return false;
        set_unsync_below(page, index, true);
    }
    if (child.parent_count >= kMaxParents)
        clear_refs(mmu, child.parents, kMaxParents / 2);
    add_ref(mmu, child.parents, ref_of(page, index));
    child.parent_count++;
    if (page.guest)
        page.guest[index] = guest;
    page.used++;
    spte_store(&page.entries[index], host_page_phys(child.entries) | kSpteTable);
    return true;
}

// ---- Leaves ------------------------------------------------------------------------------------

u64 guest_leaf_gfn(const ShadowRole &role, u64 guest, unsigned index)
{
    if (role.table == GuestTable::k32) {
        if (role.level == 1)
            return (guest & 0xfffff000) >> 12;
        // A 4 MiB page has bits 39:32 of its address in bits 20:13 (SDM Vol. 3A, table 4-4), and
        // takes two entries.
        return (guest & 0xffc00000) >> 12 | bit_field(guest, 20, 13) << 20 | u64{index % 2} << 9;
    }
    return (guest & kSpteAddressMask) >> 12 & ~(shadow_span(role.level) - 1);
}

u64 leaf_gfn(const ShadowPage &page, unsigned index)
{
    // A direct page may have kept the memory that others have for this; it means nothing there.
    if (page.role.direct() || !page.guest)
        return page.gfn + index * shadow_span(page.role.level);
    return guest_leaf_gfn(page.role, page.guest[index], index);
}

namespace {

FrameInfo &info_of_leaf(const ShadowMmu &mmu, const ShadowPage &page, unsigned index)
{
    const u64 gfn = leaf_gfn(page, index);
    return page.role.level > 1 ? *mmu.runs.find(gfn >> 9) : *mmu.frames.find(gfn);
}

} // namespace

bool set_leaf(ShadowMmu &mmu, ShadowStock &stock, ShadowPage &page, unsigned index, u64 spte,
              u64 guest)
{
    clear_entry(mmu, page, index);
    if (page.guest)
        page.guest[index] = guest;
    const u64 gfn = leaf_gfn(page, index);
    const NodeStock nodes{stock.nodes, &stock.node_count};
    const bool large = is_large(spte);
    FrameInfo *info = large ? mmu.runs.make(gfn >> 9, nodes) : mmu.frames.make(gfn, nodes);
    if (!info || mmu.dead || (large && info->shadowing != 0)) {
        if (page.guest)
            page.guest[index] = 0;
        return false;
    }
    if (info->leaves >= kMaxFrameLeaves)
        clear_refs(mmu, info->leaf, kMaxFrameLeaves / 2);
    if (!large && (spte & kSpteWrite) != 0 && is_protected(mmu, gfn))
        spte &= ~kSpteWrite;
    add_ref(mmu, info->leaf, ref_of(page, index));
    info->leaves++;
    page.used++;
    spte_store(&page.entries[index], spte);
    return true;
}

void change_leaf(ShadowMmu &mmu, ShadowPage &page, unsigned index, u64 spte)
{
    const u64 old = __atomic_exchange_n(&page.entries[index], spte, __ATOMIC_SEQ_CST);
    const u64 lost = (old & ~spte & (kSpteWrite | kSpteUser)) | (~old & spte & kSpteNoExecute);
    mmu.unflushed |= lost != 0;
}

void clear_entry(ShadowMmu &mmu, ShadowPage &page, unsigned index)
{
    const u64 old = spte_load(&page.entries[index]);
    if (old == 0)
        return;
    const SpteRef ref = ref_of(page, index);
    if (has_child(page, index)) {
        ShadowPage &child = child_of(page, index);
        remove_ref(mmu, child.parents, ref);
        child.parent_count--;
        set_unsync_below(page, index, false);
    } else {
        FrameInfo &info = info_of_leaf(mmu, page, index);
        remove_ref(mmu, info.leaf, ref);
        info.leaves--;
    }
    spte_store(&page.entries[index], 0);
    if (page.guest)
        page.guest[index] = 0;
    page.used--;
    mmu.unflushed = true;
    mmu.upper_changes += page.role.level > 1;
}

// ---- Frames that hold tables -------------------------------------------------------------------

bool clear_leaves(ShadowMmu &mmu, FrameInfo &info)
{
    const bool any = info.leaf != 0;
    clear_refs(mmu, info.leaf, ~u32{0});
    return any;
}

bool take_bits(const ShadowMmu &mmu, const FrameInfo &info, u64 bits)
{
    u64 found = 0;
    for (SpteRef ref = info.leaf; ref != 0; ref = next_ref(mmu, ref)) {
        u64 *entry = &page_of(mmu, ref).entries[ref % kShadowEntries];
        const u64 had = spte_load(entry) & bits;
        if (had != 0) // the CPU sets accessed and dirty flags meanwhile
            __atomic_fetch_and(entry, ~bits, __ATOMIC_SEQ_CST);
        found |= had;
    }
    return found != 0;
}

bool have_bits(const ShadowMmu &mmu, const FrameInfo &info, u64 bits)
{
    for (SpteRef ref = info.leaf; ref != 0; ref = next_ref(mmu, ref)) {
        if ((spte_load(&page_of(mmu, ref).entries[ref % kShadowEntries]) & bits) != 0)
            return true;
    }
    return false;
}

bool protect_gfn(ShadowMmu &mmu, u64 gfn)
{
    bool changed = mmu.unflushed;
    if (FrameInfo *run = mmu.runs.find(gfn >> 9))
        changed |= clear_leaves(mmu, *run);
    if (FrameInfo *info = mmu.frames.find(gfn))
        changed |= take_bits(mmu, *info, kSpteWrite);
    return changed;
}

} // namespace minivmx
