// SPDX-License-Identifier: GPL-2.0-only
// Control of speculation: SDM Vol. 4, table 2-2, IA32_SPEC_CTRL, IA32_PRED_CMD,
// IA32_ARCH_CAPABILITIES. A guest that never uses them costs nothing; from its first use on it
// accesses them without exits, and the host switches SPEC_CTRL.
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>

#include "msr.hpp"

namespace minivmx {

namespace {

bool has_spec_ctrl(const vcpu_vmx &vmx)
{
    if (vmx.msr_access_by_host)
        return true;
    const Cpuid &cpuid = vmx.cpuid;
    return cpuid.has(CpuidFeature::kSpecCtrl) || cpuid.has(CpuidFeature::kAmdStibp) ||
           cpuid.has(CpuidFeature::kAmdIbrs) || cpuid.has(CpuidFeature::kAmdSsbd);
}

bool has_pred_cmd(const vcpu_vmx &vmx)
{
    return vmx.msr_access_by_host || vmx.cpuid.has(CpuidFeature::kSpecCtrl) ||
           vmx.cpuid.has(CpuidFeature::kAmdIbpb);
}

// Which bits exist is the CPU's to know: try it. The host's value is back before anything else runs
// here.
bool cpu_takes_spec_ctrl(u64 value)
{
    const u64 flags = host_irq_save();
    u64 host_value;
    bool taken = arch::rdmsr_safe(MSR_IA32_SPEC_CTRL, host_value);
    taken = taken && arch::wrmsr_safe(MSR_IA32_SPEC_CTRL, value);
    if (taken)
        (void)arch::wrmsr_safe(MSR_IA32_SPEC_CTRL, host_value);
    host_irq_restore(flags);
    return taken;
}

// Bits of IA32_ARCH_CAPABILITIES.
constexpr u64 kRdclNo = bit64(0), kIbrsAll = bit64(1), kRsba = bit64(2), kSkipL1dFlush = bit64(3),
              kSsbNo = bit64(4), kMdsNo = bit64(5), kPschangeMcNo = bit64(6), kTaaNo = bit64(8),
              kSbdrSsdpNo = bit64(13), kFbsdpNo = bit64(14), kPsdpNo = bit64(15),
              kFbClear = bit64(17), kRrsba = bit64(19), kBhiNo = bit64(20), kPbrsbNo = bit64(24),
              kGdsNo = bit64(26), kRfdsNo = bit64(27), kRfdsClear = bit64(28), kItsNo = bit64(62);

// Those that are true in a guest if they are true on the CPU. The others tell of MSRs that guests
// don't have (TSX_CTRL is one).
constexpr u64 kPassedOn = kRdclNo | kIbrsAll | kRsba | kSkipL1dFlush | kSsbNo | kMdsNo |
                          kPschangeMcNo | kTaaNo | kSbdrSsdpNo | kFbsdpNo | kPsdpNo | kFbClear |
                          kRrsba | kBhiNo | kPbrsbNo | kGdsNo | kRfdsNo | kRfdsClear | kItsNo;

// Immunity that the kernel knows of although the MSR does not tell.
struct Immunity {
    host_bug bug;
    u64 bit;
};
constexpr Immunity kImmunities[] = {
    {HOST_BUG_MELTDOWN, kRdclNo},
    {HOST_BUG_SPEC_STORE_BYPASS, kSsbNo},
    {HOST_BUG_MDS, kMdsNo},
    {HOST_BUG_RFDS, kRfdsNo},
    {HOST_BUG_ITS, kItsNo},
    {HOST_BUG_GDS, kGdsNo},
    // A nested hypervisor need not flush what we flush at each VM entry.
    {HOST_BUG_L1D_NOT_FLUSHED, kSkipL1dFlush},
};

} // namespace

u64 guest_arch_capabilities()
{
    const core_host_info &host = hardware.info;
    u64 value = 0;
    if (host.features[HOST_FEATURES_7_EDX] & bit32(29) &&
        arch::rdmsr_safe(MSR_IA32_ARCH_CAPABILITIES, value))
        value &= kPassedOn;
    value |= kPschangeMcNo; // a guest's tables are never what the CPU fetches code by
    for (const Immunity &row : kImmunities)
        if (!(host.bugs & row.bug))
            value |= row.bit;
    // A CPU without TSX has no use for TAA_NO; where the kernel turned TSX off, the MSR may still
    // have it.
    if (!supports(CpuidFeature::kRtm))
        value &= ~kTaaNo;
    else if (!(host.bugs & HOST_BUG_TAA))
        value |= kTaaNo;
    return value;
}

bool read_arch_capabilities(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.msrs.arch_capabilities;
    return vmx.msr_access_by_host || vmx.cpuid.has(CpuidFeature::kArchCapabilities);
}

bool write_arch_capabilities(vcpu_vmx &vmx, u32, u64 value)
{
    if (!vmx.msr_access_by_host)
        return false;
    vmx.msrs.arch_capabilities = value;
    return true;
}

bool read_spec_ctrl(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.area->spec_ctrl;
    return has_spec_ctrl(vmx);
}

bool write_spec_ctrl(vcpu_vmx &vmx, u32, u64 value)
{
    if (!has_spec_ctrl(vmx) || !cpu_takes_spec_ctrl(value))
        return false;
    vmx.area->spec_ctrl = value;
    if (value && vmx.msr_bitmap) {
        stop_msr_exits(vmx, MSR_IA32_SPEC_CTRL, MsrExit::kReadWrite);
        vmx.area->save_spec_ctrl = 1;
    }
    return true;
}

bool write_pred_cmd(vcpu_vmx &vmx, u32, u64 value)
{
    constexpr u64 kIbpb = 1;
    if (!has_pred_cmd(vmx) || value & ~kIbpb || !supports(CpuidFeature::kSpecCtrl))
        return false;
    if (!value)
        return true;
    if (!arch::wrmsr_safe(MSR_IA32_PRED_CMD, kIbpb))
        return false;
    vmx.msrs.pred_cmd_used = true;
    if (vmx.msr_bitmap)
        stop_msr_exits(vmx, MSR_IA32_PRED_CMD, MsrExit::kWrite);
    return true;
}

} // namespace minivmx
