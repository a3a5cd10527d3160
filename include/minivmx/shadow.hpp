// SPDX-License-Identifier: GPL-2.0-only
// Shadow paging: what the CPU walks where there is no EPT. Our tables translate the guest's linear
// addresses to host-physical ones; they are made, entry by entry, from the guest's own tables and
// the memory slots when the guest faults.
//
// A guest frame that holds one of the guest's tables is shadowed: one or more shadow pages are made
// of it. Such a frame is write-protected in every shadow entry that maps it. The first write to it
// faults, makes all its shadow pages "unsync", and lets the frame be written freely from then on.
// That is allowed because the CPU may cache translations, too: the guest can't rely on a change
// before it has flushed (MOV to CR3, INVLPG, ...; SDM Vol. 3A, 4.10.4), and then we compare the
// unsync pages with the guest's tables, drop what differs and protect them again. So no write to a
// table is ever emulated, and a table that is filled entry by entry costs one exit.
//
// Invariant: a frame that any shadow entry lets the guest write has no shadow page that isn't
// unsync.
//
// Everything is under the VM's mmu lock; memory is allocated before it is taken (ShadowStock) and
// freed after it is released and every vCPU has flushed (ShadowChanges). Entries hold no references
// to pages: they follow the mmu notifiers as EPT's do. All memory is bounded by the limit of shadow
// pages and the size of the slots, and every operation under the lock by the limits in
// src/core/mmu/shadow_page.hpp, whatever a guest builds.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;
struct ShadowMmu;
struct ShadowPage;

// Memory for what a fault may need, taken before the mmu lock. Of one vCPU.
struct ShadowStock {
    static constexpr u32 kBlanks = 5, kNodes = 16;
    ShadowPage *blanks[kBlanks]; // shadow pages with all their memory
    u32 blank_count;
    void *nodes[kNodes]; // zeroed pages, for the maps by frame
    u32 node_count;
};

// What a CR3 of the guest leads to: one table of level 4, or the four that page-directory-pointer
// entries name (PAE, which 32-bit paging and no paging run on, too). Each holds a use of its page
// (hold_root()): that many pages a vCPU may keep from being freed after they were zapped.
struct RootSet {
    ShadowPage *pages[4];
    u64 hardware_cr3; // the CPU's
};

// A vCPU's part.
struct ShadowVcpu {
    ShadowStock stock;
    // What CR3 named lately, in this mode: going back to one takes no lock.
    static constexpr u32 kKnownRoots = 16;
    u64 known_keys[kKnownRoots]; // by the guest's CR3; 0: none
    RootSet known[kKnownRoots];
    RootSet *current; // one of them; null: none yet
    u64 current_key;
    u32 next_known;
    u64 generation; // ShadowMmu's when they were found
    // The mode they are for, in short: the bits of CR3 that name a table, whether the
    // page-directory-pointer entries are the guest's own (PAE), and how many roots there are.
    u64 cr3_mask;
    bool own_pdptes;
    u8 root_count;
    // ShadowMmu's when this vCPU last flushed everything in the guest's place.
    u64 upper_changes;
    // For all the page-directory-pointer tables: a page below 4 GiB, made at first use.
    u64 *pdpts;
};

// ---- The VM's part -----------------------------------------------------------------------------

// kvm.shadow stays null with EPT. -ENOMEM. [sleep]
int shadow_create(kvm_vm &kvm);
// No vCPU exists any more. [sleep]
void shadow_destroy(kvm_vm &kvm);

// Fills the stock; false: no memory. [sleep]
[[nodiscard]] bool shadow_fill(ShadowStock &stock);
void shadow_release(ShadowStock &stock);

// The mmu lock is held. [atomic]
//
// Nothing maps frames [first, end) any more. Whether a flush of every vCPU is to follow, before the
// lock is released.
[[nodiscard]] bool shadow_unmap_gfns(kvm_vm &kvm, u64 first, u64 end);
// The next write to each of them faults, after a flush of every vCPU, if true.
[[nodiscard]] bool shadow_watch_writes(kvm_vm &kvm, u64 first, u64 end);
// Whether one was accessed since `forget` was last set; no flush follows.
bool shadow_age_gfns(kvm_vm &kvm, u64 first, u64 end, bool forget);

// The hypervisor or its user wrote the frame in the guest's place: what is shadowed of it is to be
// compared at the next flush. Not needed for accessed and dirty flags that a walk sets. Takes the
// mmu lock. [any but NMI]
void shadow_note_write(kvm_vm &kvm, u64 gfn);

// Nothing that exists is used any more: vCPUs find new roots before they run on. The mmu lock is
// held; a flush of every vCPU follows before it is released. What went is freed bit by bit by
// shadow_free_obsolete(), without the lock. Constant time.
void shadow_obsolete_all(kvm_vm &kvm);
void shadow_free_obsolete(kvm_vm &kvm); // [sleep]
// The owner's memory is gone and no vCPU runs again: all entries are cleared. The mmu lock is held.
void shadow_clear_all(kvm_vm &kvm);
// The slots are other ones: frames of [first, end) of no slot need not be remembered. [sleep]
void shadow_forget_gfns(kvm_vm &kvm, u64 first, u64 end);

// ---- Limits ------------------------------------------------------------------------------------

// kvm.mmu_pages.limit has changed: too many pages go at once. [sleep]
void shadow_enforce_limit(kvm_vm &kvm);
// How many shadow pages there are. [any]
u64 shadow_page_count(const kvm_vm &kvm);
// Frees up to `count` of the pages that were not walked for longest; how many it freed. For the
// kernel's shrinker: may be called while memory is allocated, but not with the mmu lock. [sleep]
u64 shadow_shrink(kvm_vm &kvm, u64 count);

} // namespace minivmx
