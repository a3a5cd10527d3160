// SPDX-License-Identifier: GPL-2.0-only
//
// Explanations as data. 64-bit numbers are strings in hexadecimal.
#pragma once

#include "explain.hpp"

namespace minivmx::tool {

/// The bits of `rows`, word by word; all where `rows` is empty. Its "msr" can be given to --msrs.
nlohmann::ordered_json explanation_json(const Explanation &answer,
                                        const std::vector<const ControlBit *> &rows);
nlohmann::ordered_json explained_bit_json(const ExplainedBit &bit);

} // namespace minivmx::tool
