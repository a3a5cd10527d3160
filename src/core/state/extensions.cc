// SPDX-License-Identifier: GPL-2.0-only
// KVM_CHECK_EXTENSION and KVM_ENABLE_CAP: what of KVM's interface is here. Only what works is in
// the table; anything else answers 0, and enabling it -EINVAL, as an older KVM would.
#include <minivmx/dirty_log.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/vm.hpp>

#include <linux/kvm.h>

namespace minivmx {

namespace {

constexpr u32 kMaxVcpuIds = 4096; // KVM's on x86

// SDM Vol. 3C, 26.1.3: without MWAIT exiting the guest puts the CPU to sleep itself. Only if the
// CPU has a sound MONITOR, and a timer that goes on in deep sleep.
bool can_mwait_in_guest()
{
    constexpr u32 kMonitor = bit32(3);
    const core_host_info &host = hardware.info;
    return (host.features[HOST_FEATURES_1_ECX] & kMonitor) != 0 &&
           !(host.bugs & HOST_BUG_MONITOR) && host.has_arat;
}

int disable_exits_mask()
{
    int mask =
        KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_CSTATE;
    if (can_mwait_in_guest())
        mask |= KVM_X86_DISABLE_EXITS_MWAIT;
    return mask;
}

int online_cpus()
{
    const u32 online = host_online_cpus();
    return static_cast<int>(online < kMaxVcpus ? online : kMaxVcpus);
}

int disable_exits(kvm_vm &kvm, u64 exits)
{
    if (exits & ~u64{KVM_X86_DISABLE_VALID_EXITS})
        return -EINVAL;
    if (exits & KVM_X86_DISABLE_EXITS_MWAIT) {
        if (can_mwait_in_guest())
            kvm.mwait_in_guest = true;
        else if (host_log_allowed())
            host_log(HOST_LOG_INFO, "MWAIT goes on exiting: this CPU lacks MONITOR/MWAIT, or its "
                                    "APIC timer stops in deep sleep");
    }
    kvm.hlt_in_guest |= (exits & KVM_X86_DISABLE_EXITS_HLT) != 0;
    kvm.pause_in_guest |= (exits & KVM_X86_DISABLE_EXITS_PAUSE) != 0;
    kvm.cstate_in_guest |= (exits & KVM_X86_DISABLE_EXITS_CSTATE) != 0;
    return 0;
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_check_extension(const core_vm *, host_u64 extension)
{
    switch (extension) {
    case KVM_CAP_HLT:
    case KVM_CAP_USER_MEMORY:
    case KVM_CAP_SET_TSS_ADDR:
    case KVM_CAP_EXT_CPUID:
    case KVM_CAP_SYNC_MMU:
    case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
    case KVM_CAP_USER_NMI:
    case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
    case KVM_CAP_SET_IDENTITY_MAP_ADDR:
    case KVM_CAP_INTERNAL_ERROR_DATA:
    case KVM_CAP_READONLY_MEM:
    case KVM_CAP_ENABLE_CAP_VM:
    case KVM_CAP_CHECK_EXTENSION_VM:
    case KVM_CAP_IMMEDIATE_EXIT:
    case KVM_CAP_LAST_CPU:
        return 1;
    // Interrupt controllers and devices.
    case KVM_CAP_IRQCHIP:
    case KVM_CAP_IOEVENTFD:
    case KVM_CAP_IOEVENTFD_NO_LENGTH:
    case KVM_CAP_IOEVENTFD_ANY_LENGTH:
    case KVM_CAP_IRQ_INJECT_STATUS:
    case KVM_CAP_IRQFD:
    case KVM_CAP_IRQFD_RESAMPLE:
    case KVM_CAP_PIT:
    case KVM_CAP_PIT2:
    case KVM_CAP_PIT_STATE2:
    case KVM_CAP_REINJECT_CONTROL:
    case KVM_CAP_SIGNAL_MSI:
    case KVM_CAP_SPLIT_IRQCHIP:
    case KVM_CAP_COALESCED_PIO:
        return 1;
    case KVM_CAP_IRQ_ROUTING:
        return kMaxIrqRoutes;
    case KVM_CAP_COALESCED_MMIO:
        return KVM_COALESCED_MMIO_PAGE_OFFSET;
    case KVM_CAP_NR_VCPUS:
        return online_cpus();
    case KVM_CAP_MAX_VCPUS:
        return kMaxVcpus;
    case KVM_CAP_MAX_VCPU_ID:
        return kMaxVcpuIds;
    case KVM_CAP_NR_MEMSLOTS:
        return kUserMemSlots;
    case KVM_CAP_X86_DISABLE_EXITS:
        return disable_exits_mask();
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
        return KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
    default:
        return 0;
    }
}

int core_vm_enable_cap(core_vm *vm, const kvm_enable_cap *cap)
{
    if (cap->flags != 0)
        return -EINVAL;
    if (cap->cap == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)
        return enable_manual_dirty_log(to_kvm(vm), cap->args[0]);
    if (cap->cap == KVM_CAP_SPLIT_IRQCHIP)
        return enable_split_irqchip(to_kvm(vm), cap->args[0]);
    if (cap->cap == KVM_CAP_X86_DISABLE_EXITS)
        return disable_exits(to_kvm(vm), cap->args[0]);
    return -EINVAL;
}

} // extern "C"
