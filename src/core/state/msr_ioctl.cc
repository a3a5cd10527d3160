// SPDX-License-Identifier: GPL-2.0-only
// MSRs as user space reads, writes and lists them: KVM_GET_MSRS, KVM_SET_MSRS,
// KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST.
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>

#include "msr.hpp"

namespace minivmx {

namespace {

bool always()
{
    return true;
}

template <CpuidFeature... feature>
bool with()
{
    return (supports(feature) || ...);
}

bool with_spec_ctrl()
{
    u64 value;
    return with<CpuidFeature::kSpecCtrl, CpuidFeature::kAmdStibp, CpuidFeature::kAmdSsbd>() &&
           arch::rdmsr_safe(MSR_IA32_SPEC_CTRL, value);
}

struct ListedMsr {
    u32 index;
    bool (*exists)();
};

// What makes up a vCPU's state beyond the other ioctls, and exists on this machine. Banks of
// machine check and MTRRs are not listed, in KVM neither: CPUID and IA32_MCG_CAP tell of them.
constexpr ListedMsr kStateMsrs[] = {
    {MSR_IA32_SYSENTER_CS, always},
    {MSR_IA32_SYSENTER_ESP, always},
    {MSR_IA32_SYSENTER_EIP, always},
    {MSR_STAR, always},
    {MSR_CSTAR, always},
    {MSR_KERNEL_GS_BASE, always},
    {MSR_SYSCALL_MASK, always},
    {MSR_LSTAR, always},
    {MSR_IA32_TSC, always},
    {MSR_IA32_PAT, always},
    {MSR_IA32_FEATURE_CONTROL, always},
    {MSR_IA32_BNDCFGS, with<CpuidFeature::kMpx>},
    {MSR_TSC_AUX, with<CpuidFeature::kRdtscp, CpuidFeature::kRdpid>},
    {MSR_IA32_SPEC_CTRL, with_spec_ctrl},
    {MSR_IA32_UMWAIT_CONTROL, with<CpuidFeature::kWaitpkg>},
    {MSR_IA32_XSS, with<CpuidFeature::kXsaves>},
    {MSR_KVM_SYSTEM_TIME, always},
    {MSR_KVM_WALL_CLOCK, always},
    {MSR_KVM_SYSTEM_TIME_NEW, always},
    {MSR_KVM_WALL_CLOCK_NEW, always},
    {MSR_IA32_TSC_ADJUST, always},
    {MSR_IA32_TSC_DEADLINE, always},
    {MSR_IA32_ARCH_CAPABILITIES, always},
    {MSR_IA32_MISC_ENABLE, always},
    {MSR_IA32_MCG_STATUS, always},
    {MSR_IA32_MCG_CTL, always},
    {MSR_PLATFORM_INFO, always},
    {MSR_MISC_FEATURES_ENABLES, always},
    {MSR_IA32_POWER_CTL, always},
    {MSR_IA32_UCODE_REV, always},
    {MSR_K7_HWCR, always},
};

// MSRs that tell what guests may be given.
constexpr ListedMsr kFeatureMsrs[] = {
    {MSR_IA32_UCODE_REV, always},
    {MSR_IA32_ARCH_CAPABILITIES, always},
};

bool read_feature_msr(u32 index, u64 &value)
{
    value = 0;
    switch (index) {
    case MSR_IA32_UCODE_REV:
        (void)arch::rdmsr_safe(index, value);
        return true;
    case MSR_IA32_ARCH_CAPABILITIES:
        value = guest_arch_capabilities();
        return true;
    default:
        return false;
    }
}

class HostAccess {
  public:
    explicit HostAccess(vcpu_vmx &vmx) : vmx_{vmx} { vmx_.msr_access_by_host = true; }
    ~HostAccess() { vmx_.msr_access_by_host = false; }
    HostAccess(const HostAccess &) = delete;
    HostAccess &operator=(const HostAccess &) = delete;

  private:
    vcpu_vmx &vmx_;
};

u32 list(Span<const ListedMsr> msrs, u32 *indices, u32 limit)
{
    u32 count = 0;
    for (const ListedMsr &msr : msrs) {
        if (!msr.exists())
            continue;
        if (count < limit)
            indices[count] = msr.index;
        count++;
    }
    return count;
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_get_msrs(core_vcpu *vcpu, kvm_msr_entry *entries, host_u32 count)
{
    for (u32 i = 0; i < count; i++) {
        u64 value = 0;
        bool done;
        if (vcpu) {
            const HostAccess by_host(to_vmx(vcpu));
            done = get_msr(to_vmx(vcpu), entries[i].index, value);
        } else {
            done = read_feature_msr(entries[i].index, value);
        }
        if (!done)
            return static_cast<int>(i);
        entries[i].data = value;
    }
    return static_cast<int>(count);
}

int core_set_msrs(core_vcpu *vcpu, const kvm_msr_entry *entries, host_u32 count)
{
    const HostAccess by_host(to_vmx(vcpu));
    for (u32 i = 0; i < count; i++)
        if (!set_msr(to_vmx(vcpu), entries[i].index, entries[i].data))
            return static_cast<int>(i);
    return static_cast<int>(count);
}

host_u32 core_msr_index_list(bool features, host_u32 *indices, host_u32 limit)
{
    return features ? list(kFeatureMsrs, indices, limit) : list(kStateMsrs, indices, limit);
}

} // extern "C"
