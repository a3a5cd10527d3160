// SPDX-License-Identifier: GPL-2.0-only
// Guest memory as the guest addresses it: physical, linear, and by segment and offset. For the emulator and for whatever
// else must act in the guest's place; guests themselves go through EPT.
//
// All of it may sleep (user space's pages are faulted in), needs the vCPU loaded, and treats the guest's tables as
// hostile: they may change while they are walked, and point anywhere.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

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

enum class [[nodiscard]] MemoryResult : u8 {
    kOk,
    kFault,   // the GuestFault says which exception the guest gets
    kMmio,    // some of it has no memory behind it: no slot, a write to a read-only one, or the owner unmapped it
};

// How an access is made; SDM Vol. 3A, 4.6 "Access Rights".
struct Access {
    bool write = false;
    bool fetch = false;
    bool implicit_supervisor = false; // by the CPU itself: descriptor tables, task state
};

// ---- Physical addresses ------------------------------------------------------------------------------------------

// All or nothing is not promised: on kMmio a part may have been written. Never kFault.
MemoryResult read_guest_phys(vcpu_vmx &vmx, u64 gpa, void *to, u64 size);
MemoryResult write_guest_phys(vcpu_vmx &vmx, u64 gpa, const void *from, u64 size);
// Whether memory that can be read (written) lies at gpa.
bool guest_phys_is_memory(vcpu_vmx &vmx, u64 gpa, bool write);

// ---- Linear addresses ----------------------------------------------------------------------------------------------

// What decides over a translation, read from the vCPU once for an instruction.
struct PagingState {
    u64 cr3;
    u64 pdptes[4];   // PAE: the four registers (SDM Vol. 3A, 4.4.1)
    u64 physical_address_mask; // bits below MAXPHYADDR
    bool paging, pae, long_mode; // CR0.PG, CR4.PAE, EFER.LMA
    bool pse;
    bool write_protect, smep, smap, nxe;
    bool pages_1g;
    bool user; // CPL 3
    bool ac;   // RFLAGS.AC
};
PagingState paging_state(vcpu_vmx &vmx);

struct Translation {
    u64 gpa;
    GuestFault fault; // valid on kFault
};

// Guest linear to guest-physical, as the CPU would: sets accessed and dirty flags, reports the page fault it would raise.
// kOk or kFault.
MemoryResult translate(vcpu_vmx &vmx, const PagingState &paging, u64 linear, Access access, Translation &result);

// Crossing pages is fine. kMmio: some of it isn't memory.
MemoryResult read_guest_virt(vcpu_vmx &vmx, u64 linear, void *to, u32 size, GuestFault &fault);
MemoryResult write_guest_virt(vcpu_vmx &vmx, u64 linear, const void *from, u32 size, GuestFault &fault);

// ---- Segments --------------------------------------------------------------------------------------------------------

// The linear address of size bytes at segment:offset, after the checks that the mode asks for: presence, type, limit,
// canonical form. offset is already as wide as the address size. kOk or kFault (#GP, or #SS for the stack segment).
MemoryResult segment_to_linear(vcpu_vmx &vmx, u8 segment, u64 offset, u32 size, Access access, u64 &linear,
                               GuestFault &fault);

} // namespace minivmx
