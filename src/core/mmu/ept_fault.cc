// SPDX-License-Identifier: GPL-2.0-only
// An EPT violation: from a guest-physical address through the slot and the owner's page tables to
// an EPT entry.
#include <minivmx/ept.hpp>

#include <minivmx/emulate.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/result.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "ept_entry.hpp"

namespace minivmx {

namespace {

constexpr int kErrHwPoison = -133, kErrAgain = -11, kErrIntr = -4, kErrNoMem = -12;

u64 needed_permissions(const EptViolationInfo &access)
{
    return (access.read ? kEptRead : 0) | (access.write ? kEptWrite : 0) |
           (access.fetch ? kEptExecute : 0);
}

// Pages for every table that a mapping can lack, before the mmu lock is taken.
bool fill_stock(EptPageStock &stock)
{
    while (stock.count < kEptLevels - 1) {
        void *page = host_page_alloc();
        if (!page)
            return false;
        stock.pages[stock.count++] = page;
    }
    return true;
}

// The leaf for gfn, or the empty entry where the walk ends.
u64 *find_entry(const Ept &ept, u64 gfn, unsigned &level)
{
    u64 *table = ept.root;
    for (level = kEptLevels;; level--) {
        u64 *entry = &table[ept_index(gfn, level)];
        const u64 value = ept_load(entry);
        if (value == 0 || ept_is_leaf(value, level))
            return entry;
        table = ept_table_of(value);
    }
}

// Whether what is mapped already allows the access, as when another vCPU was faster. An entry that
// was made not present to see whether it is used comes back here.
bool is_allowed_already(kvm_vm &kvm, u64 gfn, u64 needed)
{
    unsigned level;
    host_mmu_lock(kvm.host);
    u64 *entry = find_entry(kvm.ept, gfn, level);
    u64 value = ept_load(entry);
    if (ept_is_tracked(value)) {
        const u64 permissions = value >> kEptTrackedShift & kEptPermissions;
        value = (value & ~(kEptPermissions << kEptTrackedShift)) | permissions;
        ept_store(entry, value);
    }
    host_mmu_unlock(kvm.host);
    return (value & needed) == needed;
}

// The highest level at which one leaf can map gfn: the owner's mapping must be as large, all of it
// inside the slot and equally aligned in both address spaces.
unsigned leaf_level(const EptFeatures &features, const MemSlot &slot, u64 gfn,
                    const host_frame &frame, bool fetch)
{
    if (features.nx_huge_pages && fetch)
        return 1;
    unsigned level = 1;
    for (unsigned candidate = 2; candidate <= 3; candidate++) {
        const u64 span = ept_span(candidate);
        const u64 first = gfn & ~(span - 1);
        const bool supported = candidate == 2 ? features.pages_2m : features.pages_1g;
        const bool inside = first >= slot.base_gfn && first + span <= slot.end_gfn();
        const bool aligned = ((frame.pfn ^ gfn) & (span - 1)) == 0;
        if (!supported || frame.order < 9 * (candidate - 1) || !inside || !aligned)
            break;
        level = candidate;
    }
    return level;
}

u64 leaf_value(const EptFeatures &features, const MemSlot &slot, const host_frame &frame,
               unsigned level)
{
    // Ordinary memory is cached as the host caches it, whatever the guest's PAT says: nothing that
    // bypasses the caches reads it.
    u64 value = kEptRead | kEptMemoryTypeWriteBack | kEptIgnorePat;
    value |= (frame.pfn & ~(ept_span(level) - 1)) << 12 & kEptAddressMask;
    const bool writable = frame.writable && !slot.read_only();
    if (writable)
        value |= kEptWrite;
    if (level == 1 || !features.nx_huge_pages)
        value |= kEptExecute;
    if (level > 1)
        value |= kEptLarge;
    // The access that faulted will set them anyway; this way the CPU need not.
    if (features.accessed_dirty)
        value |= kEptAccessed | (writable ? kEptDirty : 0);
    return value;
}

struct MapResult {
    bool flush; // something that a CPU may have cached is no longer so
    u64 *unlinked;
};

// Writes the leaf, making the tables above it from the stock. Where a table already stands at the
// leaf's level, the leaf goes below it, unless the table is empty. The mmu lock is held.
MapResult install_leaf(Ept &ept, EptPageStock &stock, u64 gfn, const MemSlot &slot,
                       const host_frame &frame, unsigned leaf)
{
    MapResult result{};
    u64 *table = ept.root;
    for (unsigned level = kEptLevels;; level--) {
        u64 *entry = &table[ept_index(gfn, level)];
        const u64 old = ept_load(entry);
        const bool old_is_table = old != 0 && !ept_is_leaf(old, level);

        if (level <= leaf && old_is_table && ept_table_is_empty(ept_table_of(old))) {
            ept_store(entry, 0);
            ept_unlink_table(ept_table_of(old), level - 1, result.unlinked);
            result.flush = true;
        }
        if (level <= leaf && (!old_is_table || result.unlinked)) {
            const u64 value = leaf_value(ept.features, slot, frame, level);
            const u64 kept = value & (kEptAddressMask | kEptPermissions);
            const bool widened = (old & kEptAddressMask) == (value & kEptAddressMask) &&
                                 (old & ~kept & kEptPermissions) == 0;
            ept_store(entry, value);
            result.flush |= ept_in_use(old) && !old_is_table && !widened;
            return result;
        }
        if (!old_is_table) {
            // Nothing, or a larger leaf that does not allow this access: a fetch from a large page
            // that must not be executable. What is left of it is mapped again when it is touched.
            u64 *child = static_cast<u64 *>(stock.pages[--stock.count]);
            ept_store(entry, host_page_phys(child) | kEptPermissions);
            result.flush |= ept_in_use(old);
            table = child;
            continue;
        }
        table = ept_table_of(old);
    }
}

// With the page's reference held: maps it, unless the owner's mapping or the slots changed
// meanwhile.
void map_frame(vcpu_vmx &vmx, const SlotsReader &slots, const MemSlot &slot, u64 gfn,
               host_frame &frame, bool fetch)
{
    kvm_vm &kvm = *vmx.kvm;
    MapResult result{};
    bool mapped = false;

    host_mmu_lock(kvm.host);
    if (slots.current() && !host_mmu_retry(kvm.host, &frame, slot.hva_of_gfn(gfn))) {
        const unsigned level = leaf_level(kvm.ept.features, slot, gfn, frame, fetch);
        result = install_leaf(kvm.ept, vmx.ept_pages, gfn, slot, frame, level);
        mapped = true;
        // Under the lock: a notifier that comes next finds nothing left to flush.
        if (result.flush)
            host_request_all(kvm.host, VCPU_REQUEST_TLB_FLUSH);
    }
    host_mmu_unlock(kvm.host);
    host_frame_put(&frame, mapped && frame.writable && !slot.read_only());
    ept_free_unlinked(result.unlinked);
}

EptFault fault_in_failed(int error)
{
    switch (error) {
    case kErrIntr:
        return EptFault::kInterrupted;
    case kErrNoMem:
        return EptFault::kNoMemory;
    case kErrAgain:
    case kErrHwPoison: // the host has sent SIGBUS; KVM_RUN sees it before the guest runs again
        return EptFault::kMapped;
    default:
        return EptFault::kFault;
    }
}

} // namespace

EptFault ept_map(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access)
{
    const u64 gfn = gpa >> 12;
    SlotsReader slots{vmx};
    const MemSlot *slot = slots.find(gfn);
    if (!slot || (access.write && slot->read_only()))
        return EptFault::kMmio;

    const bool was_present = access.readable || access.writable || access.executable;
    if ((was_present || !vmx.kvm->ept.features.accessed_dirty) &&
        is_allowed_already(*vmx.kvm, gfn, needed_permissions(access)))
        return EptFault::kMapped;

    if (!fill_stock(vmx.ept_pages))
        return EptFault::kNoMemory;
    host_frame frame;
    if (int error = host_fault_in(vmx.kvm->host, slot->hva_of_gfn(gfn), access.write, &frame))
        return fault_in_failed(error);
    if (access.write && !frame.writable) {
        host_frame_put(&frame, false);
        return EptFault::kFault;
    }
    map_frame(vmx, slots, *slot, gfn, frame, access.fetch);
    return EptFault::kMapped;
}

namespace {

// An event's delivery (a stack push, the IDT's read) met an address without memory: no instruction
// to emulate.
Outcome mmio_during_delivery(vcpu_vmx &vmx, u64 gpa)
{
    const u64 data[] = {vmx.idt_vectoring_info, vmx.exit_reason, exit_qualification(vmx), gpa,
                        vmx.last_vmentry_cpu};
    return internal_error(vmx, KVM_INTERNAL_ERROR_DELIVERY_EV, data);
}

} // namespace

Outcome handle_ept_violation(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access)
{
    switch (ept_map(vmx, gpa, access)) {
    case EptFault::kMapped:
        return Outcome::resume();
    case EptFault::kMmio:
        if ((vmx.idt_vectoring_info & INTR_INFO_VALID) != 0)
            return mmio_during_delivery(vmx, gpa);
        return emulate_mmio(vmx, gpa);
    case EptFault::kInterrupted:
        return Outcome::error(-static_cast<int>(Errno::kIntr));
    case EptFault::kNoMemory:
        return Outcome::error(-static_cast<int>(Errno::kNoMem));
    case EptFault::kFault:
        break;
    }
    return Outcome::error(-static_cast<int>(Errno::kFault));
}

} // namespace minivmx
