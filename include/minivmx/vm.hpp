// SPDX-License-Identifier: GPL-2.0-only
// A virtual machine: guest memory, its EPT tables, and the choices made for it as a whole.
#pragma once

#include <linux/errno.h>

#include <minivmx/ept.hpp>
#include <minivmx/host.h>
#include <minivmx/memslot.hpp>
#include <minivmx/mmu_pages.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/time.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct IrqRouting;
struct MsrFilter;
struct Pic;
struct Ioapic;
struct Pit;
struct IoBus;
struct ShadowMmu;
struct vcpu_vmx;

// Where the interrupt controllers are: in user space, in the module, or the local APICs in the
// module and the rest in user space.
enum class Irqchip : u8 { kNone, kKernel, kSplit };

inline constexpr u32 kMaxVcpus = 1024;   // KVM_CAP_MAX_VCPUS
inline constexpr u32 kMaxVcpuIds = 4096; // KVM_CAP_MAX_VCPU_ID
inline constexpr u32 kVcpusPerChunk = 64;

struct kvm_vm : core_vm {
    host_vm *host;
    MemSlots slots;
    MmuPages mmu_pages;
    Ept ept;
    ShadowMmu *shadow; // null with EPT
    PrivatePages private_pages;
    u64 tss_addr;
    u64 identity_map_addr;
    // Dirty logging: how many slots are logged, and KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2's options.
    u32 logged_slots;
    u32 manual_dirty_log;
    // KVM_CAP_X86_DISABLE_EXITS, before the first vCPU exists.
    bool mwait_in_guest;
    bool hlt_in_guest;
    bool pause_in_guest;
    bool cstate_in_guest;
    u32 created_vcpus;
    u32 max_vcpu_ids; // KVM_CAP_MAX_VCPU_ID; 0: not decided yet
    VmTime time;
    MsrFilter *msr_filter;  // null: every access is allowed; replaced whole, read under RCU
    u32 user_space_msr;     // KVM_MSR_EXIT_REASON_*: accesses that user space answers
    bool exception_payload; // KVM_CAP_EXCEPTION_PAYLOAD
    bool triple_fault_event;
    bool no_platform_info; // KVM_CAP_MSR_PLATFORM_INFO turned off: the guest may not read it

    // Interrupt controllers: null until KVM_CREATE_IRQCHIP and KVM_CREATE_PIT2, then there until
    // the VM goes. Whoever sees irqchip != kNone (read it with irqchip_of()) sees them complete.
    Irqchip irqchip;
    u32 split_pins;     // kSplit: GSIs below are pins of user space's IOAPIC
    bool x2apic_format; // KVM_X2APIC_API_USE_32BIT_IDS: messages have 32-bit destinations
    bool x2apic_broadcast_quirk_disabled; // KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK
    Pic *pic;
    Ioapic *ioapic;
    Pit *pit;
    IrqRouting *routing; // replaced whole, read under host_rcu_read_lock()
    // Ioeventfds and coalesced ranges: the same. Changed under the host's slots mutex.
    IoBus *mmio_bus, *pio_bus;
    host_lock *ring_lock; // of the page of coalesced writes
    void *coalesced_ring; // null until somebody maps it or registers a range

    // Read with vcpu_at(). In chunks, since most VMs have few; a chunk stays until the VM goes.
    vcpu_vmx **vcpus[kMaxVcpus / kVcpusPerChunk];
    u32 vcpu_slots;
    u32 boot_vcpu_id; // KVM_SET_BOOT_CPU_ID: the bootstrap processor's
};

// The VM's vCPUs, in the order of their creation: complete ones only. [any but NMI], under
// host_rcu_read_lock() wherever they might be destroyed meanwhile.
inline u32 vcpu_count(const kvm_vm &kvm)
{
    return __atomic_load_n(&kvm.vcpu_slots, __ATOMIC_ACQUIRE);
}
inline vcpu_vmx *vcpu_at(const kvm_vm &kvm, u32 slot) // may be null
{
    return __atomic_load_n(&kvm.vcpus[slot / kVcpusPerChunk][slot % kVcpusPerChunk],
                           __ATOMIC_ACQUIRE);
}
// In a VM that is about to be freed: none of the slots has a vCPU any more.
inline void free_vcpu_slots(kvm_vm &kvm)
{
    for (vcpu_vmx **chunk : kvm.vcpus)
        host_free(chunk);
}

inline Irqchip irqchip_of(const kvm_vm &kvm)
{
    Irqchip value;
    __atomic_load(&kvm.irqchip, &value, __ATOMIC_ACQUIRE);
    return value;
}

// Whether a device of the module answers any port, or any address without memory, at all.
inline bool has_port_devices(const kvm_vm &kvm)
{
    return irqchip_of(kvm) == Irqchip::kKernel || __atomic_load_n(&kvm.pit, __ATOMIC_RELAXED) ||
           __atomic_load_n(&kvm.pio_bus, __ATOMIC_RELAXED);
}
inline bool has_mmio_devices(const kvm_vm &kvm)
{
    return irqchip_of(kvm) != Irqchip::kNone || __atomic_load_n(&kvm.mmio_bus, __ATOMIC_RELAXED);
}

// Published last: who sees it finds the controllers.
inline void set_irqchip(kvm_vm &kvm, Irqchip value)
{
    __atomic_store(&kvm.irqchip, &value, __ATOMIC_RELEASE);
}

inline kvm_vm &to_kvm(core_vm *vm)
{
    return *static_cast<kvm_vm *>(vm);
}

} // namespace minivmx
