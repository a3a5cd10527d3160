// SPDX-License-Identifier: GPL-2.0-only
//
// The CPU that a guest sees.
#pragma once

#include <minivmx.h>

#include <cstdint>
#include <vector>

namespace minivmx::tool {

/// What KVM supports (`entries`), with what it leaves to the VMM: the CPU's name, the APIC id of
/// vCPU `index`, and that there is a hypervisor (SDM Vol. 2A, CPUID, leaves 1, 0xb and 0x80000002
/// to 0x80000004).
std::vector<kvm_cpuid_entry2> cpuid_for(std::vector<kvm_cpuid_entry2> entries, unsigned index);

} // namespace minivmx::tool
