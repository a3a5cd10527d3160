// SPDX-License-Identifier: GPL-2.0-only
// A walk through the guest's paging structures with all that it met on its way, for who builds
// tables from it: see shadow_fault.cc. Everyone else wants translate(), guest_memory.hpp.
#pragma once

#include <minivmx/guest_memory.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

// Bits of an entry; SDM Vol. 3A, tables 4-5 to 4-20. 4-byte entries have no bit 63.
inline constexpr u64 kPtePresent = bit64(0), kPteWritable = bit64(1), kPteUser = bit64(2),
                     kPteAccessed = bit64(5), kPteDirty = bit64(6), kPtePageSize = bit64(7),
                     kPteGlobal = bit64(8), kPteNoExecute = bit64(63);

// What entries allow: an access needs it of every one it is translated by. SDM Vol. 3A, 4.6.
inline constexpr u8 kRightWrite = 1, kRightUser = 2, kRightExecute = 4, kRightsAll = 7;

// An entry that a walk used.
struct GuestEntry {
    u64 gpa;
    u64 value; // with the flags that the walk has set
    unsigned level;
    u8 above; // rights by the entries before this one
};

struct GuestWalk {
    GuestEntry entries[4]; // from the root on; PAE's page-directory-pointer entries are registers
    unsigned count;
    u8 rights;          // of the page
    unsigned page_bits; // log2 of its size
    u64 gpa;            // of the linear address
};

// Walks, checks, and sets accessed and dirty flags, as the CPU would for this access. kOk, with the
// record complete, or kFault. Paging is on. [sleep]
[[nodiscard]] MemoryResult walk_guest_tables(vcpu_vmx &vmx, const AddressState &state, u64 linear,
                                             Access access, GuestWalk &record, GuestFault &fault);

// Whether the entry of a level-1 table maps a page, and has been used for that: present, accessed,
// without reserved bits. rights: what it allows by itself.
bool maps_used_page(const AddressState &state, u64 value, u8 &rights);

} // namespace minivmx
