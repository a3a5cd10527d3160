// SPDX-License-Identifier: GPL-2.0-only
// How many shadow pages a VM may have: KVM_SET_NR_MMU_PAGES, or a share of its memory.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;

// KVM_MIN_ALLOC_MMU_PAGES: fewer are refused, and a small VM may have these.
inline constexpr u64 kMinMmuPages = 64;
// Without the client's word: one shadow page for so many pages of memory.
inline constexpr u64 kGuestPagesPerMmuPage = 50;

struct MmuPages {
    u64 limit;      // read without a lock; 0 until there is memory
    u64 requested;  // by KVM_SET_NR_MMU_PAGES; 0: nothing
    u64 slot_pages; // in all memory slots
};

// Pages came to or went from the memory slots. The host's slots mutex is held. [sleep]
void add_slot_pages(kvm_vm &kvm, u64 pages);
void remove_slot_pages(kvm_vm &kvm, u64 pages);

} // namespace minivmx
