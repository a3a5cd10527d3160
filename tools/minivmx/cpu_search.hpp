// SPDX-License-Identifier: GPL-2.0-only
//
// The CPUs that ship with minivmx, by what a person remembers of them.
#pragma once

#include <profiles.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// "IvyBridge: Intel(R) Core(TM) i7-3770K CPU @ 3.50GHz".
std::string cpu_title(const profiles::CpuProfile &cpu);

/// Those of which each word of `text` is part of the name, the brand string, the microarchitecture
/// or the brand string of another CPU with the same values; all for an empty text. By generation.
std::vector<const profiles::CpuProfile *> find_cpus(const std::string &text);

/// The one that is meant: by its name, or by a part that fits only one, or only one real CPU.
/// Throws a usage Error that begins with `option` and names those that fit, or similar ones.
const profiles::CpuProfile &choose_cpu(const std::string &option, const std::string &text);

} // namespace minivmx::tool
