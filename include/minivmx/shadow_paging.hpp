// SPDX-License-Identifier: GPL-2.0-only
// Shadow paging as one vCPU sees it: the tables it runs on, and the exits that only a guest without
// EPT takes. What the tables are, and how they are kept, is shadow.hpp's.
//
// The guest's CR3 names the guest's tables, the CPU's names ours. Ours hold what the guest's said
// when an access last missed in them, as a TLB does, and like a TLB they need not follow a change
// until the guest flushes: SDM Vol. 3A, 4.10.4. So:
// - #PF: the guest's tables are walked as the CPU would (guest_walk.hpp). A page fault of the
//   guest's own is injected; else the walk's result is entered.
// - MOV to CR3, INVPCID, changes of CR4: tables that the guest may have written since are compared
//   with the guest's again (shadow_sync_due).
// - INVLPG: only the entries that translate this address.
// The CPU's TLB is flushed with a guest's flush, and whenever entries go.
#pragma once

#include <minivmx/guest_memory.hpp>
#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

// Before an entry: tables for the guest's CR3 and mode, in step with the guest's where it has
// flushed. Does nothing with EPT. False: no entry now; outcome is an error for KVM_RUN, or says to
// try again. [sleep]
[[nodiscard]] bool prepare_shadow_root(vcpu_vmx &vmx, Outcome &outcome);

// What was made of the guest's tables is not to be relied on any more. Does nothing with EPT.
// [sleep]
void forget_shadow_tables(kvm_vm &kvm);

// The vCPU goes: it needs no tables any more. [sleep]
void release_shadow_root(vcpu_vmx &vmx);

// #PF, also one during the delivery of an event, which is then delivered anew. [sleep]
Outcome handle_shadow_fault(vcpu_vmx &vmx, u64 linear, u32 error_code);
// Whether such an exit is the guest's own page fault by its tables, and which. [sleep]
bool guest_faults(vcpu_vmx &vmx, u64 linear, u32 error_code, GuestFault &fault);

// INVLPG, and INVPCID of one PCID or (address not null) one address there, in the guest's place;
// with EPT, too. [sleep]
void invalidate_guest_address(vcpu_vmx &vmx, u64 linear);
void invalidate_pcid(vcpu_vmx &vmx, u64 pcid, const u64 *address);
Outcome handle_invlpg(vcpu_vmx &vmx);

} // namespace minivmx
