// SPDX-License-Identifier: GPL-2.0-only
//
// The CPUs that ship with minivmx, as a list for a person and as data.
#pragma once

#include <nlohmann/json.hpp>
#include <profiles.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// A line for each, under its line of CPUs and its generation.
std::string cpu_list_text(const std::vector<const profiles::CpuProfile *> &cpus);
/// Everything that is known of one, with the source of its values.
std::string cpu_text(const profiles::CpuProfile &cpu);
nlohmann::ordered_json cpu_list_json(const std::vector<const profiles::CpuProfile *> &cpus);

} // namespace minivmx::tool
