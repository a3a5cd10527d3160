// SPDX-License-Identifier: GPL-2.0-only
#include "cpuid_model.hpp"

#include <cpuid.h>

namespace minivmx::tool {

std::vector<kvm_cpuid_entry2> cpuid_for(std::vector<kvm_cpuid_entry2> entries, unsigned index)
{
    constexpr std::uint32_t kHypervisor = std::uint32_t{1} << 31;
    for (kvm_cpuid_entry2 &entry : entries) {
        if (entry.function == 1) {
            entry.ebx = (entry.ebx & 0x00ffffff) | index << 24;
            entry.ecx |= kHypervisor;
        }
        if (entry.function == 0xb)
            entry.edx = index;
        if (entry.function >= 0x80000002 && entry.function <= 0x80000004)
            __cpuid(entry.function, entry.eax, entry.ebx, entry.ecx, entry.edx);
    }
    return entries;
}

} // namespace minivmx::tool
