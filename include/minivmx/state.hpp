// SPDX-License-Identifier: GPL-2.0-only
// The guest's architectural state: what src/core/state does for creating, running and describing a
// vCPU. The vCPU is loaded; may sleep unless it says otherwise.
#pragma once

#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct CrAccessInfo;
struct kvm_vm;
struct vcpu_vmx;

// ----- Creation ----------------------------------------------------------------------------------

// MSR values after RESET; needs no VMCS.
void init_guest_msrs(vcpu_vmx &vmx);
// Which MSRs the guest reads and writes without an exit: fills vmx.msr_bitmap (one page, all of
// it).
void init_msr_bitmap(vcpu_vmx &vmx);
// CR0 and CR4 guest/host masks: which bits the guest changes without an exit.
void set_cr_guest_host_masks(vcpu_vmx &vmx);
// The same where they change while the guest has values: a bit that changes hands keeps its own.
void update_cr_guest_host_masks(vcpu_vmx &vmx);
// With EPT but without "unrestricted guest", a guest without paging runs on page tables of ours.
bool runs_on_identity_map(vcpu_vmx &vmx);
// A new guest CPUID: bits of CR4 that it lacks are reserved, and not the guest's to change.
void update_cr4_reserved_bits(vcpu_vmx &vmx);
// Registers, segments and descriptor tables as after RESET, or INIT: SDM Vol. 3A, 10.1.1, table
// 10-1. Waiting events are forgotten. INIT keeps MSRs, the TSC, FPU and XCR0, and CR0.CD and NW;
// the local APIC is the caller's to reset.
void reset_guest_state(vcpu_vmx &vmx, bool init = false);
// Sets the TSC offset: the guest's TSC is the host's plus this.
void write_tsc_offset(vcpu_vmx &vmx, u64 offset);

// What the guest's RDTSC would read now, and how many ticks of the host's TSC make so many of the
// guest's.
u64 guest_tsc(const vcpu_vmx &vmx);
u64 guest_tsc_at(const vcpu_vmx &vmx, u64 host_tsc);
u64 guest_to_host_ticks(const vcpu_vmx &vmx, u64 ticks);

// ----- Control registers -------------------------------------------------------------------------

// Values no CPU could have; reserved bits of CR4 are those of this guest's CPUID and of what is
// supported at all.
bool is_valid_cr0(u64 cr0);
bool is_valid_cr4(const vcpu_vmx &vmx, u64 cr4);

// What decides how linear addresses are made, set as a whole and as it is: for KVM_SET_SREGS and
// RESET. Values that VM entry refuses are told of there.
struct PagingRegisters {
    u64 cr0, cr3, cr4, efer;
};
void write_paging_state(vcpu_vmx &vmx, const PagingRegisters &registers);

// EFER as it is, with the VM-entry and VM-exit controls that go with it.
void write_efer(vcpu_vmx &vmx, u64 efer);
// Which MSRs hold the guest's values while it runs; after a change of EFER or of CPUID.
void update_switched_msrs(vcpu_vmx &vmx);

// The page-directory-pointer entries of PAE paging: SDM Vol. 3A, 4.4.1. False: reserved bits are
// set, or there is no memory at cr3; nothing is changed then. [sleep]
[[nodiscard]] bool load_pdptrs(vcpu_vmx &vmx, u64 cr3);
bool is_pae_paging(vcpu_vmx &vmx);
u64 guest_pdptr(vcpu_vmx &vmx, u32 index);
void write_pdptr(vcpu_vmx &vmx, u32 index, u64 value);

// ----- MSRs --------------------------------------------------------------------------------------

// Canonical form: SDM Vol. 1, 3.3.7.1.
bool is_canonical_address(vcpu_vmx &vmx, u64 address);
inline constexpr u64 kApicBaseBootstrap = bit64(8);
bool is_valid_apic_base(const vcpu_vmx &vmx, u64 value);
void write_apic_base(vcpu_vmx &vmx, u64 value);
// From the first use on, the guest reads and writes this MSR without exits. Only for MSRs the host
// switches.
enum class MsrExit : u8 { kRead = 1, kWrite = 2, kReadWrite = 3 };
void stop_msr_exits(vcpu_vmx &vmx, u32 msr, MsrExit which);

// The VM's filter has changed: what it forbids exits again.
void msr_filter_changed(vcpu_vmx &vmx);
void msr_filter_destroy(kvm_vm &kvm);
// At the start of KVM_RUN, whenever pending_msr isn't kNone: user space has answered an RDMSR or
// WRMSR.
void complete_pending_msr(vcpu_vmx &vmx);

// KVM_CAP_SYNC_REGS: at the start of KVM_RUN, -EINVAL for what is refused; at its end.
[[nodiscard]] int take_synced_regs(vcpu_vmx &vmx);
void give_synced_regs(vcpu_vmx &vmx);

// ----- Around each entry -------------------------------------------------------------------------

// XCR0 and XSS are switched only where host and guest differ, and only while the guest has
// CR4.OSXSAVE: switches_xcr0(). [irqs off]
void load_guest_xcr0(vcpu_vmx &vmx);
void load_host_xcr0(vcpu_vmx &vmx);

// ----- Exits -------------------------------------------------------------------------------------

Outcome handle_cpuid(vcpu_vmx &vmx);
// RDTSC, or RDTSCP; CR4.TSD has been checked.
Outcome handle_rdtsc(vcpu_vmx &vmx, bool with_processor_id);
Outcome handle_rdmsr(vcpu_vmx &vmx);
// The part of them that needs no sleep; the first two change registers only. False: nothing was
// changed, there is more to do. [irqoff or not]
bool answer_cpuid(vcpu_vmx &vmx);
bool answer_rdmsr(vcpu_vmx &vmx);
bool answer_wrmsr(vcpu_vmx &vmx);
bool answer_cr_access(vcpu_vmx &vmx);
Outcome handle_wrmsr(vcpu_vmx &vmx);
Outcome handle_cr_access(vcpu_vmx &vmx);
// The instruction itself, after its privilege has been checked.
Outcome access_control_register(vcpu_vmx &vmx, const CrAccessInfo &access);
u64 cr0_after_lmsw(u64 cr0, u16 source);
Outcome handle_xsetbv(vcpu_vmx &vmx);

} // namespace minivmx
