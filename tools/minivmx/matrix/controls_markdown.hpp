// SPDX-License-Identifier: GPL-2.0-only
//
// docs/controls.md: a section for each bit of each control word, from the table, the rules and the
// CPUs that ship with minivmx.
#pragma once

#include <string>

namespace minivmx::tool {

/// The whole file. It depends on nothing but the program.
std::string controls_markdown();

} // namespace minivmx::tool
