// SPDX-License-Identifier: GPL-2.0-only
// What the module answers of a guest's port and memory-mapped I/O instead of user space: see
// kernel_mmio() and kernel_pio() in irqchip.hpp. Besides the interrupt controllers these are
// ioeventfds (a write signals a file descriptor of user space) and coalesced ranges (writes wait in
// a ring until user space looks).
//
// Both kinds of ranges are in one sorted array a bus, which is replaced as a whole and read under
// host_rcu_read_lock(). Changes are made under the host's slots mutex.
#pragma once

#include <minivmx.h>

#include <minivmx/host.h>
#include <minivmx/types.hpp>

namespace minivmx {

struct kvm_vm;
struct vcpu_vmx;

// The page of KVM_COALESCED_MMIO_PAGE_OFFSET: struct kvm_coalesced_mmio_ring, written out because
// C++ counts the empty structure in its flexible array.
struct CoalescedRing {
    u32 first, last;
    kvm_coalesced_mmio entries[(4096 - 8) / sizeof(kvm_coalesced_mmio)];
};
static_assert(sizeof(CoalescedRing) <= 4096 && offsetof(CoalescedRing, entries) == 8);

// What the devices share; -ENOMEM. [sleep]
int devices_create(kvm_vm &kvm);
// The ring of coalesced writes, which is made when it is first asked for; null: no memory. [sleep]
void *coalesced_ring(kvm_vm &kvm);
// Frees them, and everything that is registered.
void devices_destroy(kvm_vm &kvm);

// KVM_IOEVENTFD's rules. Assigning takes over the caller's reference to eventfd; deassigning drops
// the one that was taken. -EINVAL, -EEXIST, -ENOMEM; -ENOENT. [sleep]
int check_ioeventfd(const kvm_ioeventfd &args); // what can be refused without the descriptor
int assign_ioeventfd(kvm_vm &kvm, const kvm_ioeventfd &args, host_eventfd *eventfd);
int deassign_ioeventfd(kvm_vm &kvm, const kvm_ioeventfd &args, const host_eventfd *eventfd);

// KVM_REGISTER_COALESCED_MMIO and its counterpart, which takes every range that contains the one
// named. -EINVAL, -ENOSPC, -ENOMEM. [sleep]
int register_coalesced(kvm_vm &kvm, const kvm_coalesced_mmio_zone &zone);
int unregister_coalesced(kvm_vm &kvm, const kvm_coalesced_mmio_zone &zone);

} // namespace minivmx
