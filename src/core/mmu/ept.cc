// SPDX-License-Identifier: GPL-2.0-only
// EPT tables as a data structure: creation, walks over what is present, removal.
#include <minivmx/ept.hpp>

#include <minivmx/arch.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/result.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "ept_entry.hpp"

namespace minivmx {

// ---- Tables that go ---------------------------------------------------------
//
// A table can be freed only after a flush, and nothing may be allocated to remember it until then.
// So its first entry becomes the link of a list: a page's address has bits 2:0 clear, which the
// CPU, should it still walk the table, takes for "not present". Bits 5:3 keep the table's level.

void ept_unlink_table(u64 *table, unsigned level, u64 *&unlinked)
{
    const u64 first = ept_load(&table[0]);
    if (level > 1 && first != 0 && !ept_is_leaf(first, level))
        ept_unlink_table(ept_table_of(first), level - 1, unlinked);
    ept_store(&table[0], reinterpret_cast<u64>(unlinked) | level << 3);
    unlinked = table;
}

namespace {

// Frees the tables below entries [first, 512) of a table, and the table.
void free_table(u64 *table, unsigned level, unsigned first)
{
    for (unsigned i = first; level > 1 && i < kEptEntries; i++) {
        if (table[i] != 0 && !ept_is_leaf(table[i], level))
            free_table(ept_table_of(table[i]), level - 1, 0);
    }
    host_page_free(table);
}

} // namespace

void ept_free_unlinked(u64 *unlinked)
{
    while (unlinked) {
        u64 *table = unlinked;
        const unsigned level = static_cast<unsigned>(table[0] >> 3 & 7);
        unlinked = reinterpret_cast<u64 *>(table[0] & ~u64{0xfff});
        free_table(table, level, 1);
    }
}

namespace {

// Empties the entries of [gfn, end) in a table. Whole tables inside the range are unlinked without
// a look at what they hold, so the time under the mmu lock does not grow with the memory mapped.
// Returns whether a CPU may have cached any of it.
bool zap_in_table(u64 *table, unsigned level, u64 gfn, u64 end, u64 *&unlinked)
{
    const u64 span = ept_span(level);
    bool zapped = false;
    u64 next;
    for (; gfn < end; gfn = next) {
        next = (gfn | (span - 1)) + 1;
        u64 *entry = &table[ept_index(gfn, level)];
        const u64 value = ept_load(entry);
        if (value == 0)
            continue;
        if (ept_is_leaf(value, level)) {
            ept_store(entry, 0);
            zapped |= ept_in_use(value);
            continue;
        }
        u64 *child = ept_table_of(value);
        const bool whole = next - gfn == span && next <= end;
        if (!whole)
            zapped |= zap_in_table(child, level - 1, gfn, next < end ? next : end, unlinked);
        if (whole || ept_table_is_empty(child)) {
            ept_store(entry, 0);
            ept_unlink_table(child, level - 1, unlinked);
            zapped = true;
        }
    }
    return zapped;
}

// Calls visit(entry, level) for every leaf that covers a frame of [gfn, end). Only present tables
// are walked.
template <class Visit>
void visit_leaves(u64 *table, unsigned level, u64 gfn, u64 end, Visit &visit)
{
    u64 next;
    for (; gfn < end; gfn = next) {
        next = (gfn | (ept_span(level) - 1)) + 1;
        u64 *entry = &table[ept_index(gfn, level)];
        const u64 value = ept_load(entry);
        if (!ept_in_use(value))
            continue;
        if (ept_is_leaf(value, level))
            visit(entry, level);
        else
            visit_leaves(ept_table_of(value), level - 1, gfn, next < end ? next : end, visit);
    }
}

} // namespace

bool ept_zap_gfn_range(Ept &ept, u64 base_gfn, u64 end_gfn, u64 *&unlinked)
{
    return ept.root && zap_in_table(ept.root, kEptLevels, base_gfn, end_gfn, unlinked);
}

bool ept_zap_leaves(Ept &ept, u64 base_gfn, u64 end_gfn)
{
    bool found = false;
    auto zap = [&](u64 *entry, unsigned) {
        ept_store(entry, 0);
        found = true;
    };
    if (ept.root)
        visit_leaves(ept.root, kEptLevels, base_gfn, end_gfn, zap);
    return found;
}

bool ept_age(Ept &ept, u64 base_gfn, u64 end_gfn, bool forget)
{
    bool accessed = false;
    auto look_at_flag = [&](u64 *entry, unsigned) {
        if ((ept_load(entry) & kEptAccessed) == 0)
            return;
        accessed = true;
        if (forget)
            __atomic_fetch_and(entry, ~kEptAccessed, __ATOMIC_RELAXED);
    };
    // Without accessed flags, an entry that was looked at is kept not present: the access that
    // faults is the flag.
    auto track = [&](u64 *entry, unsigned) {
        const u64 value = ept_load(entry);
        if (ept_is_tracked(value))
            return;
        accessed = true;
        if (forget)
            ept_store(entry, (value & ~kEptPermissions) | (value & kEptPermissions)
                                                              << kEptTrackedShift);
    };
    if (!ept.root)
        return false;
    if (ept.features.accessed_dirty)
        visit_leaves(ept.root, kEptLevels, base_gfn, end_gfn, look_at_flag);
    else
        visit_leaves(ept.root, kEptLevels, base_gfn, end_gfn, track);
    return accessed;
}

bool ept_watch_writes(Ept &ept, u64 base_gfn, u64 end_gfn, bool by_dirty_flag)
{
    bool changed = false;
    auto clear = [&](u64 *entry, u64 bits) {
        if ((ept_load(entry) & bits) == 0)
            return;
        // The CPU sets accessed and dirty flags meanwhile.
        __atomic_fetch_and(entry, ~bits, __ATOMIC_SEQ_CST);
        changed = true;
    };
    auto watch = [&](u64 *entry, unsigned level) {
        if (by_dirty_flag && level == 1)
            clear(entry, kEptDirty);
        else if (ept_is_tracked(ept_load(entry)))
            clear(entry, kEptWrite << kEptTrackedShift);
        else
            clear(entry, kEptWrite);
    };
    if (ept.root)
        visit_leaves(ept.root, kEptLevels, base_gfn, end_gfn, watch);
    return changed;
}

u64 ept_lookup(const Ept &ept, u64 gfn, unsigned &level)
{
    const u64 *table = ept.root;
    for (level = kEptLevels; table; level--) {
        const u64 value = ept_load(&table[ept_index(gfn, level)]);
        if (value == 0 || ept_is_leaf(value, level))
            return value;
        table = ept_table_of(value);
    }
    return 0;
}

// ---- A VM's and a vCPU's part -----------------------------------------------

EptFeatures ept_features()
{
    const Hardware &hw = hardware;
    const EptCapability ept = hw.capability.ept_cap();
    const VpidCapability vpid = hw.capability.vpid_cap();
    EptFeatures f{};
    f.enabled = hw.params.ept;
    f.accessed_dirty = hw.params.eptad && ept.accessed_dirty();
    f.pages_2m = ept.pages_2m();
    f.pages_1g = ept.pages_1g();
    f.nx_huge_pages = hw.info.nx_huge_pages;
    f.write_back = ept.type_write_back();
    f.invept_single_context = ept.invept_single();
    f.vpid = hw.params.vpid;
    f.invvpid_single_context = vpid.invvpid_single();
    u32 bits = hw.host.max_phys_bits;
    if (!f.enabled)
        bits = 52; // shadow paging does not store guest-physical addresses in tables
    else if (bits > kEptAddressBits)
        bits = kEptAddressBits;
    f.max_gfn = (u64{1} << (bits - 12)) - 1;
    return f;
}

int ept_create(kvm_vm &kvm, const EptFeatures &features)
{
    kvm.ept = Ept{};
    kvm.ept.features = features;
    if (!features.enabled)
        return 0;
    kvm.ept.root = static_cast<u64 *>(host_page_alloc());
    return kvm.ept.root ? 0 : -static_cast<int>(Errno::kNoMem);
}

void ept_destroy(kvm_vm &kvm)
{
    if (kvm.ept.root)
        free_table(kvm.ept.root, kEptLevels, 0);
    ept_free_unlinked(kvm.ept.unlinked);
    kvm.ept.root = nullptr;
    kvm.ept.unlinked = nullptr;
}

u64 ept_pointer(const Ept &ept)
{
    constexpr u64 kUncacheable = 0, kWriteBack = 6, kWalkLengthShift = 3, kAccessedDirty = bit64(6);
    if (!ept.root)
        return 0;
    u64 pointer = host_page_phys(ept.root);
    pointer |= ept.features.write_back ? kWriteBack : kUncacheable;
    pointer |= u64{kEptLevels - 1} << kWalkLengthShift;
    if (ept.features.accessed_dirty)
        pointer |= kAccessedDirty;
    return pointer;
}

void mmu_vcpu_create(vcpu_vmx &vmx)
{
    vmx.slots_hazard = SlotsHazard{};
    vmx.ept_pages = EptPageStock{};
    register_slots_reader(*vmx.kvm, vmx.slots_hazard);
}

void mmu_vcpu_destroy(vcpu_vmx &vmx)
{
    release_shadow_root(vmx);
    unregister_slots_reader(*vmx.kvm, vmx.slots_hazard);
    while (vmx.ept_pages.count > 0)
        host_page_free(vmx.ept_pages.pages[--vmx.ept_pages.count]);
}

// SDM Vol. 3C, 29.4.3.1: INVEPT drops a hierarchy's guest-physical translations and all combined
// ones; INVVPID a VPID's linear and combined ones, and leaves the guest-physical ones, which the
// CPU then needn't walk for again. Without a VPID every VM entry and exit does so by itself.
void flush_guest_tlb(vcpu_vmx &vmx)
{
    constexpr u64 kSingleContext = 1, kAllContexts = 2;
    const Ept &ept = vmx.kvm->ept;
    if (ept.root && vmx.stale_translations == StaleTranslations::kAll) {
        const u64 type = ept.features.invept_single_context ? kSingleContext : kAllContexts;
        (void)arch::invept(type, {ept_pointer(ept), 0});
    } else if (vmx.vpid != 0) {
        const u64 type = ept.features.invvpid_single_context ? kSingleContext : kAllContexts;
        (void)arch::invvpid(type, {vmx.vpid, 0});
    }
    vmx.stale_translations = StaleTranslations::kNone;
}

} // namespace minivmx
