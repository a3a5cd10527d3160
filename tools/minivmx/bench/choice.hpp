// SPDX-License-Identifier: GPL-2.0-only
//
// Which cases are measured.
#pragma once

#include "bench.hpp"

#include <string>
#include <vector>

namespace minivmx::tool {

/// Those of `all` that one of `names` means, in their order; all of them without names. A case's
/// whole name means that one, a part of names each that has it. Throws a usage Error for a name
/// that means none.
std::vector<BenchCase> choose_cases(const std::vector<BenchCase> &all,
                                    const std::vector<std::string> &names);

} // namespace minivmx::tool
