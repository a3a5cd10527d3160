// SPDX-License-Identifier: GPL-2.0-only
// An EPT violation: from a guest-physical address through the slot and the owner's page tables to
// an EPT entry.
#include <minivmx/ept.hpp>

#include <minivmx/dirty_log.hpp>
#include <minivmx/emulate.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/result.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

#include "ept_entry.hpp"

namespace minivmx {

u64 ept_leaf_value(const EptFeatures &features, const MemSlot &slot, const host_frame &frame,
                   unsigned level, bool write)
{
    // Ordinary memory is cached as the host caches it, whatever the guest's PAT says: nothing that
    // bypasses the caches reads it. A device's registers are not.
    u64 value = kEptRead | (frame.device ? 0 : kEptMemoryTypeWriteBack | kEptIgnorePat);
    value |= (frame.pfn & ~(ept_span(level) - 1)) << 12 & kEptAddressMask;
    const bool owner_writable = frame.writable && !slot.read_only();
    const bool written = owner_writable && (write || !slot.logged());
    if (owner_writable)
        value |= kEptOwnerWritable;
    if (written || (owner_writable && hardware.params.pml))
        value |= kEptWrite;
    if (level == 1 || !features.nx_huge_pages)
        value |= kEptExecute;
    if (level > 1)
        value |= kEptLarge;
    // The access that faulted will set them anyway; this way the CPU need not.
    if (features.accessed_dirty)
        value |= kEptAccessed | (written ? kEptDirty : 0);
    return value;
}

namespace {

constexpr int kErrHwPoison = -133, kErrAgain = -11, kErrIntr = -4, kErrNoMem = -12,
              kErrAccess = -13;

u64 needed_permissions(const EptViolationInfo &access)
{
    return (access.read ? kEptRead : 0) | (access.write ? kEptWrite : 0) |
           (access.fetch ? kEptExecute : 0);
}

// Pages for every table that a mapping can lack, before the mmu lock is taken. More are welcome,
// not needed.
bool fill_stock(EptPageStock &stock)
{
    if (stock.count >= EptPageStock::kLeast) [[likely]]
        return true;
    while (stock.count < EptPageStock::kMost) {
        void *page = host_page_alloc();
        if (!page)
            return stock.count >= EptPageStock::kLeast;
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

u64 permissions_of(u64 entry)
{
    return (ept_is_tracked(entry) ? entry >> kEptTrackedShift : entry) & kEptPermissions;
}

// Whether what is mapped allows the access, without a question to the owner: another vCPU was
// faster; or the entry was made not present to see whether it is used, or not writable to see
// whether it is written. Also true when the slots changed: then the guest tries again.
bool resolve_mapped(vcpu_vmx &vmx, const SlotsReader &slots, const MemSlot &slot, u64 gfn,
                    u64 needed)
{
    kvm_vm &kvm = *vmx.kvm;
    bool resolved = true;
    host_mmu_lock(kvm.host);
    if (slots.current()) {
        unsigned level;
        u64 *entry = find_entry(kvm.ept, gfn, level);
        u64 value = ept_load(entry);
        if (ept_is_tracked(value)) {
            value = (value & ~(kEptPermissions << kEptTrackedShift)) | permissions_of(value);
            ept_store(entry, value);
        }
        // A large page of a logged slot has to be split first.
        const bool may_write = (value & kEptOwnerWritable) != 0 && (level == 1 || !slot.logged());
        if ((needed & ~value) == kEptWrite && may_write) {
            const u64 added = kEptWrite | (kvm.ept.features.accessed_dirty ? kEptDirty : 0);
            value = __atomic_or_fetch(entry, added, __ATOMIC_SEQ_CST);
            mark_page_dirty(slot, gfn);
        }
        resolved = ept_in_use(value) && (value & needed) == needed;
    }
    host_mmu_unlock(kvm.host);
    return resolved;
}

// The highest level at which one leaf can map gfn: the owner's mapping must be as large, all of it
// inside the slot and equally aligned in both address spaces.
unsigned leaf_level(const EptFeatures &features, const MemSlot &slot, u64 gfn,
                    const host_frame &frame, bool fetch)
{
    if (slot.logged() || (features.nx_huge_pages && fetch))
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

struct MapResult {
    bool flush; // something that a CPU may have cached is no longer so
    u64 *unlinked;
};

struct Leaf {
    u64 *entry;
    unsigned level;
};

// Fills a new table with what a large leaf of `level` maps, in leaves one level below.
void fill_from_leaf(u64 *table, u64 leaf, unsigned level, const EptFeatures &features)
{
    const u64 step = ept_span(level - 1) << 12;
    if (level == 2) {
        leaf &= ~kEptLarge;
        if (features.nx_huge_pages) // it was not executable only for being large
            leaf |= ept_is_tracked(leaf) ? kEptExecute << kEptTrackedShift : kEptExecute;
    }
    for (unsigned i = 0; i < kEptEntries; i++)
        ept_store(&table[i], leaf + i * step);
}

// The entry for gfn in the table of this level. Tables on the way that aren't there are made from
// the stock; larger leaves there are split. The mmu lock is held.
u64 *make_path(Ept &ept, EptPageStock &stock, u64 gfn, unsigned level, MapResult &result)
{
    u64 *table = ept.root;
    for (unsigned at = kEptLevels; at > level; at--) {
        u64 *entry = &table[ept_index(gfn, at)];
        const u64 value = ept_load(entry);
        if (value != 0 && !ept_is_leaf(value, at)) {
            table = ept_table_of(value);
            continue;
        }
        table = static_cast<u64 *>(stock.pages[--stock.count]);
        if (value != 0) {
            fill_from_leaf(table, value, at, ept.features);
            // A CPU should not have the same page in two sizes: SDM Vol. 3A, 4.10.2.3.
            result.flush = true;
        }
        ept_store(entry, host_page_phys(table) | kEptPermissions);
    }
    return &table[ept_index(gfn, level)];
}

void write_leaf(u64 *entry, u64 value, MapResult &result)
{
    const u64 old = ept_load(entry);
    const bool same_page = ept_in_use(old) && ((old ^ value) & kEptAddressMask) == 0;
    // What it allowed it still may: else a notifier would have taken it away.
    if (same_page)
        value |= permissions_of(old) | (old & (kEptAccessed | kEptDirty));
    ept_store(entry, value);
    result.flush |= ept_in_use(old) && !same_page;
}

// The place for a leaf of this level, making the tables above it from the stock. Where a table
// already stands there, the leaf goes below it, unless the table is empty. The mmu lock is held.
Leaf make_place(Ept &ept, EptPageStock &stock, u64 gfn, unsigned level, MapResult &result)
{
    u64 *entry = make_path(ept, stock, gfn, level, result);
    while (level > 1) {
        const u64 old = ept_load(entry);
        if (old == 0 || ept_is_leaf(old, level))
            break;
        u64 *table = ept_table_of(old);
        if (ept_table_is_empty(table)) {
            ept_store(entry, 0);
            ept_unlink_table(table, level - 1, result.unlinked);
            result.flush = true;
            break;
        }
        entry = &table[ept_index(gfn, --level)];
    }
    return {entry, level};
}

// Enters what was found and, perhaps, what lies around it. The mmu lock is held.
MapResult enter_frame(vcpu_vmx &vmx, const MemSlot &slot, u64 gfn, const host_frame &frame,
                      const EptViolationInfo &access)
{
    Ept &ept = vmx.kvm->ept;
    MapResult result{};
    const unsigned wanted = leaf_level(ept.features, slot, gfn, frame, access.fetch);
    const Leaf leaf = make_place(ept, vmx.ept_pages, gfn, wanted, result);
    write_leaf(leaf.entry, ept_leaf_value(ept.features, slot, frame, leaf.level, access.write),
               result);
    if (access.write)
        mark_page_dirty(slot, gfn);
    // Where this page had to be made, the next ones, too.
    if (leaf.level == 1 && frame.at_hand)
        ept_map_around(vmx.kvm->host, ept, slot, gfn, leaf.entry, access.write);
    return result;
}

// Maps the frame, unless the owner's mapping or the slots changed meanwhile.
void map_frame(vcpu_vmx &vmx, const SlotsReader &slots, const MemSlot &slot, u64 gfn,
               host_frame &frame, const EptViolationInfo &access)
{
    host_vm *host = vmx.kvm->host;
    MapResult result{};
    host_mmu_lock(host);
    const bool usable = slots.current() && !host_mmu_retry(host, &frame, slot.hva_of_gfn(gfn));
    if (usable) {
        result = enter_frame(vmx, slot, gfn, frame, access);
        // Under the lock: a notifier that comes next finds nothing left to flush.
        if (result.flush)
            host_request_all(host, VCPU_REQUEST_TLB_FLUSH);
    }
    host_frame_put(&frame, usable && frame.writable && !slot.read_only());
    host_mmu_unlock(host);
    ept_free_unlinked(result.unlinked);
}

// ---- Places without a slot --------------------------------------------------

// So that the next access there exits as a misconfiguration. A guest that tries all of its address
// space shall not fill the host's memory with tables for that.
void remember_mmio(vcpu_vmx &vmx, const SlotsReader &slots, u64 gfn)
{
    constexpr u32 kMaxMmioTables = 4096;
    kvm_vm &kvm = *vmx.kvm;
    Ept &ept = kvm.ept;
    if (gfn > ept.features.max_gfn || !fill_stock(vmx.ept_pages))
        return;
    host_mmu_lock(kvm.host);
    if (slots.current() && ept.mmio_tables < kMaxMmioTables) {
        const u32 stock = vmx.ept_pages.count;
        MapResult result{};
        u64 *entry = make_path(ept, vmx.ept_pages, gfn, 1, result);
        ept.mmio_tables += stock - vmx.ept_pages.count;
        if (ept_load(entry) == 0)
            ept_store(entry, kEptMmio);
    }
    host_mmu_unlock(kvm.host);
}

// They stay where they are until the VM goes.
EptFault map_private_page(vcpu_vmx &vmx, u64 gfn, const void *page)
{
    kvm_vm &kvm = *vmx.kvm;
    if (!fill_stock(vmx.ept_pages))
        return EptFault::kNoMemory;
    u64 value = host_page_phys(page) | kEptPermissions | kEptMemoryTypeWriteBack | kEptIgnorePat;
    if (kvm.ept.features.accessed_dirty)
        value |= kEptAccessed | kEptDirty;
    MapResult result{};
    host_mmu_lock(kvm.host);
    ept_store(make_path(kvm.ept, vmx.ept_pages, gfn, 1, result), value);
    host_mmu_unlock(kvm.host);
    return EptFault::kMapped;
}

} // namespace

EptFault fault_in_failed(int error)
{
    switch (error) {
    case kErrIntr:
        return EptFault::kInterrupted;
    case kErrNoMem:
        return EptFault::kNoMemory;
    case kErrAccess: // a device that is only there to be read: KVM makes the write an exit
        return EptFault::kMmio;
    case kErrAgain:
    case kErrHwPoison: // the host has sent SIGBUS; KVM_RUN sees it before the guest runs again
        return EptFault::kMapped;
    default:
        return EptFault::kFault;
    }
}

Outcome fault_outcome(EptFault result)
{
    switch (result) {
    case EptFault::kInterrupted:
        return Outcome::error(-static_cast<int>(Errno::kIntr));
    case EptFault::kNoMemory:
        return Outcome::error(-static_cast<int>(Errno::kNoMem));
    case EptFault::kFault:
        return Outcome::error(-static_cast<int>(Errno::kFault));
    case EptFault::kMapped:
    case EptFault::kMmio:
        break;
    }
    return Outcome::resume();
}

EptFault ept_map(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access)
{
    const u64 gfn = gpa >> 12;
    SlotsReader slots{vmx};
    const MemSlot *slot = slots.find(gfn);
    if (const void *page = slot ? nullptr : private_page(*vmx.kvm, gfn))
        return map_private_page(vmx, gfn, page);
    if (!slot)
        remember_mmio(vmx, slots, gfn);
    if (!slot || (access.write && slot->read_only()))
        return EptFault::kMmio;

    const bool was_present = access.readable || access.writable || access.executable;
    if ((was_present || !vmx.kvm->ept.features.accessed_dirty) &&
        resolve_mapped(vmx, slots, *slot, gfn, needed_permissions(access)))
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
    map_frame(vmx, slots, *slot, gfn, frame, access);
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
    const EptFault result = ept_map(vmx, gpa, access);
    if (result != EptFault::kMmio)
        return fault_outcome(result);
    if ((vmx.idt_vectoring_info & INTR_INFO_VALID) != 0)
        return mmio_during_delivery(vmx, gpa);
    return emulate_mmio(vmx, gpa);
}

// Where a slot came meanwhile, the emulator finds its memory.
Outcome handle_ept_misconfig(vcpu_vmx &vmx, u64 gpa)
{
    return emulate_mmio(vmx, gpa);
}

} // namespace minivmx
