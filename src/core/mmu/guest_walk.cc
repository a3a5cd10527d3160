// SPDX-License-Identifier: GPL-2.0-only
// The guest's paging structures, walked in software: SDM Vol. 3A, chapter 4. All modes but 5-level
// paging, which is not offered to guests (CR4.LA57 stays reserved); it would be one more level in
// begin() below.
#include <minivmx/guest_memory.hpp>

#include <linux/errno.h>

#include <minivmx/cpuid.hpp>
#include <minivmx/dirty_log.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

#include "guest_walk.hpp"

namespace minivmx {

namespace {

constexpr u64 bits(unsigned high, unsigned low)
{
    return ((u64{2} << high) - 1) & ~((u64{1} << low) - 1);
}

// What an entry allows by itself. One of four bytes has no bit 63.
u8 rights_in(u64 entry)
{
    static_assert(kPteWritable >> 1 == kRightWrite && kPteUser >> 1 == kRightUser);
    return static_cast<u8>((entry >> 1 & (kRightWrite | kRightUser)) |
                           (~entry >> 63) * kRightExecute);
}

// Where a walk begins: the table to look into, whose entries map pages at level 1.
struct Start {
    u64 table;
    unsigned level;
};

// Bits that must be 0 in each present entry, and beside these in one that maps a large page. SDM
// Vol. 3A, tables 4-4 to 4-6 (32-bit), 4-8 to 4-11 (PAE), 4-15 to 4-20.
u64 reserved_bits(const AddressState &p)
{
    if (!p.pae && !p.long_mode)
        return 0;
    return bits(p.long_mode ? 51 : 62, p.physical_bits) | (p.nxe ? 0 : kPteNoExecute);
}

u64 reserved_bits_of_large(const AddressState &p, unsigned level)
{
    if (p.pae || p.long_mode)
        return bits(kPageShift + 9 * (level - 1) - 1, 13);
    // A 4 MiB page has its physical address bits 39:32, as far as there are any, in bits 20:13.
    return bits(21, (p.physical_bits < 40 ? p.physical_bits : 40) - 19);
}

struct Walk {
    const AddressState &state;
    const SlotsReader &slots;
    u64 linear;
    Access access;
    bool wide; // 8-byte entries
    u64 reserved;
    u64 address_bits;    // of an entry that leads to a table or a small page
    const MemSlot *last; // where the last entry was: its tables are likely to be together

    Walk(const AddressState &s, const SlotsReader &reader, u64 address, Access kind)
        : state{s}, slots{reader}, linear{address}, access{kind}, wide{s.pae || s.long_mode},
          reserved{reserved_bits(s)},
          address_bits{wide ? bits(s.physical_bits - 1, kPageShift) : 0xfffff000}, last{nullptr}
    {}
    u32 entry_size() const { return wide ? 8 : 4; }
    // Null: there is no memory.
    const MemSlot *slot_of(u64 gfn)
    {
        if (!last || !last->contains(gfn))
            last = slots.find(gfn);
        return last;
    }
    bool user_access() const { return state.user && !access.implicit_supervisor; }
};

// SDM Vol. 3A, 4.7 "Page-Fault Exceptions".
MemoryResult page_fault(const Walk &walk, u32 cause, GuestFault &fault)
{
    u32 error = cause;
    if (walk.access.write)
        error |= PFERR_WRITE;
    if (walk.user_access())
        error |= PFERR_USER;
    if (walk.access.fetch && ((walk.wide && walk.state.nxe) || walk.state.smep))
        error |= PFERR_FETCH;
    fault = {PF_VECTOR, true, error, walk.linear};
    return MemoryResult::kFault;
}

// Whether an entry maps a page above level 1; entries whose bit 7 is reserved come out through
// `bad`.
bool is_large(const Walk &walk, unsigned level, u64 entry, bool &bad)
{
    if (level == 1 || (entry & kPtePageSize) == 0)
        return false;
    if (!walk.wide && !walk.state.pse)
        return false; // the bit is ignored
    bad |= walk.wide && level > 2 && (level == 4 || !walk.state.pages_1g);
    bad |= (entry & reserved_bits_of_large(walk.state, level)) != 0;
    return !bad;
}

u64 large_page_address(const Walk &walk, unsigned page_bits, u64 entry)
{
    if (walk.wide)
        return entry & walk.address_bits & ~bits(page_bits - 1, 0);
    return (entry & 0xffc00000) | (entry & bits(20, 13)) << 19;
}

// Whether the page may be accessed like this: SDM Vol. 3A, 4.6.1.
bool access_allowed(const Walk &walk, u8 rights)
{
    const AddressState &p = walk.state;
    const bool write = (rights & kRightWrite) != 0, user = (rights & kRightUser) != 0;
    const bool execute = (rights & kRightExecute) != 0;
    if (walk.user_access()) {
        if (!user || (walk.access.write && !write))
            return false;
        return !walk.access.fetch || execute;
    }
    if (walk.access.fetch)
        return execute && !(p.smep && user);
    if (p.smap && user && (walk.access.implicit_supervisor || !p.ac))
        return false;
    return !walk.access.write || write || !p.write_protect;
}

// Sets accessed, and dirty in the entry of a page that is written: SDM Vol. 3A, 4.8. False when an
// entry is no longer what the walk saw. Entries that can't be written (in a read-only slot) stay as
// they are.
bool set_flags(Walk &walk, GuestWalk &record)
{
    for (unsigned i = 0; i < record.count; i++) {
        const bool last = i == record.count - 1;
        GuestEntry &used = record.entries[i];
        u64 expected = used.value;
        const u64 wanted = expected | kPteAccessed | (last && walk.access.write ? kPteDirty : 0);
        if (wanted == expected)
            continue;
        const MemSlot *slot = walk.slot_of(used.gpa >> kPageShift);
        if (!slot || slot->read_only())
            continue;
        const u64 hva = slot->hva_of_gfn(used.gpa >> kPageShift) + (used.gpa & (kPageSize - 1));
        const int result = host_cmpxchg_user(hva, &expected, wanted, walk.entry_size());
        if (result == -EAGAIN)
            return false;
        if (result != 0)
            continue;
        used.value = wanted;
        mark_page_dirty(*slot, used.gpa >> kPageShift);
    }
    return true;
}

// False: a PAE page-directory-pointer entry is not present.
bool begin(const Walk &walk, Start &start)
{
    const AddressState &p = walk.state;
    u64 root = p.cr3;
    if (p.pae && !p.long_mode) {
        // Checked for reserved bits when they were loaded; they grant and deny nothing.
        root = p.pdptes[walk.linear >> 30 & 3];
        if ((root & kPtePresent) == 0)
            return false;
    }
    start = {root & walk.address_bits, p.long_mode ? 4u : 2u};
    return true;
}

// A table outside of memory reads as not present, as it does for KVM's walker.
template <class Entry>
u64 read_entry(Walk &walk, u64 gpa)
{
    const MemSlot *slot = walk.slot_of(gpa >> kPageShift);
    if (!slot)
        return 0;
    Entry entry;
    const u64 hva = slot->hva_of_gfn(gpa >> kPageShift) + (gpa & (kPageSize - 1));
    return host_copy_from_user(&entry, hva, sizeof(entry)) ? 0 : entry;
}

enum class WalkEnd : u8 { kDone, kFault, kChanged };

// Entry: u32 with 32-bit paging, else u64.
template <class Entry>
WalkEnd walk_tables(Walk &walk, GuestWalk &record, GuestFault &fault)
{
    constexpr unsigned kIndexBits = sizeof(Entry) == 8 ? 9 : 10;
    auto fail = [&](u32 cause) {
        (void)page_fault(walk, cause, fault);
        return WalkEnd::kFault;
    };
    record.count = 0;
    Start start;
    if (!begin(walk, start))
        return fail(0);

    u64 table = start.table;
    u8 rights = kRightsAll;
    u64 flags = ~u64{0}; // that are set in all entries
    GuestEntry *entry = record.entries;
    unsigned page_bits = kPageShift + (start.level - 1) * kIndexBits;
    for (unsigned level = start.level;; level--, page_bits -= kIndexBits, entry++) {
        const u64 index = walk.linear >> page_bits & ((1u << kIndexBits) - 1);
        const u64 gpa = table + index * sizeof(Entry);
        const u64 value = read_entry<Entry>(walk, gpa);
        *entry = {gpa, value, level, rights};
        if ((value & kPtePresent) == 0)
            return fail(0);
        bool bad = (value & walk.reserved) != 0;
        const bool large = is_large(walk, level, value, bad);
        if (bad)
            return fail(PFERR_PRESENT | PFERR_RSVD);
        rights &= rights_in(value);
        flags &= value;
        table = large ? large_page_address(walk, page_bits, value) : value & walk.address_bits;
        if (large || level == 1)
            break;
    }
    record.count = static_cast<unsigned>(entry - record.entries) + 1;
    record.rights = rights;
    record.page_bits = page_bits;
    record.gpa = table | (walk.linear & ((u64{1} << page_bits) - 1));
    if (!access_allowed(walk, rights))
        return fail(PFERR_PRESENT);
    if ((flags & kPteAccessed) != 0 && (!walk.access.write || (entry->value & kPteDirty) != 0))
        return WalkEnd::kDone;
    return set_flags(walk, record) ? WalkEnd::kDone : WalkEnd::kChanged;
}

} // namespace

MemoryResult walk_guest_tables(vcpu_vmx &vmx, const AddressState &state, u64 linear, Access access,
                               GuestWalk &record, GuestFault &fault)
{
    // Another vCPU that keeps changing the tables must not keep this thread in the kernel.
    const SlotsReader slots{vmx};
    Walk walk{state, slots, linear, access};
    for (unsigned attempt = 0; attempt < 64; attempt++) {
        const WalkEnd end = walk.wide ? walk_tables<u64>(walk, record, fault)
                                      : walk_tables<u32>(walk, record, fault);
        if (end != WalkEnd::kChanged)
            return end == WalkEnd::kDone ? MemoryResult::kOk : MemoryResult::kFault;
    }
    // As if the walk had come before the change that makes the page not present; the guest tries
    // again.
    return page_fault(walk, 0, fault);
}

bool maps_used_page(const AddressState &state, u64 value, u8 &rights)
{
    constexpr u64 kUsed = kPtePresent | kPteAccessed;
    rights = rights_in(value);
    return (value & kUsed) == kUsed && (value & reserved_bits(state)) == 0;
}

MemoryResult translate(vcpu_vmx &vmx, const AddressState &state, u64 linear, Access access,
                       u64 &gpa, GuestFault &fault)
{
    if (!state.paging) {
        gpa = linear & 0xffffffff;
        return MemoryResult::kOk;
    }
    GuestWalk record;
    const MemoryResult result = walk_guest_tables(vmx, state, linear, access, record, fault);
    if (result == MemoryResult::kOk)
        gpa = record.gpa;
    return result;
}

namespace {

// With EPT the CPU walks the guest's tables by its own abilities, whatever the guest's CPUID says;
// so must we, or an instruction would fault that the CPU lets pass. Without, CPUID is the law.
u32 physical_bits(const vcpu_vmx &vmx)
{
    const u32 bits = hardware.params.ept ? hardware.host.max_phys_bits : guest_physical_bits(vmx);
    return bits < 32 ? 32 : bits > 52 ? 52 : bits; // SDM Vol. 3A, 4.1.4; user space sets any value
}

bool has_1g_pages(const vcpu_vmx &vmx)
{
    return hardware.params.ept ? supports(CpuidFeature::kPages1G) : guest_has_1g_pages(vmx);
}

} // namespace

AddressState paging_state(vcpu_vmx &vmx)
{
    // The guest has none of these to itself, but for CR0.WP with EPT: a VMREAD saved at each fault.
    constexpr u64 kCr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
    constexpr u64 kCr4 = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_SMEP | X86_CR4_SMAP;
    const u64 cr0 = vmx.cr0_guest_owned_bits & kCr0 ? guest_cr0(vmx) : vmx.cr0;
    const u64 cr4 = vmx.cr4_guest_owned_bits & kCr4 ? guest_cr4(vmx) : vmx.cr4;
    AddressState s{};
    s.protected_mode = (cr0 & X86_CR0_PE) != 0;
    s.paging = (cr0 & X86_CR0_PG) != 0;
    s.long_mode = is_long_mode(vmx);
    if (!s.paging)
        return s;
    s.cr3 = guest_cr3(vmx);
    s.physical_bits = physical_bits(vmx);
    s.pages_1g = has_1g_pages(vmx);
    s.pae = (cr4 & X86_CR4_PAE) != 0;
    s.pse = (cr4 & X86_CR4_PSE) != 0;
    s.write_protect = (cr0 & X86_CR0_WP) != 0;
    s.smep = (cr4 & X86_CR4_SMEP) != 0;
    s.smap = (cr4 & X86_CR4_SMAP) != 0;
    s.nxe = (vmx.efer & EFER_NX) != 0;
    for (u32 i = 0; s.pae && !s.long_mode && i < 4; i++)
        s.pdptes[i] = guest_pdptr(vmx, i);
    return s;
}

AddressState address_state(vcpu_vmx &vmx)
{
    AddressState s = paging_state(vmx);
    s.cs_rights = segment_rights(vmx, kCs);
    s.code_64 = s.long_mode && (s.cs_rights & AR_L) != 0;
    s.user = guest_cpl(vmx) == 3;
    s.ac = s.smap && (read_rflags(vmx) & X86_EFLAGS_AC) != 0;
    return s;
}

} // namespace minivmx
