// SPDX-License-Identifier: GPL-2.0-only
//
// What differs between two explanations.
#pragma once

#include "explain.hpp"

#include <string>
#include <vector>

namespace minivmx::tool {

struct BitDifference {
    const ExplainedBit *a, *b;
};

/// The bits that are not the same for the vCPU, after negotiation, or as the CPUs offer them; in
/// the order of the table.
std::vector<BitDifference> differences(const Explanation &a, const Explanation &b);

std::string diff_text(const Explanation &a, const Explanation &b);
nlohmann::ordered_json diff_json(const Explanation &a, const Explanation &b);

} // namespace minivmx::tool
