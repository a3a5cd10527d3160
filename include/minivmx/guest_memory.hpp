// SPDX-License-Identifier: GPL-2.0-only
// Guest memory as the guest addresses it: physical, linear, and by segment and offset. For the
// emulator and for whatever else must act in the guest's place; guests themselves go through EPT.
//
// All of it may sleep (user space's pages are faulted in), needs the vCPU loaded, and treats the
// guest's tables as hostile: they may change while they are walked, and point anywhere.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct SegmentRegister;
struct vcpu_vmx;

// An exception the access raises in the guest.
struct GuestFault {
    u8 vector;
    bool has_error_code;
    u32 error_code;
    u64 address; // CR2 of a page fault
};
// Queues it for the next entry.
void inject_fault(vcpu_vmx &vmx, const GuestFault &fault);

enum class MemoryResult : u8 {
    kOk,
    kFault, // the GuestFault says which exception the guest gets
    kMmio,  // no memory behind some of it: no slot, a write to a read-only one, nothing at its hva
};

// How an access is made; SDM Vol. 3A, 4.6 "Access Rights".
struct Access {
    bool write = false;
    bool fetch = false;
    bool implicit_supervisor = false; // by the CPU itself: descriptor tables, task state
};

// ---- Physical addresses -----------------------------------------------------

// All or nothing is not promised: on kMmio a part may have been written. Never kFault.
[[nodiscard]] MemoryResult read_guest_phys(vcpu_vmx &vmx, u64 gpa, void *to, u64 size);
[[nodiscard]] MemoryResult write_guest_phys(vcpu_vmx &vmx, u64 gpa, const void *from, u64 size);
// Replaces size (1, 2, 4, 8) bytes, aligned to their size, atomically, if they are *expected; else
// swapped is false and *expected what is there. kOk or kMmio.
[[nodiscard]] MemoryResult cmpxchg_guest_phys(vcpu_vmx &vmx, u64 gpa, u64 &expected, u64 desired,
                                              u32 size, bool &swapped);

// ---- Linear addresses -------------------------------------------------------

// What decides over addresses and translations, read from the vCPU once for an instruction.
struct AddressState {
    u64 cr3;
    u64 pdptes[4];       // PAE: the four registers (SDM Vol. 3A, 4.4.1)
    u32 physical_bits;   // MAXPHYADDR
    bool paging;         // CR0.PG
    bool pae, long_mode; // CR4.PAE, EFER.LMA
    bool pse, pages_1g;  // large pages
    bool write_protect, smep, smap, nxe;
    bool user;           // CPL 3
    bool ac;             // RFLAGS.AC
    bool protected_mode; // CR0.PE
    bool code_64;        // 64-bit mode: flat segments, 64-bit linear addresses
    u32 cs_rights;       // access rights of CS
};
AddressState address_state(vcpu_vmx &vmx);
// Only what doesn't depend on the code that runs: without user, ac, code_64 and cs_rights.
AddressState paging_state(vcpu_vmx &vmx);

// Guest linear to guest-physical, as the CPU would: sets accessed and dirty flags, and on kFault
// says which page fault the CPU would raise. kOk or kFault.
[[nodiscard]] MemoryResult translate(vcpu_vmx &vmx, const AddressState &state, u64 linear,
                                     Access access, u64 &gpa, GuestFault &fault);

// size bytes at a linear address; crossing a page is fine, both pages are translated before
// anything is written. kMmio: some of it isn't memory.
[[nodiscard]] MemoryResult read_guest_virt(vcpu_vmx &vmx, const AddressState &state, u64 linear,
                                           void *to, u32 size, Access access, GuestFault &fault);
[[nodiscard]] MemoryResult write_guest_virt(vcpu_vmx &vmx, const AddressState &state, u64 linear,
                                            const void *from, u32 size, GuestFault &fault);

// ---- Segments ---------------------------------------------------------------

// The linear address of size bytes at segment:offset, after the checks that the mode asks for:
// presence, type, limit, canonical form (SDM Vol. 3A, 5.3 to 5.5; Vol. 1, 3.3.7.1). offset is
// already as wide as the address size. kOk or kFault (#GP, or #SS for the stack segment).
[[nodiscard]] MemoryResult segment_to_linear(const vcpu_vmx &vmx, const AddressState &state,
                                             u8 segment, u64 offset, u32 size, Access access,
                                             u64 &linear, GuestFault &fault);
// The same for a segment that isn't in its register, as an inner stack.
[[nodiscard]] MemoryResult register_to_linear(const AddressState &state, u8 segment,
                                              const SegmentRegister &reg, u64 offset, u32 size,
                                              Access access, u64 &linear, GuestFault &fault);
// The linear address n bytes on, as wide as linear addresses are in this mode.
inline u64 advance_linear(const AddressState &state, u64 linear, u64 n)
{
    return state.code_64 ? linear + n : static_cast<u32>(linear + n);
}

} // namespace minivmx
