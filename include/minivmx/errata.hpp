// SPDX-License-Identifier: GPL-2.0-only
//
// CPU models whose VMX does not do what its capability MSRs say.
#pragma once

#include <minivmx/host_desc.hpp>

namespace minivmx {

/// The preemption timer does not count at the rate that IA32_VMX_MISC gives: the erratum's number
/// in Intel's specification updates and the models, or nullptr for a CPU without the erratum.
const char *broken_preemption_timer_erratum(CpuSignature signature);

/// A VM exit that loads IA32_PERF_GLOBAL_CTRL may clear its bits 34:32: likewise.
const char *perf_global_ctrl_erratum(CpuSignature signature);

} // namespace minivmx
