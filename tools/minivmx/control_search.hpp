// SPDX-License-Identifier: GPL-2.0-only
//
// Controls and control words as a person names them.
#pragma once

#include <minivmx/controls.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// The controls that `name` may be: "cr3-load-exiting", "CPU_BASED_CR3_LOAD_EXITING", "CR3-load
/// exiting", "primary.15". Several where VM exit and VM entry have one of the same name. Throws a
/// usage Error that suggests others.
std::vector<const ControlBit *> find_controls(const std::string &name);

/// "primary", or "primary processor-based". Throws a usage Error that lists all.
ControlField find_word(const std::string &name);

} // namespace minivmx::tool
