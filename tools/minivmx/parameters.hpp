// SPDX-License-Identifier: GPL-2.0-only
//
// The module's parameters as insmod takes them: NAME=VALUE.
#pragma once

#include <minivmx/vmcs_config.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// The defaults with these assignments. Booleans are 1/0, y/n, on/off in either case, or the name
/// alone for 1, as for insmod. Throws a usage Error naming --param for an unknown name or value.
Parameters parse_parameters(const std::vector<std::string> &assignments);

/// All that decide over control bits.
nlohmann::ordered_json parameters_json(const Parameters &parameters);

} // namespace minivmx::tool
