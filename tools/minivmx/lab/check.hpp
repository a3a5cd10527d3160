// SPDX-License-Identifier: GPL-2.0-only
//
// What a run of the lab came to, against what the architecture says.
#pragma once

#include "run.hpp"

#include <string>
#include <vector>

namespace minivmx::tool {

/// A sentence for each thing that is not as it must be; empty when all is, and for a side that was
/// not measured.
std::vector<std::string> check_side(const LabSide &side, const LabRun &run);

/// The same for both sides and what is between them.
std::vector<std::string> check_case(const LabCase &row, const LabRun &off, const LabRun &on);

/// So many exits are counted as the control's.
std::uint64_t expected_exits(const LabOutcome &expected, const LabRun &run);

} // namespace minivmx::tool
