// SPDX-License-Identifier: GPL-2.0-only
// What describing an intercepted exit and letting it happen have in common.
#pragma once

#include <minivmx/intercept.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// Whether the exception in this VM-exit interruption information is one that the client asked for.
bool is_intercepted_exception(const vcpu_vmx &vmx, u32 information);

// The exception of the last exit, whoever wanted that, reaches the guest.
Outcome deliver_exception(vcpu_vmx &vmx);

// Whether the last exit, an exception, is #UD of an XSAVES or XRSTORS that only intercepting it
// takes away; then insn is that one.
bool is_intercepted_xsave(vcpu_vmx &vmx, Instruction &insn);
// It executes in the guest; whether that goes on after an exit; and back to the intercept.
Outcome begin_native_step(vcpu_vmx &vmx);
bool native_step_goes_on(vcpu_vmx &vmx);

// Bytes of the destination of RDRAND or RDSEED: SDM Vol. 3C, 28.2.5, table 28-12.
inline u8 random_size(u32 instruction_info)
{
    return static_cast<u8>(2 << (instruction_info >> 11 & 3));
}

} // namespace minivmx
