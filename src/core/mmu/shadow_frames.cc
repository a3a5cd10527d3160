// SPDX-License-Identifier: GPL-2.0-only
// What the owner of the memory asks of the shadow tables, frame by frame.
#include "shadow_page.hpp"

#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

// Calls visit(info) for what is known of frames [first, end) and of the runs they lie in.
template <class Visit>
void for_each_info(const ShadowMmu &mmu, u64 first, u64 end, Visit visit)
{
    auto call = [&](u64, FrameInfo &info) {
        if (info.leaf != 0)
            visit(info);
    };
    mmu.frames.for_each(first, end, call);
    mmu.runs.for_each(first >> 9, ((end - 1) >> 9) + 1, call);
}

} // namespace

bool shadow_unmap_gfns(kvm_vm &kvm, u64 first, u64 end)
{
    ShadowMmu &mmu = *kvm.shadow;
    if (mmu.dead)
        return true;
    for_each_info(mmu, first, end, [&](FrameInfo &info) { clear_leaves(mmu, info); });
    const bool flush = mmu.unflushed;
    mmu.unflushed = false;
    return flush;
}

bool shadow_watch_writes(kvm_vm &kvm, u64 first, u64 end)
{
    ShadowMmu &mmu = *kvm.shadow;
    bool changed = false;
    for_each_info(mmu, first, end,
                  [&](FrameInfo &info) { changed |= take_bits(mmu, info, kSpteWrite); });
    mmu.unflushed |= changed;
    return mmu.unflushed;
}

bool shadow_age_gfns(kvm_vm &kvm, u64 first, u64 end, bool forget)
{
    const ShadowMmu &mmu = *kvm.shadow;
    bool accessed = false;
    for_each_info(mmu, first, end, [&](FrameInfo &info) {
        accessed |=
            forget ? take_bits(mmu, info, kSpteAccessed) : have_bits(mmu, info, kSpteAccessed);
    });
    return accessed;
}

void shadow_note_write(kvm_vm &kvm, u64 gfn)
{
    if (!kvm.shadow)
        return;
    host_mmu_lock(kvm.host);
    mark_unsync(*kvm.shadow, gfn);
    host_mmu_unlock(kvm.host);
}

void shadow_forget_gfns(kvm_vm &kvm, u64 first, u64 end)
{
    if (!kvm.shadow)
        return;
    constexpr u64 kTurn = u64{1} << 22; // frames: 16 GiB
    void *nodes = nullptr;
    auto collect = [&nodes](void *node) {
        *static_cast<void **>(node) = nodes;
        nodes = node;
    };
    for (u64 gfn = first; gfn < end; gfn += kTurn) {
        const u64 stop = end - gfn < kTurn ? end : gfn + kTurn;
        host_mmu_lock(kvm.host);
        kvm.shadow->frames.prune(gfn, stop, collect);
        kvm.shadow->runs.prune(gfn >> 9, ((stop - 1) >> 9) + 1, collect);
        host_mmu_unlock(kvm.host);
    }
    while (void *node = nodes) {
        nodes = *static_cast<void **>(node);
        host_page_free(node);
    }
}

} // namespace minivmx
