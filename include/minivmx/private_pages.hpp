// SPDX-License-Identifier: GPL-2.0-only
// Pages of the module's own in a guest's physical memory: where CPU features look for something
// that no slot holds. The guest finds them at their addresses; no slot may lie there.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;

// Where the APIC-access page lies: the local APIC's address after reset.
inline constexpr u64 kApicAccessGfn = 0xfee00;

enum class PrivatePage : u8 {
    kApicAccess,  // what "virtualize APIC accesses" watches: SDM Vol. 3C, 30.4
    kIdentityMap, // page tables that map each address below 4 GiB to itself
    kTss,         // three pages: the task state of real mode in virtual-8086 mode
    kCount = kTss + 3,
};

// Changed under the VM's mmu lock; pages come one by one and stay until the VM goes.
struct PrivatePages {
    struct Place {
        u64 gfn;
        void *page; // null: none yet; published last
    } places[static_cast<u32>(PrivatePage::kCount)];
};

// The page at gfn, or null. It stays until the VM goes. [any]
void *private_page(const kvm_vm &kvm, u64 gfn);
// Whether one lies in [gfn, end). [any]
bool private_page_in(const kvm_vm &kvm, u64 gfn, u64 end);
void destroy_private_pages(kvm_vm &kvm);

// Each of these: 0, -ENOMEM, or -EEXIST when a slot is there. They take the mmu lock. [sleep]
//
// Again: nothing.
int create_apic_access_page(kvm_vm &kvm);
// Its physical address for the VMCS, or 0. [any]
u64 apic_access_page_phys(const kvm_vm &kvm);
// Again: nothing. Does nothing unless guests without paging run on it: with EPT, without
// "unrestricted guest". -EINVAL: the client's address is none of a page.
int create_identity_map(kvm_vm &kvm);
u64 identity_map_address(const kvm_vm &kvm);
// KVM_SET_TSS_ADDR, -EEXIST the second time. Only keeps the address where real mode runs directly.
int create_real_mode_tss(kvm_vm &kvm, u64 address);

} // namespace minivmx
