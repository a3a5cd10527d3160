// SPDX-License-Identifier: GPL-2.0-only
//
// A report beside one that was saved: what has grown.
#pragma once

#include "report.hpp"

#include <string>
#include <vector>

namespace minivmx::tool {

struct BenchChange {
    enum class Verdict : std::uint8_t {
        kAsExpected,
        kGrew,       ///< by more than is tolerated
        kShrank,     ///< likewise: the saved figures could be renewed
        kNotSaved,   ///< the saved report lacks this case
        kNotMeasured ///< the new one does
    };
    std::string name;
    double expected = 0; ///< the saved ratio
    double now = 0;
    double percent = 0; ///< from the one to the other
    Verdict verdict = Verdict::kAsExpected;

    /// Whether somebody has to do something about it.
    bool is_wrong() const { return verdict != Verdict::kAsExpected && verdict != Verdict::kShrank; }
};

/// One for each row of `now` that has a ratio. Both are of two devices: absolute figures change
/// with every kernel, a ratio of two hypervisors on the same one hardly does.
std::vector<BenchChange> compare_reports(const BenchReport &now, const BenchReport &saved,
                                         double tolerated_percent);

/// A line for each, and what to do if one is wrong; `file` is the saved report's.
std::string changes_text(const std::vector<BenchChange> &changes, const std::string &file,
                         double tolerated_percent);

} // namespace minivmx::tool
