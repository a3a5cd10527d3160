// SPDX-License-Identifier: GPL-2.0-only
//
// What the CPU that the tests run on has, where not every compiler's __builtin_cpu_supports()
// knows.
#pragma once

#include <cpuid.h>

namespace minivmx::test {

inline bool host_has_movbe()
{
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_MOVBE) != 0;
}

inline bool host_has_lzcnt()
{
    constexpr unsigned kExtended = 0x80000001;
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid(kExtended, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_LZCNT) != 0;
}

} // namespace minivmx::test
