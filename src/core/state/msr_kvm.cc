// SPDX-License-Identifier: GPL-2.0-only
// MSRs of KVM's own, which tell where the guest wants kvmclock's pages. Each has two numbers, an
// old one in a range that CPUs might use, and a new one.
#include <minivmx/host_guard.hpp>

#include "msr.hpp"

namespace minivmx {

bool read_kvm_wall_clock(vcpu_vmx &vmx, u32, u64 &value)
{
    const HostLockGuard guard(vmx.kvm->time.lock);
    value = vmx.kvm->time.wall_clock_msr;
    return true;
}

bool write_kvm_wall_clock(vcpu_vmx &vmx, u32, u64 value)
{
    write_wall_clock(vmx, value);
    return true;
}

bool read_kvm_system_time(vcpu_vmx &vmx, u32, u64 &value)
{
    value = vmx.time.system_time_msr;
    return true;
}

bool write_kvm_system_time(vcpu_vmx &vmx, u32, u64 value)
{
    write_system_time(vmx, value);
    return true;
}

} // namespace minivmx
