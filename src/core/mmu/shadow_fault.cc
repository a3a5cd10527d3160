// SPDX-License-Identifier: GPL-2.0-only
// A page fault of a guest whose tables are shadowed: the guest's own, which it gets, or a miss in
// the shadow tables, into which the translation is entered.
#include <minivmx/shadow_paging.hpp>

#include <minivmx/dirty_log.hpp>
#include <minivmx/emulate.hpp>
#include <minivmx/ept.hpp>
#include <minivmx/host.h>
#include <minivmx/known_move.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "guest_walk.hpp"
#include "shadow_page.hpp"
#include "shadow_walk.hpp"

namespace minivmx {

namespace {

constexpr u64 kLargeFrames = 512;

// An address that the CPU found no translation for, and what the guest's tables say of it.
struct Miss {
    vcpu_vmx &vmx;
    const AddressState &state;
    u64 linear;
    Access access;
    GuestWalk walk; // without paging it has no entries
    u8 rights;      // of the leaf
    // Inside of the mmu lock:
    const SlotsReader *slots;
    ShadowMmu *mmu;
    ShadowChanges changes;

    u64 gfn() const { return walk.gpa >> kPageShift; }
    const GuestEntry &last() const { return walk.entries[walk.count - 1]; }
    // The guest's entry behind an entry of a shadow page of this level.
    const GuestEntry &entry_at(unsigned level) const
    {
        return walk.entries[walk.entries[0].level - level];
    }
};

// ---- What the guest's tables allow --------------------------------------------------------------

// CR0.WP is 0, and the supervisor writes to what is read-only: SDM Vol. 3A, 4.6.1.
bool overrides_write_protection(const Miss &m)
{
    return m.access.write && (m.walk.rights & kRightWrite) == 0;
}

// A page whose dirty flag is clear is mapped for reading, so that the first write comes here and
// sets it.
u8 page_rights(const Miss &m)
{
    if (!m.access.write && m.walk.count != 0 && (m.last().value & kPteDirty) == 0)
        return m.walk.rights & static_cast<u8>(~kRightWrite);
    return m.walk.rights;
}

// One that the supervisor may write in spite of its tables becomes the supervisor's alone until the
// user's next access: the CPU's CR0.WP is 1.
u8 leaf_rights(const Miss &m)
{
    u8 rights = page_rights(m);
    if (overrides_write_protection(m)) {
        rights |= kRightWrite;
        // With the user's right gone, SMEP would no longer keep the supervisor from executing it.
        if (rights & kRightUser && m.state.smep)
            rights &= static_cast<u8>(~kRightExecute);
        rights &= static_cast<u8>(~kRightUser);
    }
    return rights;
}

// The CPU's own access to a descriptor table or a task's state, which SMAP keeps from the user's
// pages whatever EFLAGS.AC says (SDM Vol. 3A, 4.6.1), and which the error code doesn't tell from
// the program's (4.7). At CPL 3 any supervisor's access is one. Below, with AC set, so is a read
// that was refused though a page is there: all that refuses a supervisor's read is SMAP, and the
// program's own would have passed. Such accesses begin with a read.
bool is_implicit(const AddressState &state, u32 error_code)
{
    if (state.user)
        return (error_code & PFERR_USER) == 0;
    return state.smap && state.ac && error_code == PFERR_PRESENT;
}

Access access_of(const AddressState &state, u32 error_code)
{
    return {.write = (error_code & PFERR_WRITE) != 0,
            .fetch = (error_code & PFERR_FETCH) != 0,
            .implicit_supervisor = is_implicit(state, error_code)};
}

// As address_state(), with no more read than this fault needs.
AddressState state_at_fault(vcpu_vmx &vmx, u32 error_code)
{
    AddressState state = paging_state(vmx);
    state.user = (error_code & PFERR_USER) != 0;
    if (state.smap && !state.user) {
        state.user = guest_cpl(vmx) == 3;
        state.ac = (read_rflags(vmx) & X86_EFLAGS_AC) != 0;
    }
    return state;
}

// Without paging all memory is where it is.
void walk_nothing(Miss &m)
{
    m.walk.count = 0;
    m.walk.rights = kRightsAll;
    m.walk.page_bits = 32;
    m.walk.gpa = m.linear & 0xffffffff;
}

// ---- The way down -------------------------------------------------------------------------------

// Whether the guest's entry is still what the walk saw, so that a shadow page may be made to say
// the same. The page's frame is write-protected by now, or the page unsync. The mmu lock is held.
bool is_still_there(const Miss &m, const ShadowPage &page, const GuestEntry &entry, bool leaf)
{
    const MemSlot *slot = m.slots->find(entry.gpa >> kPageShift);
    u64 value = 0;
    if (!slot)
        return false;
    const u64 hva = slot->hva_of_gfn(entry.gpa >> kPageShift) + (entry.gpa & u64{kPageSize - 1});
    return host_read_user_atomic(&value, hva, page.role.guest_entry_size()) == 0 &&
           same_guest_entry(page.role, entry.value, value, leaf);
}

struct Child {
    u64 gfn;
    ShadowRole role;
    u64 guest; // the entry it is made from
};

// The table below `page` on the way to the address.
Child child_wanted(const Miss &m, const ShadowPage &page)
{
    const unsigned level = page.role.level;
    Child child{0, page.role, 0};
    child.role.level = static_cast<u8>(level - 1);
    child.role.quadrant = 0;
    if (page.role.direct()) {
        child.gfn = page.gfn + shadow_index(m.linear, level) * shadow_span(level);
        return child;
    }
    const GuestEntry &entry = m.entry_at(level);
    child.guest = entry.value;
    if (&entry == &m.last()) {
        // A large page, in smaller ones. An instruction may write one of them in spite of the
        // tables and lie in another: both are in this child, whatever each leaf allows.
        child.gfn = m.gfn() & ~(shadow_span(level) - 1);
        child.role.table = GuestTable::kDirect;
        child.role.pse = false;
        child.role.rights = page_rights(m);
        return child;
    }
    const GuestEntry &next = m.entry_at(level - 1);
    child.gfn = next.gpa >> kPageShift;
    child.role.rights = next.above;
    if (page.role.table == GuestTable::k32)
        child.role.quadrant = static_cast<u8>(m.linear >> 21 & 1);
    return child;
}

bool leads_there(const ShadowPage &page, unsigned index, const Child &wanted)
{
    if (!has_child(page, index))
        return false;
    const ShadowPage &child = child_of(page, index);
    return child.gfn == wanted.gfn && child.role == wanted.role &&
           (page.role.direct() ||
            same_guest_entry(page.role, page.guest[index], wanted.guest, wanted.role.direct()));
}

// A table that was not in use may have been written meanwhile, and the guest needn't flush for an
// entry that was not present before: SDM Vol. 3A, 4.10.4.3. False: it takes longer; the guest tries
// again.
bool bring_up_to_date(Miss &m, ShadowPage &page)
{
    u64 cursor = 0;
    return !sync_below(*m.mmu, page, cursor, m.changes);
}

// One level down. Null: the guest's tables have changed, or memory is used up; the guest tries
// again.
ShadowPage *descend(Miss &m, ShadowPage &page)
{
    const unsigned index = shadow_index(m.linear, page.role.level);
    const Child wanted = child_wanted(m, page);
    if (leads_there(page, index, wanted)) {
        ShadowPage &child = child_of(page, index);
        touch(*m.mmu, child);
        return &child;
    }
    ShadowPage *child =
        find_or_make(*m.mmu, m.vmx.shadow.stock, wanted.gfn, wanted.role, m.changes);
    if (!child)
        return nullptr;
    // Nobody writes the child's frame unnoticed from here on: what is read of it now stays true.
    if (m.changes.flush)
        shadow_finish(*m.mmu, m.changes);
    if (!bring_up_to_date(m, *child))
        return nullptr;
    if (!page.role.direct()) {
        const GuestEntry &entry = m.entry_at(page.role.level);
        if (!is_still_there(m, page, entry, &entry == &m.last()))
            return nullptr;
    }
    if (spte_load(&page.entries[index]) != 0) {
        clear_entry(*m.mmu, page, index);
        mark_stale(m.vmx, StaleTranslations::kLinear);
    }
    return link_child(*m.mmu, page, index, *child, wanted.guest) ? child : nullptr;
}

// ---- The leaf -----------------------------------------------------------------------------------

// The guest's page, the owner's and the slot must all be as large, and aligned alike.
unsigned leaf_level(const Miss &m, const Backing &backing)
{
    if (!backing.slot)
        return 1;
    const MemSlot &slot = *backing.slot;
    const host_frame &frame = backing.frame;
    const u64 first = m.gfn() & ~(kLargeFrames - 1);
    const bool nx_huge_pages = m.vmx.kvm->ept.features.nx_huge_pages;
    const bool large = m.walk.page_bits >= kPageShift + 9 && frame.order >= 9 && !slot.logged() &&
                       first >= slot.base_gfn && first + kLargeFrames <= slot.end_gfn() &&
                       ((frame.pfn ^ m.gfn()) & (kLargeFrames - 1)) == 0 &&
                       !(nx_huge_pages && m.access.fetch) && may_map_large(*m.mmu, m.gfn());
    return large ? kLargeLevel : 1;
}

bool enter_leaf(Miss &m, ShadowPage &page, const Backing &backing)
{
    const unsigned level = page.role.level;
    const unsigned index = shadow_index(m.linear, level);
    // The CPU may go on with what it has seen, but for what a fault makes it forget (SDM Vol. 3A,
    // 4.10.4.1): more rights need no flush.
    const u64 old = spte_load(&page.entries[index]);
    const bool with_neighbours = level == 1 && old == 0;
    Neighbours neighbours{};
    u64 guest = 0;
    if (!page.role.direct()) {
        guest = m.entry_at(level).value;
        if (with_neighbours ? !read_neighbours(*m.slots, page, index, neighbours) ||
                                  !same_guest_entry(page.role, guest, neighbours.at(index), true)
                            : !is_still_there(m, page, m.entry_at(level), true))
            return false;
    }
    const u64 value = shadow_leaf({.rights = m.rights,
                                   .level = level,
                                   .written = m.access.write,
                                   .nx_huge_pages = m.vmx.kvm->ept.features.nx_huge_pages},
                                  backing) |
                      kSpteAccessed;
    if (old != 0 && ((old ^ value) & (kSpteAddressMask | kSpteLarge)) != 0)
        mark_stale(m.vmx, StaleTranslations::kLinear);
    if (!set_leaf(*m.mmu, m.vmx.shadow.stock, page, index, value, guest))
        return false;
    if (with_neighbours)
        prefetch_neighbours(m.vmx, m.state, *m.slots, page, index, neighbours);
    return true;
}

// Enters the translation. False: something has changed, and the guest tries again. The mmu lock is
// held.
bool enter(Miss &m, const Backing &backing)
{
    vcpu_vmx &vmx = m.vmx;
    const MemSlot *slot = backing.slot;
    if (!m.slots->current() ||
        (slot && host_mmu_retry(vmx.kvm->host, &backing.frame, slot->hva_of_gfn(m.gfn()))))
        return false;
    if (m.access.write && is_protected(*m.mmu, m.gfn()))
        mark_unsync(*m.mmu, m.gfn());
    make_room(*m.mmu, m.changes);
    ShadowPage *page = root_for(vmx, m.linear);
    if (!page || vmx.shadow.generation != m.mmu->generation) {
        vmx.shadow_root_stale = true;
        return false;
    }
    touch(*m.mmu, *page);
    const unsigned level = leaf_level(m, backing);
    while (page && page->role.level > level)
        page = descend(m, *page);
    if (!page || !enter_leaf(m, *page, backing))
        return false;
    if (m.access.write && slot)
        mark_page_dirty(*slot, m.gfn());
    return true;
}

// Enters it, if it still can be, and is done with the frame.
void map(Miss &m, Backing &backing)
{
    host_vm *host = m.vmx.kvm->host;
    host_mmu_lock(host);
    const bool entered = enter(m, backing);
    shadow_finish(*m.mmu, m.changes);
    if (backing.slot)
        host_frame_put(&backing.frame, entered && backing.writable());
    host_mmu_unlock(host);
    shadow_free(m.changes);
}

// What CPU features and real mode look for where no slot is: see private_pages.hpp.
EptFault map_private_page(Miss &m)
{
    const void *page = private_page(*m.vmx.kvm, m.gfn());
    if (!page)
        return EptFault::kMmio;
    Backing backing{};
    backing.frame.pfn = host_page_phys(page) >> kPageShift;
    backing.frame.writable = true;
    map(m, backing);
    return EptFault::kMapped;
}

EptFault map_slot_page(Miss &m)
{
    Backing backing{m.slots->find(m.gfn()), {}};
    // A page of the supervisor's own would be open to it in spite of SMAP.
    if (overrides_write_protection(m) && m.state.smap)
        return EptFault::kMmio;
    if (!shadow_fill(m.vmx.shadow.stock))
        return EptFault::kNoMemory;
    if (!backing.slot)
        return map_private_page(m);
    if (m.access.write && backing.slot->read_only())
        return EptFault::kMmio;
    host_frame &frame = backing.frame;
    if (const int error = host_fault_in(m.vmx.kvm->host, backing.slot->hva_of_gfn(m.gfn()),
                                        m.access.write, &frame))
        return fault_in_failed(error);
    if (m.access.write && !frame.writable) {
        host_frame_put(&frame, false);
        return EptFault::kFault;
    }
    map(m, backing);
    return EptFault::kMapped;
}

EptFault map_page(Miss &m)
{
    const SlotsReader slots{m.vmx};
    m.slots = &slots;
    const EptFault result = map_slot_page(m);
    m.slots = nullptr; // it ends here
    return result;
}

// ---- The exit -----------------------------------------------------------------------------------

bool delivers_event(const vcpu_vmx &vmx)
{
    return (vmx.idt_vectoring_info & INTR_INFO_VALID) != 0;
}

// What was being delivered met an address without memory: there is no instruction to emulate.
Outcome mmio_during_delivery(vcpu_vmx &vmx, u32 error_code)
{
    const u64 data[] = {vmx.idt_vectoring_info, exit_intr_info(vmx), error_code,
                        vmx.last_vmentry_cpu};
    return internal_error(vmx, KVM_INTERNAL_ERROR_SIMUL_EX, data);
}

} // namespace

bool guest_faults(vcpu_vmx &vmx, u64 linear, u32 error_code, GuestFault &fault)
{
    const AddressState state = address_state(vmx);
    GuestWalk walk;
    return state.paging && walk_guest_tables(vmx, state, linear, access_of(state, error_code), walk,
                                             fault) != MemoryResult::kOk;
}

Outcome handle_shadow_fault(vcpu_vmx &vmx, u64 linear, u32 error_code)
{
    vmx.area->flush_l1d = 1;
    const AddressState state = state_at_fault(vmx, error_code);
    if (Outcome moved = Outcome::resume();
        vmx.known_moves.touched_at(linear) && !delivers_event(vmx) &&
        repeat_known_access(vmx, state, linear, error_code, moved)) [[unlikely]]
        return moved;
    Miss m{.vmx = vmx,
           .state = state,
           .linear = linear,
           .access = access_of(state, error_code),
           .walk = {},
           .rights = 0,
           .slots = nullptr,
           .mmu = vmx.kvm->shadow,
           .changes = {}};
    GuestFault fault;
    if (!state.paging) {
        walk_nothing(m);
    } else if (walk_guest_tables(vmx, state, linear, m.access, m.walk, fault) !=
               MemoryResult::kOk) {
        if (delivers_event(vmx))
            give_way_to_exception(vmx);
        inject_fault(vmx, fault);
        return Outcome::resume();
    }
    m.rights = leaf_rights(m);

    const EptFault result = map_page(m);
    if (result != EptFault::kMmio)
        return fault_outcome(result);
    if (delivers_event(vmx))
        return mmio_during_delivery(vmx, error_code);
    return emulate_access(vmx, {true, m.access.write, linear, m.walk.gpa});
}

} // namespace minivmx
