// SPDX-License-Identifier: GPL-2.0-only
// Shadow pages as objects: how they come, how they are found, how they go.
#include "shadow_page.hpp"

#include <linux/errno.h>

#include <minivmx/vm.hpp>

namespace minivmx {

// ---- Memory ------------------------------------------------------------------------------------

namespace {

void free_page_memory(ShadowPage *page)
{
    host_page_free(page->entries);
    host_page_free(page->guest);
    host_page_free(page->links);
    host_free(page);
}

ShadowPage *make_blank()
{
    auto *page = static_cast<ShadowPage *>(host_zalloc(sizeof(ShadowPage)));
    if (!page)
        return nullptr;
    page->entries = static_cast<u64 *>(host_page_alloc());
    page->guest = static_cast<u64 *>(host_page_alloc());
    page->links = static_cast<SpteLink *>(host_page_alloc());
    if (!page->entries || !page->guest || !page->links) {
        free_page_memory(page);
        return nullptr;
    }
    host_page_set_owner(page->entries, page);
    return page;
}

} // namespace

bool shadow_fill(ShadowStock &stock)
{
    for (; stock.blank_count < ShadowStock::kBlanks; stock.blank_count++) {
        ShadowPage *page = make_blank();
        if (!page)
            return false;
        stock.blanks[stock.blank_count] = page;
    }
    for (; stock.node_count < ShadowStock::kNodes; stock.node_count++) {
        void *node = host_page_alloc();
        if (!node)
            return false;
        stock.nodes[stock.node_count] = node;
    }
    return true;
}

void shadow_release(ShadowStock &stock)
{
    while (stock.blank_count > 0)
        free_page_memory(stock.blanks[--stock.blank_count]);
    while (stock.node_count > 0)
        host_page_free(stock.nodes[--stock.node_count]);
}

void shadow_finish(ShadowMmu &mmu, ShadowChanges &changes)
{
    if (!changes.flush)
        return;
    host_request_all(mmu.kvm->host, VCPU_REQUEST_TLB_FLUSH);
    mmu.unflushed = false;
    changes.flush = false;
}

void shadow_free(ShadowChanges &changes)
{
    while (ShadowPage *page = changes.freed) {
        changes.freed = page->older;
        free_page_memory(page);
    }
}

// ---- Numbers -----------------------------------------------------------------------------------
//
// A place in the directory has a page, or, with bit 0 set, the next free number.

namespace {

NodeStock nodes_of(ShadowStock &stock)
{
    return {stock.nodes, &stock.node_count};
}

ShadowPage *&place_of(const ShadowMmu &mmu, u32 number)
{
    return mmu.directory[number / 512][number % 512];
}

// 0: the stock is exhausted, or there are too many pages.
u32 take_number(ShadowMmu &mmu, ShadowStock &stock)
{
    if (const u32 number = mmu.free_number) {
        mmu.free_number = static_cast<u32>(reinterpret_cast<u64>(place_of(mmu, number)) >> 1);
        return number;
    }
    const u32 number = mmu.numbers + 1;
    if (number > kMaxShadowPages)
        return 0;
    ShadowPage **&part = mmu.directory[number / 512];
    if (!part)
        part = static_cast<ShadowPage **>(nodes_of(stock).take());
    if (!part)
        return 0;
    return ++mmu.numbers;
}

void give_number_back(ShadowMmu &mmu, u32 number)
{
    place_of(mmu, number) = reinterpret_cast<ShadowPage *>(u64{mmu.free_number} << 1 | 1);
    mmu.free_number = number;
}

} // namespace

ShadowPage *page_by_number(const ShadowMmu &mmu, u32 number)
{
    return place_of(mmu, number);
}

// ---- Lists -------------------------------------------------------------------------------------

ShadowPage *first_page(const ShadowMmu &mmu, const FrameInfo &info)
{
    return info.page == 0 ? nullptr : page_by_number(mmu, info.page);
}

namespace {

void add_newest(ShadowMmu &mmu, ShadowPage &page)
{
    page.newer = nullptr;
    page.older = mmu.newest;
    (mmu.newest ? mmu.newest->newer : mmu.oldest) = &page;
    mmu.newest = &page;
}

void remove_from_ages(ShadowMmu &mmu, ShadowPage &page)
{
    (page.newer ? page.newer->older : mmu.newest) = page.older;
    (page.older ? page.older->newer : mmu.oldest) = page.newer;
}

void make_newest(ShadowMmu &mmu, ShadowPage &page)
{
    if (mmu.newest == &page)
        return;
    remove_from_ages(mmu, page);
    add_newest(mmu, page);
}

void add_to_frame(const ShadowMmu &mmu, FrameInfo &info, ShadowPage &page)
{
    page.frame_prev = nullptr;
    page.frame_next = first_page(mmu, info);
    if (page.frame_next)
        page.frame_next->frame_prev = &page;
    info.page = page.number;
}

void remove_from_frame(FrameInfo &info, ShadowPage &page)
{
    if (page.frame_next)
        page.frame_next->frame_prev = page.frame_prev;
    if (page.frame_prev)
        page.frame_prev->frame_next = page.frame_next;
    else
        info.page = page.frame_next ? page.frame_next->number : 0;
}

} // namespace

void touch(ShadowMmu &mmu, ShadowPage &page)
{
    make_newest(mmu, page);
    if (page.frame_prev) {
        FrameInfo &info = *mmu.frames.find(page.gfn);
        remove_from_frame(info, page);
        add_to_frame(mmu, info, page);
    }
}

namespace {

ShadowPage *find_in(const ShadowMmu &mmu, const FrameInfo &info, const ShadowRole &role)
{
    for (ShadowPage *page = first_page(mmu, info); page; page = page->frame_next) {
        if (page->role == role && !is_obsolete(mmu, *page))
            return page;
    }
    return nullptr;
}

// What the tables in a frame mean for writes to it.
struct Shadowed {
    u32 pages;
    bool by_sync, by_unsync;
    ShadowPage *last; // nothing was walked through longer ago
};

Shadowed shadowed(const ShadowMmu &mmu, const FrameInfo &info)
{
    Shadowed s{};
    for (ShadowPage *page = first_page(mmu, info); page; page = page->frame_next) {
        s.pages++;
        s.last = page;
        if (!page->role.direct() && !is_obsolete(mmu, *page))
            (page->unsync ? s.by_unsync : s.by_sync) = true;
    }
    return s;
}

} // namespace

bool is_protected(const ShadowMmu &mmu, u64 gfn)
{
    const FrameInfo *info = mmu.frames.find(gfn);
    return info && info->shadowing != 0 && shadowed(mmu, *info).by_sync;
}

bool may_map_large(const ShadowMmu &mmu, u64 gfn)
{
    const FrameInfo *run = mmu.runs.find(gfn >> 9);
    return !run || run->shadowing == 0;
}

// ---- Pages come --------------------------------------------------------------------------------

ShadowPage *find_page(const ShadowMmu &mmu, u64 gfn, const ShadowRole &role)
{
    const FrameInfo *info = mmu.frames.find(gfn);
    return info ? find_in(mmu, *info, role) : nullptr;
}

namespace {

// A guest's table begins to be shadowed. False: the stock is exhausted.
bool count_table(ShadowMmu &mmu, ShadowStock &stock, u64 gfn, FrameInfo &info)
{
    FrameInfo *run = mmu.runs.make(gfn >> 9, nodes_of(stock));
    if (!run)
        return false;
    if (info.shadowing++ == 0)
        run->shadowing++;
    return true;
}

void discount_table(ShadowMmu &mmu, u64 gfn, FrameInfo &info)
{
    if (--info.shadowing == 0)
        mmu.runs.find(gfn >> 9)->shadowing--;
}

ShadowPage *make_page(ShadowMmu &mmu, ShadowStock &stock, u64 gfn, const ShadowRole &role,
                      FrameInfo &info)
{
    if (stock.blank_count == 0)
        return nullptr;
    const u32 number = take_number(mmu, stock);
    if (number == 0)
        return nullptr;
    if (!role.direct() && !count_table(mmu, stock, gfn, info)) {
        give_number_back(mmu, number);
        return nullptr;
    }
    ShadowPage *page = stock.blanks[--stock.blank_count];
    if (role.direct() && stock.node_count < ShadowStock::kNodes) {
        stock.nodes[stock.node_count++] = page->guest; // it was made from no table
        page->guest = nullptr;
    }
    page->gfn = gfn;
    page->role = role;
    page->number = number;
    page->generation = mmu.generation;
    place_of(mmu, number) = page;
    return page;
}

} // namespace

ShadowPage *find_or_make(ShadowMmu &mmu, ShadowStock &stock, u64 gfn, const ShadowRole &role,
                         ShadowChanges &changes)
{
    if (mmu.dead)
        return nullptr;
    FrameInfo *info = mmu.frames.make(gfn, nodes_of(stock));
    if (!info)
        return nullptr;
    if (ShadowPage *page = find_in(mmu, *info, role)) {
        touch(mmu, *page);
        return page;
    }
    const Shadowed before = shadowed(mmu, *info);
    if (before.pages >= kMaxFramePages)
        zap_page(mmu, *before.last, changes);
    ShadowPage *page = make_page(mmu, stock, gfn, role, *info);
    if (!page)
        return nullptr;
    if (!role.direct()) {
        page->unsync = before.by_unsync && !before.by_sync;
        if (!before.by_unsync && !before.by_sync)
            changes.flush |= protect_gfn(mmu, gfn);
    }
    add_to_frame(mmu, *info, *page);
    add_newest(mmu, *page);
    __atomic_store_n(&mmu.count, mmu.count + 1, __ATOMIC_RELAXED);
    return page;
}

// ---- Pages go ----------------------------------------------------------------------------------

void zap_page(ShadowMmu &mmu, ShadowPage &page, ShadowChanges &changes)
{
    for (unsigned i = 0; page.used > 0 && i < kShadowEntries; i++)
        clear_entry(mmu, page, i);
    while (page.parents != 0) {
        const SpteRef parent = page.parents;
        clear_entry(mmu, page_of(mmu, parent), parent % kShadowEntries);
    }
    FrameInfo &info = *mmu.frames.find(page.gfn);
    remove_from_frame(info, page);
    if (!page.role.direct())
        discount_table(mmu, page.gfn, info);
    remove_from_ages(mmu, page);
    give_number_back(mmu, page.number);
    page.number = 0;
    page.zapped = true;
    __atomic_store_n(&mmu.count, mmu.count - 1, __ATOMIC_RELAXED);
    changes.flush = true; // CPUs may be walking it
    if (page.uses == 0) {
        page.older = changes.freed;
        changes.freed = &page;
    }
}

void hold_root(ShadowPage &page)
{
    page.uses++;
}

void release_root(ShadowMmu &, ShadowPage &page, ShadowChanges &changes)
{
    if (--page.uses > 0 || !page.zapped)
        return;
    changes.flush = true;
    page.older = changes.freed;
    changes.freed = &page;
}

// ---- The VM's part -----------------------------------------------------------------------------

int shadow_create(kvm_vm &kvm)
{
    if (kvm.ept.features.enabled)
        return 0;
    auto *mmu = static_cast<ShadowMmu *>(host_zalloc(sizeof(ShadowMmu)));
    if (!mmu)
        return -ENOMEM;
    mmu->table = host_page_alloc();
    if (!mmu->table) {
        host_free(mmu);
        return -ENOMEM;
    }
    mmu->kvm = &kvm;
    mmu->generation = 1;
    kvm.shadow = mmu;
    return 0;
}

void shadow_destroy(kvm_vm &kvm)
{
    ShadowMmu *mmu = kvm.shadow;
    if (!mmu)
        return;
    while (ShadowPage *page = mmu->oldest) {
        mmu->oldest = page->newer;
        free_page_memory(page);
    }
    mmu->frames.destroy([](void *node) { host_page_free(node); });
    mmu->runs.destroy([](void *node) { host_page_free(node); });
    for (ShadowPage **part : mmu->directory)
        host_page_free(part);
    host_page_free(mmu->table);
    host_free(mmu);
    kvm.shadow = nullptr;
}

} // namespace minivmx
