// SPDX-License-Identifier: GPL-2.0-only
// What the vCPU's side of shadow paging shares: shadow_root.cc, shadow_fault.cc,
// shadow_prefetch.cc.
#pragma once

#include <minivmx/guest_memory.hpp>
#include <minivmx/host.h>
#include <minivmx/memslot.hpp>

#include "guest_walk.hpp"
#include "shadow_page.hpp"

namespace minivmx {

// The role of a root in this mode; of a page below it only level, quadrant and rights differ, or it
// is direct.
ShadowRole shadow_role(const AddressState &state);

// Where the CPU begins to walk for the address; null: it has no table there, or not a current one.
// The mmu lock is held.
ShadowPage *root_for(const vcpu_vmx &vmx, u64 linear);

// ---- Leaves -------------------------------------------------------------------------------------

inline constexpr unsigned kLargeLevel = 2; // of shadow pages whose leaves map 2 MiB

// What is behind a guest's frame.
struct Backing {
    const MemSlot *slot; // null: a page of the module's own
    host_frame frame;

    bool logged() const { return slot && slot->logged(); }
    bool writable() const { return frame.writable && !(slot && slot->read_only()); }
};

struct LeafKind {
    u8 rights; // that the guest's tables give
    unsigned level;
    bool written;       // by the access it is made for
    bool nx_huge_pages; // large pages are not executable
};

// The entry for it; whoever enters it for an access adds kSpteAccessed. In a logged slot only a
// write makes a page writable.
u64 shadow_leaf(const LeafKind &kind, const Backing &backing);

// The guest's entries of a cache line of theirs, wide or narrow, that belong to the shadow entries
// around one of level 1.
struct Neighbours {
    static constexpr unsigned kCount = 8;
    u64 values[kCount];

    static unsigned first(unsigned index) { return index & ~(kCount - 1); }
    u64 at(unsigned index) const { return values[index % kCount]; }
};
// False: they are not at hand. The mmu lock is held.
bool read_neighbours(const SlotsReader &slots, const ShadowPage &page, unsigned index,
                     Neighbours &neighbours);
// The guest has met a page for the first time: maps those beside it, where its tables show that it
// used them before and the owner has them at hand. The mmu lock is held. [atomic]
void prefetch_neighbours(vcpu_vmx &vmx, const AddressState &state, const SlotsReader &slots,
                         ShadowPage &page, unsigned index, const Neighbours &neighbours);

} // namespace minivmx
