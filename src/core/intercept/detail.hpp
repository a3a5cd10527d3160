// SPDX-License-Identifier: GPL-2.0-only
// What describing an intercepted exit and letting it happen have in common.
#pragma once

#include <minivmx/intercept.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// Whether the exception in this VM-exit interruption information is one that the client asked for.
bool is_intercepted_exception(const vcpu_vmx &vmx, u32 information);

// Bytes of the destination of RDRAND or RDSEED: SDM Vol. 3C, 28.2.5, table 28-12.
inline u8 random_size(u32 instruction_info)
{
    return static_cast<u8>(2 << (instruction_info >> 11 & 3));
}

} // namespace minivmx
