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

} // namespace minivmx::test
