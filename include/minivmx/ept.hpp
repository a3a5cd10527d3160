// SPDX-License-Identifier: GPL-2.0-only
// Extended page tables: guest-physical to host-physical, SDM Vol. 3C, 29.3 "The Extended Page Table
// Mechanism (EPT)".
//
// One set of tables a VM, of four levels: 48 bits of guest-physical address, which is why no slot
// may lie above (a fifth level would start here: kEptLevels, ept_pointer() and the width that
// memslot.cc checks).
//
// Locking: entries change only under the VM's mmu lock (the CPU sets accessed and dirty flags at
// any time). Tables are allocated before it is taken, each vCPU keeping a small stock of pages for
// that (EptPageStock); they are unlinked under it, and freed after every vCPU has flushed, since a
// CPU may walk them until then.
//
// A leaf never holds a reference on its page: the host's mmu notifiers call
// core_mmu_unmap_hva_range() before a page goes elsewhere. The page was marked dirty when a
// writable leaf was made; the host can't clean it without a notifier call.
#pragma once

#include <minivmx/exit.hpp>
#include <minivmx/host.h>
#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

inline constexpr unsigned kEptLevels = 4;
// Widest guest-physical address that the tables translate, in bits.
inline constexpr unsigned kEptAddressBits = 12 + 9 * kEptLevels;

// What the CPU and the host allow; the same for all VMs of a module.
struct EptFeatures {
    bool enabled;        // EPT is used at all
    bool accessed_dirty; // accessed and dirty flags in entries (EPTP bit 6)
    bool pages_2m, pages_1g;
    bool nx_huge_pages; // no executable large page: iTLB multihit
    bool write_back;    // the tables themselves may be cached as write-back; else uncacheable
    bool invept_single_context;
    bool vpid; // guests have VPIDs
    bool invvpid_single_context;
    u64 max_gfn; // the last guest frame that a slot may hold
};

// Pages for tables, taken before the mmu lock. Of one vCPU. Filled when a mapping might lack one,
// and then for several, so that a guest that goes through new memory waits for the allocator but
// rarely.
struct EptPageStock {
    static constexpr u32 kLeast = kEptLevels - 1, kMost = 24;
    void *pages[kMost];
    u32 count;
};

// A VM's tables. All zero is a VM without any (ept=0).
struct Ept {
    u64 *root;       // the level-4 table
    u64 *unlinked;   // tables out of use that no vCPU can walk any more, freed with the VM
    u32 mmio_tables; // how many were made only to remember places without memory
    EptFeatures features;
};

// EPT's part of core_vm_create()/core_vm_destroy(). -ENOMEM. Creates nothing when features.enabled
// is false. [sleep]
int ept_create(kvm_vm &kvm, const EptFeatures &features);
void ept_destroy(kvm_vm &kvm);
// The features of this module, from hardware_setup()'s result.
EptFeatures ept_features();
// The EPTP for the VMCS (SDM Vol. 3C, 25.6.11, table 25-9).
u64 ept_pointer(const Ept &ept);

// What the memory management keeps for one vCPU: its reader's hazard and its stock of pages.
void mmu_vcpu_create(vcpu_vmx &vmx);  // [sleep], before it runs
void mmu_vcpu_destroy(vcpu_vmx &vmx); // [sleep]

// How an access to a guest-physical address was resolved.
enum class EptFault : u8 {
    kMapped,      // try again: it is mapped now, or something changed meanwhile
    kMmio,        // no slot there, or a write to a read-only slot: emulate
    kInterrupted, // a fatal signal
    kNoMemory,
    kFault, // user space has nothing, or nothing suitable, mapped at the slot's hva
};
// What an error of host_fault_in() comes to, and what is KVM_RUN's outcome of all but kMmio.
EptFault fault_in_failed(int error);
Outcome fault_outcome(EptFault result);
// Maps the page behind gpa for the access. [sleep]
EptFault ept_map(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access);

// EXIT_REASON_EPT_VIOLATION: maps memory or emulates MMIO. KVM_RUN's answers are KVM's: -EFAULT
// when the slot's memory isn't there, -ENOMEM, -EINTR. [sleep]
Outcome handle_ept_violation(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access);
// EXIT_REASON_EPT_MISCONFIG: an access where ept_map() has found no memory before. [sleep]
Outcome handle_ept_misconfig(vcpu_vmx &vmx, u64 gpa);

// Drops the vCPU's stale_translations on this CPU; none is left. In VMX operation, [atomic].
void flush_guest_tlb(vcpu_vmx &vmx);

// Drops the translations of [base_gfn, end_gfn), without flushing. Tables that are empty now are
// added to the list unlinked, to be freed by ept_free_unlinked() after the flush. The mmu lock is
// held. Returns whether anything was there. [atomic]
bool ept_zap_gfn_range(Ept &ept, u64 base_gfn, u64 end_gfn, u64 *&unlinked);
void ept_free_unlinked(u64 *unlinked);
// As before, but leaves the tables in place: for the mmu notifiers, which may not free. [atomic]
bool ept_zap_leaves(Ept &ept, u64 base_gfn, u64 end_gfn);
// Makes the next write to each of these frames show: small pages lose their dirty flag, if
// by_dirty_flag, else the right to be written; large pages always lose that. Returns whether
// anything changed. The mmu lock is held. [atomic]
bool ept_watch_writes(Ept &ept, u64 base_gfn, u64 end_gfn, bool by_dirty_flag);
// The entry that ends the walk for gfn, and its level: a leaf, or 0 for nothing. The mmu lock is
// held. [atomic]
u64 ept_lookup(const Ept &ept, u64 gfn, unsigned &level);
// Whether one of the frames was accessed since `forget` was last set. The mmu lock is held.
// [atomic]
bool ept_age(Ept &ept, u64 base_gfn, u64 end_gfn, bool forget);

} // namespace minivmx
