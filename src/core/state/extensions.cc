// SPDX-License-Identifier: GPL-2.0-only
// KVM_CHECK_EXTENSION and KVM_ENABLE_CAP: what of KVM's interface is here. Only what works is in
// the table; anything else answers 0, and enabling it -EINVAL, as an older KVM would.
#include <minivmx/capabilities.hpp>
#include <minivmx/cpuid.hpp>
#include <minivmx/dirty_log.hpp>
#include <minivmx/guest_msrs.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/vm.hpp>

#include <minivmx.h>

namespace minivmx {

namespace {

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

// ---- CHECK_EXTENSION ----------------------------------------------------------------------------

struct Extension {
    u32 number;
    int value;        // what CHECK_EXTENSION answers,
    int (*compute)(); // if this doesn't say it
};

int guest_debug_flags()
{
    return KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_SINGLESTEP |
           KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP | KVM_GUESTDBG_BLOCKIRQ |
           KVM_GUESTDBG_ENABLE;
}

int tsc_scaling()
{
    return cpu_has_vmx_tsc_scaling(hardware.config);
}

int has_xsave()
{
    return supports(CpuidFeature::kXsave);
}

int user_space_msr_reasons()
{
    return KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
}

constexpr int kClockFlags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC;
constexpr int kSyncedRegs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
constexpr int kXsaveArea = sizeof(kvm_xsave::region); // no component of guests lies beyond it

constexpr Extension kExtensions[] = {
    // The module and its memory
    {KVM_CAP_USER_MEMORY, 1, nullptr},
    {KVM_CAP_SYNC_MMU, 1, nullptr},
    {KVM_CAP_DESTROY_MEMORY_REGION_WORKS, 1, nullptr},
    {KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, 1, nullptr},
    {KVM_CAP_READONLY_MEM, 1, nullptr},
    {KVM_CAP_NR_MEMSLOTS, kUserMemSlots, nullptr},
    {KVM_CAP_MMU_SHADOW_CACHE_CONTROL, 1, nullptr},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
     KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET, nullptr},
    {KVM_CAP_SET_TSS_ADDR, 1, nullptr},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, 1, nullptr},
    {KVM_CAP_CHECK_EXTENSION_VM, 1, nullptr},
    {KVM_CAP_ENABLE_CAP, 1, nullptr},
    {KVM_CAP_ENABLE_CAP_VM, 1, nullptr},
    {KVM_CAP_INTERNAL_ERROR_DATA, 1, nullptr},
    // Interrupt controllers and devices
    {KVM_CAP_IRQCHIP, 1, nullptr},
    {KVM_CAP_SPLIT_IRQCHIP, 1, nullptr},
    {KVM_CAP_IRQ_INJECT_STATUS, 1, nullptr},
    {KVM_CAP_IRQ_ROUTING, kMaxIrqRoutes, nullptr},
    {KVM_CAP_IRQFD, 1, nullptr},
    {KVM_CAP_IRQFD_RESAMPLE, 1, nullptr},
    {KVM_CAP_SIGNAL_MSI, 1, nullptr},
    {KVM_CAP_PIT, 1, nullptr},
    {KVM_CAP_PIT2, 1, nullptr},
    {KVM_CAP_PIT_STATE2, 1, nullptr},
    {KVM_CAP_REINJECT_CONTROL, 1, nullptr},
    {KVM_CAP_IOEVENTFD, 1, nullptr},
    {KVM_CAP_IOEVENTFD_NO_LENGTH, 1, nullptr},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, 1, nullptr},
    {KVM_CAP_COALESCED_MMIO, KVM_COALESCED_MMIO_PAGE_OFFSET, nullptr},
    {KVM_CAP_COALESCED_PIO, 1, nullptr},
    // Local APIC and multiprocessing
    {KVM_CAP_MP_STATE, 1, nullptr},
    {KVM_CAP_SET_BOOT_CPU_ID, 1, nullptr},
    {KVM_CAP_VAPIC, 1, nullptr},
    {KVM_CAP_TSC_DEADLINE_TIMER, 1, nullptr},
    {KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
     nullptr},
    {KVM_CAP_NR_VCPUS, 0, online_cpus},
    {KVM_CAP_MAX_VCPUS, kMaxVcpus, nullptr},
    {KVM_CAP_MAX_VCPU_ID, kMaxVcpuIds, nullptr},
    // Running
    {KVM_CAP_HLT, 1, nullptr},
    {KVM_CAP_USER_NMI, 1, nullptr},
    {KVM_CAP_IMMEDIATE_EXIT, 1, nullptr},
    {KVM_CAP_LAST_CPU, 1, nullptr},
    {KVM_CAP_SYNC_REGS, kSyncedRegs, nullptr},
    {KVM_CAP_X86_DISABLE_EXITS, 0, disable_exits_mask},
    {KVM_CAP_NOP_IO_DELAY, 1, nullptr},
    // State of a vCPU
    {KVM_CAP_EXT_CPUID, 1, nullptr},
    {KVM_CAP_EXT_EMUL_CPUID, 1, nullptr},
    {KVM_CAP_GET_MSR_FEATURES, 1, nullptr},
    {KVM_CAP_MSR_PLATFORM_INFO, 1, nullptr},
    {KVM_CAP_X86_USER_SPACE_MSR, 1, nullptr},
    {KVM_CAP_X86_MSR_FILTER, 1, nullptr},
    {KVM_CAP_SREGS2, 1, nullptr},
    {KVM_CAP_DEBUGREGS, 1, nullptr},
    {KVM_CAP_VCPU_EVENTS, 1, nullptr},
    {KVM_CAP_EXCEPTION_PAYLOAD, 1, nullptr},
    {KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, nullptr},
    {KVM_CAP_XSAVE, 1, nullptr},
    {KVM_CAP_XSAVE2, kXsaveArea, nullptr},
    {KVM_CAP_XCRS, 0, has_xsave},
    {KVM_CAP_MCE, kMachineCheckBanks, nullptr},
    {KVM_CAP_SET_GUEST_DEBUG, 1, nullptr},
    {KVM_CAP_SET_GUEST_DEBUG2, 0, guest_debug_flags},
    {KVM_CAP_X86_ROBUST_SINGLESTEP, 1, nullptr},
    // Time
    {KVM_CAP_CLOCKSOURCE, 1, nullptr},
    {KVM_CAP_ADJUST_CLOCK, kClockFlags, nullptr},
    {KVM_CAP_KVMCLOCK_CTRL, 1, nullptr},
    {KVM_CAP_GET_TSC_KHZ, 1, nullptr},
    {KVM_CAP_TSC_CONTROL, 0, tsc_scaling},
    {KVM_CAP_VM_TSC_CONTROL, 0, tsc_scaling},
};

// ---- ENABLE_CAP ---------------------------------------------------------------------------------

int use_x2apic_api(kvm_vm &kvm, u64 flags)
{
    constexpr u64 kFlags = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
    if (flags & ~kFlags)
        return -EINVAL;
    if (flags & KVM_X2APIC_API_USE_32BIT_IDS)
        kvm.x2apic_format = true;
    if (flags & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK)
        kvm.x2apic_broadcast_quirk_disabled = true;
    return 0;
}

// Once; the first vCPU decides it, too.
int limit_vcpu_ids(kvm_vm &kvm, u64 count)
{
    if (count > kMaxVcpuIds || (kvm.max_vcpu_ids && kvm.max_vcpu_ids != count))
        return -EINVAL;
    kvm.max_vcpu_ids = static_cast<u32>(count);
    return 0;
}

int use_user_space_msr(kvm_vm &kvm, u64 reasons)
{
    if (reasons & ~static_cast<u64>(user_space_msr_reasons()))
        return -EINVAL;
    __atomic_store_n(&kvm.user_space_msr, static_cast<u32>(reasons), __ATOMIC_RELAXED);
    return 0;
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_check_extension(const core_vm *, host_u64 extension)
{
    for (const Extension &row : kExtensions)
        if (row.number == extension)
            return row.compute ? row.compute() : row.value;
    return 0;
}

int core_vm_enable_cap(core_vm *vm, const kvm_enable_cap *cap)
{
    kvm_vm &kvm = to_kvm(vm);
    const u64 argument = cap->args[0];
    if (cap->flags != 0)
        return -EINVAL;
    switch (cap->cap) {
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
        return enable_manual_dirty_log(kvm, argument);
    case KVM_CAP_SPLIT_IRQCHIP:
        return enable_split_irqchip(kvm, argument);
    case KVM_CAP_X86_DISABLE_EXITS:
        return disable_exits(kvm, argument);
    case KVM_CAP_MAX_VCPU_ID:
        return limit_vcpu_ids(kvm, argument);
    case KVM_CAP_X2APIC_API:
        return use_x2apic_api(kvm, argument);
    case KVM_CAP_X86_USER_SPACE_MSR:
        return use_user_space_msr(kvm, argument);
    case KVM_CAP_EXCEPTION_PAYLOAD:
        kvm.exception_payload = argument != 0;
        return 0;
    case KVM_CAP_X86_TRIPLE_FAULT_EVENT:
        kvm.triple_fault_event = argument != 0;
        return 0;
    case KVM_CAP_MSR_PLATFORM_INFO:
        kvm.no_platform_info = argument == 0;
        return 0;
    default:
        return -EINVAL;
    }
}

// None of KVM's for a vCPU is here: all of them are Hyper-V's, or restrict features that are not
// offered.
int core_vcpu_enable_cap(core_vcpu *, const kvm_enable_cap *)
{
    return -EINVAL;
}

} // extern "C"
