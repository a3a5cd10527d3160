// SPDX-License-Identifier: GPL-2.0-only
//
// A running vCPU's control words, from the file `controls` that the module shows root in debugfs.
#pragma once

#include "explain.hpp"

#include <string>
#include <string_view>

namespace minivmx::tool {

/// What the module wrote (print_vcpu_controls() of the core). Throws an Error that names `path`,
/// the line, and what was expected there.
Explanation parse_vcpu_controls(const std::string &path, std::string_view text);

/// Of the vCPU "PID/VM/VCPU", below `directory`. Throws an Error that tells how to get there, or
/// which vCPUs there are.
Explanation read_vcpu_controls(const std::string &name,
                               const std::string &directory = "/sys/kernel/debug/minivmx");

} // namespace minivmx::tool
