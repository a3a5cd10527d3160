// SPDX-License-Identifier: GPL-2.0-only
//
// Which CPUs this machine has.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace minivmx::tool {

/// The kernel's notation of a set of CPUs: "0-3,6". Throws Error when `text` is something else.
std::vector<std::uint32_t> parse_cpu_list(std::string_view text);

/// The CPUs that are online, lowest first. Throws Error when the kernel does not tell.
std::vector<std::uint32_t> online_cpus();

} // namespace minivmx::tool
