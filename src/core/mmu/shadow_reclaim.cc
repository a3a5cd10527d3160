// SPDX-License-Identifier: GPL-2.0-only
// Which shadow pages go when there are too many, or none may be used any more.
#include "shadow_page.hpp"

#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

// Pages for which the lock is held at a time. Each takes kShadowEntries + kMaxParents steps at
// most.
constexpr u32 kTurn = 16;

u64 limit_of(const ShadowMmu &mmu)
{
    const u64 limit = __atomic_load_n(&mmu.kvm->mmu_pages.limit, __ATOMIC_RELAXED);
    const u64 least = limit > kMinMmuPages ? limit : kMinMmuPages;
    return least < kMaxShadowPages ? least : kMaxShadowPages;
}

} // namespace

u32 zap_oldest(ShadowMmu &mmu, u64 keep, u32 most, ShadowChanges &changes)
{
    // The root of a vCPU that has not faulted for long may be among them: it faults now.
    u32 zapped = 0;
    for (; zapped < most && mmu.count > keep; zapped++)
        zap_page(mmu, *mmu.oldest, changes);
    return zapped;
}

void make_room(ShadowMmu &mmu, ShadowChanges &changes)
{
    const u64 limit = limit_of(mmu);
    if (mmu.count + ShadowStock::kBlanks > limit)
        (void)zap_oldest(mmu, limit - kTurn, kTurn, changes);
}

namespace {

// Zaps in turns until step(changes) has nothing more to do.
template <class Step>
void in_turns(kvm_vm &kvm, Step step)
{
    for (bool more = true; more;) {
        ShadowChanges changes;
        host_mmu_lock(kvm.host);
        more = step(changes);
        shadow_finish(*kvm.shadow, changes);
        host_mmu_unlock(kvm.host);
        shadow_free(changes);
    }
}

} // namespace

void shadow_enforce_limit(kvm_vm &kvm)
{
    if (!kvm.shadow)
        return;
    ShadowMmu &mmu = *kvm.shadow;
    in_turns(kvm, [&](ShadowChanges &changes) {
        return zap_oldest(mmu, limit_of(mmu), kTurn, changes) == kTurn;
    });
}

u64 shadow_page_count(const kvm_vm &kvm)
{
    return kvm.shadow ? __atomic_load_n(&kvm.shadow->count, __ATOMIC_RELAXED) : 0;
}

u64 shadow_shrink(kvm_vm &kvm, u64 count)
{
    u64 freed = 0;
    if (!kvm.shadow)
        return 0;
    in_turns(kvm, [&](ShadowChanges &changes) {
        const u64 left = count - freed;
        const u32 turn = left < kTurn ? static_cast<u32>(left) : kTurn;
        const u32 zapped = zap_oldest(*kvm.shadow, 0, turn, changes);
        freed += zapped;
        return zapped != 0 && freed < count;
    });
    return freed;
}

void shadow_obsolete_all(kvm_vm &kvm)
{
    ShadowMmu &mmu = *kvm.shadow;
    __atomic_store_n(&mmu.generation, mmu.generation + 1, __ATOMIC_RELEASE);
    mmu.unflushed = false; // by the flush that follows
}

// New pages are newer than all of these.
void shadow_free_obsolete(kvm_vm &kvm)
{
    if (!kvm.shadow)
        return;
    ShadowMmu &mmu = *kvm.shadow;
    in_turns(kvm, [&](ShadowChanges &changes) {
        for (u32 i = 0; i < kTurn; i++) {
            if (!mmu.oldest || !is_obsolete(mmu, *mmu.oldest))
                return false;
            zap_page(mmu, *mmu.oldest, changes);
        }
        return true;
    });
}

// The walk of a CPU that is still on its way out begins at a page in use. The rest is freed with
// the VM.
void shadow_clear_all(kvm_vm &kvm)
{
    ShadowMmu &mmu = *kvm.shadow;
    mmu.dead = true;
    shadow_obsolete_all(kvm);
    for (ShadowPage *page = mmu.newest; page; page = page->older) {
        for (unsigned i = 0; page->uses > 0 && i < kShadowEntries; i++)
            __atomic_store_n(&page->entries[i], u64{0}, __ATOMIC_RELEASE);
    }
}

} // namespace minivmx
