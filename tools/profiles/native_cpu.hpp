// SPDX-License-Identifier: GPL-2.0-only
//
// The CPU that this process runs on: CPUID, and MSRs through the msr device (root only).
#pragma once

#include <minivmx/host_desc.hpp>

#include <string>

namespace minivmx::native {

/// Describes CPU `cpu` of this machine as describe_cpu() does, with the MSRs of /dev/cpu/N/msr and
/// the TSC frequency of CPUID, or measured where CPUID does not tell it (20 ms). The calling thread
/// is moved to that CPU. Throws std::runtime_error with a sentence when the device can't be read.
HostDesc describe(u32 cpu);

} // namespace minivmx::native
