// SPDX-License-Identifier: GPL-2.0-only
// The names of basic exit reasons (SDM Vol. 3D, Appendix C) and of exceptions.
#pragma once

#include <minivmx/exit.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

/// One past the highest basic exit reason that has a name.
inline constexpr u32 kExitReasonNameCount = EXIT_REASON_COUNT;

/// The architecture's: "HLT", "EPT violation"; nullptr where the SDM lists no such reason. [any]
const char *exit_reason_name(u32 basic_reason);
/// As a word, as traces and counters have it: "HLT", "EPT_VIOLATION"; or nullptr. [any]
const char *exit_reason_constant(u32 basic_reason);
/// Why VMLAUNCH or VMRESUME itself fails: SDM Vol. 3C, 31.4, table 31-1; nullptr for numbers of
/// other instructions. [any]
const char *instruction_error_name(u32 number);
/// "#GP", "NMI" for vector 2; nullptr for vectors that aren't exceptions. SDM Vol. 3A, 6.3.1. [any]
const char *exception_name(u32 vector);

} // namespace minivmx
