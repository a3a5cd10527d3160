// SPDX-License-Identifier: GPL-2.0-only
// The time-stamp counter: SDM Vol. 3B, 18.17.
#include "msr.hpp"

#include <minivmx/capabilities.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

void write_tsc_offset(vcpu_vmx &vmx, u64 offset)
{
    // SDM Vol. 3C, 26.3: a fixed-point number with 48 bits of fraction
    constexpr u64 kMultiplierOne = bit64(48);
    if (cpu_has_vmx_tsc_scaling(hardware.config))
        vmcs_write(TSC_MULTIPLIER, kMultiplierOne);
    vmx.msrs.tsc_offset = offset;
    vmcs_write(TSC_OFFSET, offset);
}

u64 guest_tsc(const vcpu_vmx &vmx)
{
    return arch::rdtsc() + vmx.msrs.tsc_offset;
}

u64 guest_to_host_ticks(const vcpu_vmx &, u64 ticks)
{
    return ticks; // they differ only with a TSC multiplier, which is one
}

bool read_tsc(vcpu_vmx &vmx, u32, u64 &value)
{
    value = arch::rdtsc() + vmx.msrs.tsc_offset;
    return true;
}

// SDM Vol. 3B, 18.17.3: a write to either MSR moves the other by as much.
bool write_tsc(vcpu_vmx &vmx, u32, u64 value)
{
    const u64 by = value - (arch::rdtsc() + vmx.msrs.tsc_offset);
    write_tsc_offset(vmx, vmx.msrs.tsc_offset + by);
    vmx.msrs.tsc_adjust += by;
    return true;
}

bool write_tsc_adjust(vcpu_vmx &vmx, u32, u64 value)
{
    if (!vmx.cpuid.has(CpuidFeature::kTscAdjust))
        return true; // KVM ignores it then
    write_tsc_offset(vmx, vmx.msrs.tsc_offset + value - vmx.msrs.tsc_adjust);
    vmx.msrs.tsc_adjust = value;
    return true;
}

} // namespace minivmx
