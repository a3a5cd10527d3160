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

unsigned root_count(const AddressState &state)
{
    return state.paging && state.long_mode ? 1 : kPaeRoots;
}

u64 address_bits(const AddressState &state)
{
    return ((u64{1} << state.physical_bits) - 1) & ~u64{kPageSize - 1};
}

// The frame of the guest's table behind one root, and the root's role. False: the guest's entry is
// not present.
bool describe_root(const AddressState &state, unsigned index, u64 &gfn, ShadowRole &role)
{
    role = shadow_role(state);
    if (role.direct()) {
        gfn = u64{index} << 18; // a gibibyte each
        return true;
    }
    if (role.table == GuestTable::kPae) {
        gfn = (state.pdptes[index] & address_bits(state)) >> kPageShift;
        return (state.pdptes[index] & kPtePresent) != 0;
    }
    role.quadrant = role.table == GuestTable::k32 ? static_cast<u8>(index) : u8{0};
    gfn = (state.cr3 & (role.table == GuestTable::k32 ? 0xfffff000 : address_bits(state))) >>
          kPageShift;
    return true;
}

bool is_memory(const kvm_vm &kvm, u64 gfn)
{
    u32 hint = 0;
    return kvm.slots.current && kvm.slots.current->find(gfn, hint);
}

// A root outside of memory is nothing to shadow, and nothing to remember: as in kvm_intel, the
// guest shuts down, as it does where its first page fault meets no handler. The mmu lock is held.
bool roots_are_memory(const vcpu_vmx &vmx, const AddressState &state)
{
    for (unsigned i = 0; i < root_count(state); i++) {
        u64 gfn;
        ShadowRole role;
        if (describe_root(state, i, gfn, role) && !role.direct() && !is_memory(*vmx.kvm, gfn))
            return false;
    }
    return true;
}

// ---- Roots of before ----------------------------------------------------------------------------

void forget_roots(vcpu_vmx &vmx, ShadowChanges &changes)
{
    ShadowMmu &mmu = *vmx.kvm->shadow;
    ShadowVcpu &shadow = vmx.shadow;
    for (ShadowPage *&root : shadow.roots) {
        if (root && !shadow.root_is_known)
            release_root(mmu, *root, changes);
        root = nullptr;
    }
    shadow.root_is_known = false;
}

void forget_known_roots(vcpu_vmx &vmx, ShadowChanges &changes)
{
    forget_roots(vmx, changes);
    for (ShadowVcpu::Known &known : vmx.shadow.known) {
        if (known.page)
            release_root(*vmx.kvm->shadow, *known.page, changes);
        known.page = nullptr;
    }
}

// The only root there is, which the caller holds, takes the place of the one known for longest.
void know_root(vcpu_vmx &vmx, ShadowPage &root, ShadowChanges &changes)
{
    ShadowVcpu &shadow = vmx.shadow;
    shadow.root_is_known = true;
    for (const ShadowVcpu::Known &known : shadow.known) {
        if (known.page == &root) {
            release_root(*vmx.kvm->shadow, root, changes);
            return;
        }
    }
    ShadowVcpu::Known &known = shadow.known[shadow.next_known++ % ShadowVcpu::kKnownRoots];
    if (known.page)
        release_root(*vmx.kvm->shadow, *known.page, changes);
    known = {root.gfn, &root};
}

// A table that this vCPU has used before, of which nothing has to be compared. What other CPUs did
// to the guest's tables before this flush was marked before they did it. No lock is held.
ShadowPage *known_root(const vcpu_vmx &vmx, u64 gfn)
{
    const ShadowVcpu &shadow = vmx.shadow;
    for (const ShadowVcpu::Known &known : shadow.known) {
        if (known.page && known.gfn == gfn)
            return known.page->zapped || is_unsync(*known.page) ? nullptr : known.page;
    }
    return nullptr;
}

// Only CR3 was loaded, in a mode with one root, and it names a known one.
bool go_to_known_root(vcpu_vmx &vmx)
{
    ShadowVcpu &shadow = vmx.shadow;
    const ShadowMmu &mmu = *vmx.kvm->shadow;
    if (vmx.shadow_mode_stale || !shadow.root_is_known ||
        shadow.generation != __atomic_load_n(&mmu.generation, __ATOMIC_RELAXED))
        return false;
    ShadowPage *root = known_root(vmx, (guest_cr3(vmx) & kSpteAddressMask) >> kPageShift);
    if (!root)
        return false;
    if (shadow.roots[0] != root) {
        shadow.roots[0] = root;
        vmcs_write(GUEST_CR3, host_page_phys(root->entries));
    }
    shadow.upper_changes = __atomic_load_n(&mmu.upper_changes, __ATOMIC_RELAXED);
    return true;
}

// ---- New roots ----------------------------------------------------------------------------------

// The mmu lock is held. False: try again with a full stock.
bool find_roots(vcpu_vmx &vmx, const AddressState &state, ShadowChanges &changes)
{
    ShadowMmu &mmu = *vmx.kvm->shadow;
    ShadowPage *found[kPaeRoots] = {};
    bool complete = true;
    for (unsigned i = 0; i < root_count(state) && complete; i++) {
        u64 gfn;
        ShadowRole role;
        if (!describe_root(state, i, gfn, role))
            continue;
        make_room(mmu, changes);
        found[i] = find_or_make(mmu, vmx.shadow.stock, gfn, role, changes);
        if (found[i])
            hold_root(*found[i]);
        complete = found[i] != nullptr;
    }
    if (vmx.shadow_mode_stale || vmx.shadow.generation != mmu.generation)
        forget_known_roots(vmx, changes);
    else
        forget_roots(vmx, changes);
    for (unsigned i = 0; i < kPaeRoots; i++) {
        if (complete)
            vmx.shadow.roots[i] = found[i];
        else if (found[i])
            release_root(mmu, *found[i], changes);
    }
    if (complete && root_count(state) == 1)
        know_root(vmx, *found[0], changes);
    vmx.shadow.generation = mmu.generation;
    vmx.shadow_mode_stale &= !complete;
    return complete;
}

// Compares what the guest may have written with what was made of it, in turns.
void sync_roots(vcpu_vmx &vmx, ShadowChanges &changes)
{
    ShadowMmu &mmu = *vmx.kvm->shadow;
    for (ShadowPage *root : vmx.shadow.roots) {
        u64 cursor = 0;
        while (root && sync_below(mmu, *root, cursor, changes)) {
            shadow_finish(mmu, changes);
            host_mmu_unlock(vmx.kvm->host);
            shadow_free(changes);
            host_mmu_lock(vmx.kvm->host);
        }
    }
}

// SDM Vol. 3C, 27.3.2.4: outside IA-32e mode the CPU loads four page-directory-pointer entries from
// where CR3 points at each VM entry.
u64 hardware_cr3(vcpu_vmx &vmx, const AddressState &state)
{
    const ShadowVcpu &shadow = vmx.shadow;
    if (root_count(state) == 1)
        return host_page_phys(shadow.roots[0]->entries);
    for (unsigned i = 0; i < kPaeRoots; i++)
        shadow.pdpt[i] =
            shadow.roots[i] ? host_page_phys(shadow.roots[i]->entries) | kPtePresent : 0;
    return host_page_phys(shadow.pdpt);
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
    if (go_to_known_root(vmx)) {
        vmx.shadow_root_stale = vmx.shadow_sync_due = false;
        mark_stale(vmx, StaleTranslations::kLinear);
        return true;
    }
    const AddressState state = address_state(vmx);
    if (!vmx.shadow.pdpt)
        vmx.shadow.pdpt = static_cast<u64 *>(host_page_alloc_low());
    if (!vmx.shadow.pdpt || !shadow_fill(vmx.shadow.stock)) {
        outcome = Outcome::error(-ENOMEM);
        return false;
    }

    ShadowChanges changes;
    host_mmu_lock(vmx.kvm->host);
    vmx.triple_fault |= !roots_are_memory(vmx, state);
    const bool found = !vmx.triple_fault && find_roots(vmx, state, changes);
    if (found)
        sync_roots(vmx, changes);
    (void)note_upper_changes(vmx); // all is flushed below
    shadow_finish(*vmx.kvm->shadow, changes);
    host_mmu_unlock(vmx.kvm->host);
    shadow_free(changes);
    outcome = Outcome::resume();
    if (!found)
        return false; // with a full stock, and after a look at signals, again; or a shutdown

    vmcs_write(GUEST_CR3, hardware_cr3(vmx, state));
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
    host_page_free(vmx.shadow.pdpt);
    vmx.shadow.pdpt = nullptr;
}

ShadowPage *root_for(const vcpu_vmx &vmx, const AddressState &state, u64 linear)
{
    ShadowPage *root = vmx.shadow.roots[root_count(state) == 1 ? 0 : linear >> 30 & 3];
    return root && !root->zapped && !vmx.shadow_root_stale ? root : nullptr;
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
    const AddressState state = address_state(vmx);
    ShadowChanges changes;
    host_mmu_lock(vmx.kvm->host);
    if (ShadowPage *root = root_for(vmx, state, linear))
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
