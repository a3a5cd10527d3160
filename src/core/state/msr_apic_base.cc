// SPDX-License-Identifier: GPL-2.0-only
// IA32_APIC_BASE: SDM Vol. 3A, 11.4.4 and 11.12.1. The APIC itself is user space's.
#include "msr.hpp"

#include <minivmx/lapic.hpp>
#include <minivmx/state.hpp>

namespace minivmx {

namespace {

constexpr u64 kApicX2 = bit64(10), kApicEnable = bit64(11);
constexpr u64 kApicModeMask = kApicX2 | kApicEnable;

} // namespace

bool is_valid_apic_base(const vcpu_vmx &vmx, u64 value)
{
    constexpr u64 kReserved = 0x2ff;
    const u64 reserved =
        kReserved | illegal_gpa_bits(vmx) | (vmx.cpuid.has(CpuidFeature::kX2apic) ? 0 : kApicX2);
    return !(value & reserved) && (value & kApicModeMask) != kApicX2;
}

void write_apic_base(vcpu_vmx &vmx, u64 value)
{
    const u64 before = vmx.apic_base, changed = before ^ value;
    vmx.apic_base = value;
    if (vmx.has_apic)
        lapic_base_changed(vmx, before);
    if (changed & kApicEnable)
        update_cpuid_runtime(vmx);
}

u64 apic_base_after_reset(const vcpu_vmx &vmx)
{
    // SDM Vol. 3A, 9.4.1: the first one is the bootstrap processor.
    constexpr u64 kDefaultBase = 0xfee00000, kBootstrap = bit64(8);
    return kDefaultBase | kApicEnable | (vmx.vcpu_id == vmx.kvm->boot_vcpu_id ? kBootstrap : 0);
}

bool read_apic_base(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.apic_base;
    return true;
}

// SDM Vol. 3A, 11.12.5, figure 11-27: x2APIC mode is entered from xAPIC mode and left by disabling
// the APIC.
bool write_guest_apic_base(vcpu_vmx &vmx, u32, u64 value)
{
    if (!is_valid_apic_base(vmx, value))
        return false;
    if (vmx.msr_access_by_host) {
        write_apic_base(vmx, value);
        return true;
    }
    const u64 from = vmx.apic_base & kApicModeMask, to = value & kApicModeMask;
    if ((from == kApicModeMask && to == kApicEnable) || (from == 0 && to == kApicModeMask))
        return false;
    write_apic_base(vmx, value);
    return true;
}

} // namespace minivmx
