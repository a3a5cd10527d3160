// SPDX-License-Identifier: GPL-2.0-only
// The tables that the CPU's CR3 names: found for the guest's CR3 and mode, and brought in step with
// the guest's where it has flushed.
#include <minivmx/shadow_paging.hpp>

#include <minivmx/arch.hpp>
#include <minivmx/guest_memory.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "guest_walk.hpp"
#include "shadow_page.hpp"
#include "shadow_walk.hpp"

namespace minivmx {

ShadowRole shadow_role(const AddressState &state)
{
    ShadowRole role{};
    role.rights = kRightsAll;
    if (!state.paging) {
        role.level = 2;
        role.table = GuestTable::kDirect;
        return role;
    }
    role.level = state.long_mode ? 4 : 2;
    role.table = state.long_mode ? GuestTable::k64 : state.pae ? GuestTable::kPae : GuestTable::k32;
    role.write_protect = state.write_protect;
    role.nxe = state.nxe;
    role.smep = state.smep && !state.write_protect;
    role.smap = state.smap && !state.write_protect;
    role.pse = role.table == GuestTable::k32 && state.pse;
    return role;
}

namespace {

constexpr unsigned kPaeRoots = 4;

// The tables that the guest's CR3 leads to.
struct GuestRoots {
    u64 gfns[kPaeRoots];
    bool present[kPaeRoots];
    unsigned count;
    ShadowRole role;
};

ShadowRole role_of(const GuestRoots &roots, unsigned index)
{
    ShadowRole role = roots.role;
    role.quadrant = role.table == GuestTable::k32 ? static_cast<u8>(index) : u8{0};
    return role;
}

u64 address_bits(const AddressState &state)
{
    return ((u64{1} << state.physical_bits) - 1) & ~u64{kPageSize - 1};
}

// Bits of CR3 that name the guest's tables: SDM Vol. 3A, tables 4-3, 4-7 and 4-12.
u64 root_bits(const AddressState &state)
{
    if (!state.paging)
        return 0;
    return state.long_mode ? address_bits(state) : state.pae ? 0xffffffe0 : 0xfffff000;
}

GuestRoots guest_roots(const AddressState &state)
{
    GuestRoots roots;
    roots.role = shadow_role(state);
    roots.count = roots.role.level == 4 ? 1 : kPaeRoots;
    for (unsigned i = 0; i < roots.count; i++) {
        const bool pae = roots.role.table == GuestTable::kPae;
        const u64 pdpte = pae ? state.pdptes[i] : 0;
        const u64 table = pae ? pdpte & address_bits(state) : state.cr3 & root_bits(state);
        roots.gfns[i] = roots.role.direct() ? u64{i} << 18 : table >> kPageShift; // 1 GiB each
        roots.present[i] = !pae || (pdpte & kPtePresent) != 0;
    }
    return roots;
}

bool is_memory(const kvm_vm &kvm, u64 gfn)
{
    u32 hint = 0;
    return kvm.slots.current && kvm.slots.current->find(gfn, hint);
}

// A root outside of memory is nothing to shadow, and nothing to remember: as in kvm_intel, the
// guest shuts down, as it does where its first page fault meets no handler. The mmu lock is held.
bool roots_are_memory(const kvm_vm &kvm, const GuestRoots &roots)
{
    for (unsigned i = 0; i < roots.count; i++) {
        if (roots.present[i] && !roots.role.direct() && !is_memory(kvm, roots.gfns[i]))
            return false;
    }
    return true;
}

// ---- Roots of before ----------------------------------------------------------------------------

void forget(vcpu_vmx &vmx, RootSet &set, ShadowChanges &changes)
{
    for (ShadowPage *&page : set.pages) {
        if (page)
            release_root(*vmx.kvm->shadow, *page, changes);
        page = nullptr;
    }
}

void forget_known_roots(vcpu_vmx &vmx, ShadowChanges &changes)
{
    for (u64 &key : vmx.shadow.known_keys)
        key = 0;
    for (RootSet &set : vmx.shadow.known)
        forget(vmx, set, changes);
    vmx.shadow.current = nullptr;
}

u64 root_key(const ShadowVcpu &shadow, u64 cr3)
{
    return (cr3 & shadow.cr3_mask) | 1;
}

// Which known roots they are; kKnownRoots: none.
u32 known_roots(const ShadowVcpu &shadow, u64 key)
{
    u32 which = 0;
#pragma GCC unroll 16
    for (; which < ShadowVcpu::kKnownRoots; which++) {
        if (shadow.known_keys[which] == key)
            break;
    }
    return which;
}

// Whether nothing of it has to be compared. What other CPUs did to the guest's tables before this
// flush was marked before they did it. No lock is held.
bool may_be_used(const vcpu_vmx &vmx, const RootSet &set)
{
    for (unsigned i = 0; i < vmx.shadow.root_count; i++) {
        const ShadowPage *page = set.pages[i];
        if (vmx.shadow.own_pdptes) {
            const u64 pdpte = vmx.pdptrs[i];
            const bool present = (pdpte & kPtePresent) != 0;
            if (present != (page != nullptr) ||
                (present && (pdpte & kSpteAddressMask) >> kPageShift != page->gfn))
                return false;
        }
        if (page && (page->zapped || is_unsync(*page)))
            return false;
    }
    return true;
}

void use_roots(vcpu_vmx &vmx, RootSet &set, u64 key)
{
    vmx.shadow.current = &set;
    vmx.shadow.current_key = key;
    vmcs_write(GUEST_CR3, set.hardware_cr3);
}

// Only CR3 was loaded, and it names known roots.
bool go_to_known_roots(vcpu_vmx &vmx)
{
    ShadowVcpu &shadow = vmx.shadow;
    const ShadowMmu &mmu = *vmx.kvm->shadow;
    if (vmx.shadow_mode_stale || !shadow.current ||
        shadow.generation != __atomic_load_n(&mmu.generation, __ATOMIC_RELAXED))
        return false;
    const u64 key = root_key(shadow, guest_cr3(vmx));
    if (key == shadow.current_key) {
        if (!may_be_used(vmx, *shadow.current))
            return false;
    } else {
        const u32 which = known_roots(shadow, key);
        if (which == ShadowVcpu::kKnownRoots || !may_be_used(vmx, shadow.known[which]))
            return false;
        use_roots(vmx, shadow.known[which], key);
    }
    shadow.upper_changes = __atomic_load_n(&mmu.upper_changes, __ATOMIC_RELAXED);
    return true;
}

// ---- New roots ----------------------------------------------------------------------------------

void hold_roots(ShadowPage *const (&pages)[kPaeRoots])
{
    for (ShadowPage *page : pages) {
        if (page)
            hold_root(*page);
    }
}

// The shadow pages of these. The mmu lock is held. False: try again with a full stock.
bool find_pages(vcpu_vmx &vmx, const GuestRoots &roots, ShadowPage *(&pages)[kPaeRoots],
                ShadowChanges &changes)
{
    ShadowMmu &mmu = *vmx.kvm->shadow;
    bool missing = false;
    for (unsigned i = 0; i < roots.count; i++) {
        pages[i] = roots.present[i] ? find_page(mmu, roots.gfns[i], role_of(roots, i)) : nullptr;
        if (pages[i])
            touch(mmu, *pages[i]);
        missing |= roots.present[i] && !pages[i];
    }
    if (!missing)
        return true;
    if (!roots_are_memory(*vmx.kvm, roots)) {
        vmx.triple_fault = true;
        return false;
    }
    make_room(mmu, changes); // for all of them
    for (unsigned i = 0; i < roots.count; i++) {
        if (!roots.present[i])
            continue;
        pages[i] = find_or_make(mmu, vmx.shadow.stock, roots.gfns[i], role_of(roots, i), changes);
        if (!pages[i])
            return false;
    }
    return true;
}

// SDM Vol. 3C, 27.3.2.4: outside IA-32e mode the CPU loads four page-directory-pointer entries from
// where CR3 points at each VM entry.
u64 hardware_cr3(const ShadowVcpu &shadow, const RootSet &set)
{
    if (shadow.root_count == 1)
        return host_page_phys(set.pages[0]->entries);
    u64 *pdpt = shadow.pdpts + kPaeRoots * (&set - shadow.known);
    for (unsigned i = 0; i < kPaeRoots; i++)
        pdpt[i] = set.pages[i] ? host_page_phys(set.pages[i]->entries) | kPtePresent : 0;
    return host_page_phys(shadow.pdpts) +
           (reinterpret_cast<u64>(pdpt) - reinterpret_cast<u64>(shadow.pdpts));
}

// The roots of that key become these pages; they take the place of those known for longest if the
// key is new. The mmu lock is held.
RootSet &know_roots(vcpu_vmx &vmx, u64 key, ShadowPage *const (&pages)[kPaeRoots],
                    ShadowChanges &changes)
{
    ShadowVcpu &shadow = vmx.shadow;
    u32 which = known_roots(shadow, key);
    if (which == ShadowVcpu::kKnownRoots)
        which = shadow.next_known++ % ShadowVcpu::kKnownRoots;
    RootSet &set = shadow.known[which];
    hold_roots(pages); // before the same are released
    forget(vmx, set, changes);
    shadow.known_keys[which] = key;
    for (unsigned i = 0; i < kPaeRoots; i++)
        set.pages[i] = pages[i];
    set.hardware_cr3 = hardware_cr3(shadow, set);
    return set;
}

// The mmu lock is held. False: try again with a full stock, or the guest shuts down.
bool find_roots(vcpu_vmx &vmx, const AddressState &state, ShadowChanges &changes)
{
    ShadowVcpu &shadow = vmx.shadow;
    const ShadowMmu &mmu = *vmx.kvm->shadow;
    if (vmx.shadow_mode_stale || shadow.generation != mmu.generation)
        forget_known_roots(vmx, changes);
    const GuestRoots roots = guest_roots(state);
    ShadowPage *pages[kPaeRoots] = {};
    if (!find_pages(vmx, roots, pages, changes))
        return false;
    shadow.generation = mmu.generation;
    shadow.cr3_mask = root_bits(state);
    shadow.own_pdptes = roots.role.table == GuestTable::kPae;
    shadow.root_count = static_cast<u8>(roots.count);
    vmx.shadow_mode_stale = false;
    const u64 key = root_key(shadow, state.cr3);
    use_roots(vmx, know_roots(vmx, key, pages, changes), key);
    return true;
}

// Compares what the guest may have written with what was made of it, in turns.
void sync_roots(vcpu_vmx &vmx, ShadowChanges &changes)
{
    ShadowMmu &mmu = *vmx.kvm->shadow;
    for (ShadowPage *root : vmx.shadow.current->pages) {
        u64 cursor = 0;
        while (root && sync_below(mmu, *root, cursor, changes)) {
            shadow_finish(mmu, changes);
            host_mmu_unlock(vmx.kvm->host);
            shadow_free(changes);
            host_mmu_lock(vmx.kvm->host);
        }
    }
}

// Whether entries for more than a small page may have gone since the vCPU has last flushed all. It
// does so now if they have. The mmu lock is held.
bool note_upper_changes(vcpu_vmx &vmx)
{
    const u64 before = vmx.shadow.upper_changes;
    vmx.shadow.upper_changes = vmx.kvm->shadow->upper_changes;
    return before != vmx.shadow.upper_changes;
}

bool roots_are_current(const vcpu_vmx &vmx)
{
    return !vmx.shadow_root_stale && !vmx.shadow_sync_due &&
           vmx.shadow.generation == __atomic_load_n(&vmx.kvm->shadow->generation, __ATOMIC_RELAXED);
}

} // namespace

bool prepare_shadow_root(vcpu_vmx &vmx, Outcome &outcome)
{
    if (!vmx.kvm->shadow || roots_are_current(vmx))
        return true;
    if (go_to_known_roots(vmx)) {
        vmx.shadow_root_stale = vmx.shadow_sync_due = false;
        mark_stale(vmx, StaleTranslations::kLinear);
        return true;
    }
    const AddressState state = paging_state(vmx);
    if (!vmx.shadow.pdpts)
        vmx.shadow.pdpts = static_cast<u64 *>(host_page_alloc_low());
    if (!vmx.shadow.pdpts || !shadow_fill(vmx.shadow.stock)) {
        outcome = Outcome::error(-ENOMEM);
        return false;
    }

    ShadowChanges changes;
    host_mmu_lock(vmx.kvm->host);
    const bool found = find_roots(vmx, state, changes);
    if (found)
        sync_roots(vmx, changes);
    (void)note_upper_changes(vmx); // all is flushed below
    shadow_finish(*vmx.kvm->shadow, changes);
    host_mmu_unlock(vmx.kvm->host);
    shadow_free(changes);
    outcome = Outcome::resume();
    if (!found)
        return false; // with a full stock, and after a look at signals, again; or a shutdown

    vmx.shadow_root_stale = vmx.shadow_sync_due = false;
    mark_stale(vmx, StaleTranslations::kLinear);
    return true;
}

void forget_shadow_tables(kvm_vm &kvm)
{
    if (!kvm.shadow)
        return;
    host_mmu_lock(kvm.host);
    shadow_obsolete_all(kvm);
    host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
    host_mmu_unlock(kvm.host);
    shadow_free_obsolete(kvm);
}

void release_shadow_root(vcpu_vmx &vmx)
{
    if (!vmx.kvm->shadow)
        return;
    ShadowChanges changes;
    host_mmu_lock(vmx.kvm->host);
    forget_known_roots(vmx, changes);
    shadow_finish(*vmx.kvm->shadow, changes);
    host_mmu_unlock(vmx.kvm->host);
    shadow_free(changes);
    shadow_release(vmx.shadow.stock);
    host_page_free(vmx.shadow.pdpts);
    vmx.shadow.pdpts = nullptr;
}

ShadowPage *root_for(const vcpu_vmx &vmx, u64 linear)
{
    const ShadowVcpu &shadow = vmx.shadow;
    if (!shadow.current || vmx.shadow_root_stale)
        return nullptr;
    ShadowPage *root = shadow.current->pages[shadow.root_count == 1 ? 0 : linear >> 30 & 3];
    return root && !root->zapped ? root : nullptr;
}

// ---- INVLPG -------------------------------------------------------------------------------------

namespace {

// SDM Vol. 3C, 29.4.3.1: INVVPID of one address. The vCPU may move to another CPU right after this,
// which then flushes all of it. alone: no more than the small page with the address needs to go.
void flush_address(vcpu_vmx &vmx, u64 linear, bool alone)
{
    constexpr u64 kIndividualAddress = 0;
    if (vmx.vpid == 0)
        return; // the next VM entry forgets everything
    if (alone && hardware.capability.vpid_cap().invvpid_address()) {
        host_preempt_disable();
        const auto done = arch::invvpid(kIndividualAddress, {vmx.vpid, linear});
        host_preempt_enable();
        if (done == arch::Vmx::kOk)
            return;
    }
    mark_stale(vmx, StaleTranslations::kLinear);
}

} // namespace

void invalidate_guest_address(vcpu_vmx &vmx, u64 linear)
{
    if (!vmx.kvm->shadow) {
        mark_stale(vmx, StaleTranslations::kLinear);
        return;
    }
    // SDM Vol. 2A, INVLPG: for an address that isn't canonical it does nothing.
    if (!is_canonical_address(vmx, linear) && is_long_mode(vmx))
        return;
    ShadowChanges changes;
    host_mmu_lock(vmx.kvm->host);
    if (ShadowPage *root = root_for(vmx, linear))
        sync_linear(*vmx.kvm->shadow, *root, linear);
    else
        vmx.shadow_sync_due = true;
    const bool alone = !note_upper_changes(vmx);
    shadow_finish(*vmx.kvm->shadow, changes);
    host_mmu_unlock(vmx.kvm->host);
    shadow_free(changes);
    flush_address(vmx, linear, alone);
}

// Tables are compared with the guest's whenever its CR3 comes to name them, and the CPU is flushed
// then: other PCIDs need nothing. More may be forgotten than is asked for: SDM Vol. 3A, 4.10.4.1.
void invalidate_pcid(vcpu_vmx &vmx, u64 pcid, const u64 *address)
{
    constexpr u64 kPcidMask = 0xfff;
    const bool pcids = (guest_cr4(vmx) & X86_CR4_PCIDE) != 0;
    const u64 current = pcids ? guest_cr3(vmx) & kPcidMask : 0;
    if (vmx.kvm->shadow && pcid != current)
        return;
    if (address)
        invalidate_guest_address(vmx, *address);
    else
        forget_guest_translations(vmx);
}

Outcome handle_invlpg(vcpu_vmx &vmx)
{
    invalidate_guest_address(vmx, exit_qualification(vmx));
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

} // namespace minivmx
