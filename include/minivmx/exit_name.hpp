// SPDX-License-Identifier: GPL-2.0-only
// The architecture's names of basic exit reasons. SDM Vol. 3D, Appendix C.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

/// One past the highest basic exit reason that has a name.
inline constexpr u32 kExitReasonNameCount = 86;

/// "HLT", "EPT violation"; nullptr where the SDM lists no such reason. [any]
const char *exit_reason_name(u32 basic_reason);

} // namespace minivmx
