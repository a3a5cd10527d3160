// SPDX-License-Identifier: GPL-2.0-only
// Shadow leaves: how they are made, and those that are made before anyone asks for them.
//
// A guest that returns to a task, or maps a file, uses pages side by side; each would cost an exit.
// Whether it has used one is in its accessed flag, which also makes the translation one that a CPU
// may have cached: SDM Vol. 3A, 4.10.2.3. Ours stays clear until the guest really comes.
#include <minivmx/memslot.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "guest_walk.hpp"
#include "shadow_walk.hpp"

namespace minivmx {

u64 shadow_leaf(const LeafKind &kind, const Backing &backing)
{
    constexpr u64 kUncacheable = bit64(3) | bit64(4); // PCD and PWT
    const host_frame &frame = backing.frame;
    const bool large = kind.level == kLargeLevel;
    u64 value = kSptePresent;
    value |= (frame.pfn & ~(shadow_span(kind.level) - 1)) << kPageShift & kSpteAddressMask;
    if (large)
        value |= kSpteLarge;
    if (frame.device)
        value |= kUncacheable;
    if (kind.rights & kRightUser)
        value |= kSpteUser;
    if (!(kind.rights & kRightExecute) || (large && kind.nx_huge_pages))
        value |= kSpteNoExecute;
    if (backing.writable())
        value |= kSpteOwnerWritable;
    if (kind.rights & kRightWrite)
        value |= kSpteGuestWritable;
    if ((value & kSpteMayWrite) == kSpteMayWrite && (kind.written || !backing.logged()))
        value |= kSpteWrite | kSpteDirty;
    return value;
}

bool read_neighbours(const SlotsReader &slots, const ShadowPage &page, unsigned index,
                     Neighbours &neighbours)
{
    const MemSlot *slot = slots.find(page.gfn);
    if (!slot)
        return false;
    const u32 first = page.role.guest_index(Neighbours::first(index));
    const u64 hva = slot->hva_of_gfn(page.gfn) + u64{first} * page.role.guest_entry_size();
    if (page.role.guest_entry_size() == sizeof(u64))
        return host_read_user_atomic(neighbours.values, hva, sizeof(neighbours.values)) == 0;
    u32 narrow[Neighbours::kCount];
    if (host_read_user_atomic(narrow, hva, sizeof(narrow)) != 0)
        return false;
    for (unsigned i = 0; i < Neighbours::kCount; i++)
        neighbours.values[i] = narrow[i];
    return true;
}

namespace {

// What a level-1 table's entry allows below the entries that lead to it. False: nothing that a CPU
// could have cached.
bool neighbour_rights(const AddressState &state, const ShadowPage &page, u64 value, u8 &rights)
{
    if (!maps_used_page(state, value, rights))
        return false;
    rights &= page.role.rights;
    if ((value & kPteDirty) == 0)
        rights &= static_cast<u8>(~kRightWrite);
    return true;
}

void prefetch(vcpu_vmx &vmx, const SlotsReader &slots, ShadowPage &page, unsigned index, u8 rights,
              u64 guest)
{
    host_vm *host = vmx.kvm->host;
    const u64 gfn = page.role.direct() ? page.gfn + index : guest_leaf_gfn(page.role, guest, index);
    Backing backing{slots.find(gfn), {}};
    if (!backing.slot)
        return;
    const bool want_write = (rights & kRightWrite) != 0 && !backing.slot->read_only();
    if (!host_frame_at_hand(host, backing.slot->hva_of_gfn(gfn), want_write, &backing.frame))
        return;
    const u64 value = shadow_leaf(
        {.rights = rights, .level = 1, .written = false, .nx_huge_pages = false}, backing);
    const bool entered = set_leaf(*vmx.kvm->shadow, vmx.shadow.stock, page, index, value, guest);
    host_frame_put(&backing.frame, entered && (value & kSpteWrite) != 0);
}

} // namespace

void prefetch_neighbours(vcpu_vmx &vmx, const AddressState &state, const SlotsReader &slots,
                         ShadowPage &page, unsigned index, const Neighbours &neighbours)
{
    const unsigned first = Neighbours::first(index);
    const bool direct = page.role.direct();
    for (unsigned i = 0; i < Neighbours::kCount; i++) {
        u8 rights = page.role.rights;
        const u64 guest = neighbours.values[i];
        if (!direct && guest == 0)
            continue;
        if (spte_load(&page.entries[first + i]) == 0 &&
            (direct || neighbour_rights(state, page, guest, rights)))
            prefetch(vmx, slots, page, first + i, rights, guest);
    }
}

} // namespace minivmx
