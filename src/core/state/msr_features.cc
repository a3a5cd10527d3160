// SPDX-License-Identifier: GPL-2.0-only
// MSRs that control features of the CPU, each with what a guest may change.
#include "msr.hpp"

#include <minivmx/control_shadow.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

bool has_bndcfgs(const vcpu_vmx &vmx)
{
    return supports(CpuidFeature::kMpx) &&
           (vmx.msr_access_by_host || vmx.cpuid.has(CpuidFeature::kMpx));
}

bool has_xss(const vcpu_vmx &vmx)
{
    return vmx.msr_access_by_host || vmx.cpuid.has(CpuidFeature::kXsaves);
}

bool has_waitpkg(const vcpu_vmx &vmx)
{
    if (vmx.msr_access_by_host)
        return supports(CpuidFeature::kWaitpkg);
    return (secondary_exec_controls_get(vmx.vmcs01) & SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE) != 0;
}

} // namespace

bool read_xss(vcpu_vmx &vmx, u32 index, u64 &value)
{
    return has_xss(vmx) && read_stored<&GuestMsrs::xss>(vmx, index, value);
}

bool write_xss(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kSupportedXss = 0;
    if (!has_xss(vmx) || value & ~kSupportedXss)
        return false;
    vmx.msrs.xss = value;
    update_cpuid_runtime(vmx);
    return true;
}

bool read_bndcfgs(vcpu_vmx &vmx, u32, u64 &value)
{
    if (!has_bndcfgs(vmx))
        return false;
    value = vmcs_read(GUEST_BNDCFGS);
    return true;
}

// SDM Vol. 1, E.3.2: bits 11:2 are reserved, the table's address is canonical.
bool write_bndcfgs(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kReserved = 0xffc, kAddress = ~u64{0xfff};
    if (!has_bndcfgs(vmx) || value & kReserved || !is_canonical_address(vmx, value & kAddress))
        return false;
    vmcs_write(GUEST_BNDCFGS, value);
    return true;
}

bool read_debugctl(vcpu_vmx &, u32, u64 &value)
{
    value = vmcs_read(GUEST_IA32_DEBUGCTL);
    return true;
}

// SDM Vol. 3B, 18.4.1. Of its functions a guest may have RTM debugging. LBR and BTF are accepted
// and do nothing, since kernels set them without asking; every other bit faults.
bool write_debugctl(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kLbr = bit64(0), kBtf = bit64(1), kRtmDebug = bit64(15);
    const bool rtm = supports(CpuidFeature::kRtm) && vmx.cpuid.has(CpuidFeature::kRtm);
    const u64 supported_bits = rtm ? kRtmDebug : 0;
    if (value & ~(supported_bits | kLbr | kBtf))
        return false;
    vmcs_write(GUEST_IA32_DEBUGCTL, value & supported_bits);
    return true;
}

// SDM Vol. 4, table 2-2: what performance monitoring lacks can't be changed, and its presence is
// not a switch.
bool write_misc_enable(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kPerformanceMonitoring = bit64(7);
    const u64 old = vmx.msrs.misc_enable;
    if (vmx.msr_access_by_host) {
        vmx.msrs.misc_enable = value;
        return true;
    }
    if ((old ^ value) & kMiscEnableReadOnly)
        return false;
    vmx.msrs.misc_enable = (value & ~kPerformanceMonitoring) | (old & kPerformanceMonitoring);
    return true;
}

// SDM Vol. 3C, 24.7: once locked it can't be written; there is nothing else to enable.
bool write_feature_control(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kLocked = 1;
    const bool locked = (vmx.msrs.feature_control & kLocked) != 0;
    if (value & ~kLocked || (locked && !vmx.msr_access_by_host))
        return false;
    vmx.msrs.feature_control = value;
    return true;
}

bool read_platform_info(vcpu_vmx &vmx, u32 index, u64 &value)
{
    if (vmx.kvm->no_platform_info && !vmx.msr_access_by_host)
        return false;
    return read_stored<&GuestMsrs::platform_info>(vmx, index, value);
}

bool write_platform_info(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kCpuidFault = 1, kPlatformHasCpuidFault = bit64(31);
    if (!vmx.msr_access_by_host ||
        (!(value & kPlatformHasCpuidFault) && vmx.msrs.misc_features_enables & kCpuidFault))
        return false;
    vmx.msrs.platform_info = value;
    return true;
}

// A guest's writes ask the CPU for its revision, which it has already.
bool write_microcode_revision(vcpu_vmx &vmx, u32, u64 value)
{
    if (vmx.msr_access_by_host)
        vmx.msrs.microcode_revision = value;
    return true;
}

bool write_misc_features_enables(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kCpuidFault = 1, kPlatformHasCpuidFault = bit64(31);
    if (value & ~kCpuidFault ||
        (value & kCpuidFault && !(vmx.msrs.platform_info & kPlatformHasCpuidFault)))
        return false;
    vmx.msrs.misc_features_enables = value;
    return true;
}

bool read_umwait_control(vcpu_vmx &vmx, u32 index, u64 &value)
{
    return has_waitpkg(vmx) && read_stored<&GuestMsrs::umwait_control>(vmx, index, value);
}

// Kept but not loaded: how long user code may wait is the host's to limit.
bool write_umwait_control(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kReserved = bit64(1) | 0xffffffff00000000;
    if (!has_waitpkg(vmx) || value & kReserved)
        return false;
    vmx.msrs.umwait_control = value;
    return true;
}

// AMD's HWCR: workarounds that its kernels set are accepted, of the rest only McStatusWrEn.
bool write_hwcr(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kIgnored = 0x148, kMcStatusWrEn = bit64(18);
    const u64 kept = value & ~kIgnored;
    if (kept != 0 && kept != kMcStatusWrEn)
        return false;
    vmx.msrs.hwcr = kept;
    return true;
}

} // namespace minivmx
