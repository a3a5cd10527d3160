// SPDX-License-Identifier: GPL-2.0-only
#include "compare.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace minivmx::tool {
namespace {

using Verdict = BenchChange::Verdict;

BenchChange compare_row(const BenchRow &row, const BenchReport &saved, double tolerated_percent)
{
    BenchChange change;
    change.name = row.name;
    change.now = row.ratio();
    const auto found =
        std::ranges::find(saved.rows, row.name, [](const BenchRow &other) { return other.name; });
    change.expected = found == saved.rows.end() ? 0 : found->ratio();
    if (change.now <= 0) {
        change.verdict = Verdict::kNotMeasured;
    } else if (change.expected <= 0) {
        change.verdict = Verdict::kNotSaved;
    } else {
        change.percent = 100 * (change.now / change.expected - 1);
        if (change.percent > tolerated_percent)
            change.verdict = Verdict::kGrew;
        else if (change.percent < -tolerated_percent)
            change.verdict = Verdict::kShrank;
    }
    return change;
}

std::string verdict_text(const BenchChange &change)
{
    switch (change.verdict) {
    case Verdict::kAsExpected:
        return fmt::format("{:+.1f} %, as expected", change.percent);
    case Verdict::kGrew:
        return fmt::format("{:+.1f} %: GREW", change.percent);
    case Verdict::kShrank:
        return fmt::format("{:+.1f} %: shrank", change.percent);
    case Verdict::kNotSaved:
        return "NOT SAVED: renew the saved figures";
    case Verdict::kNotMeasured:
        return "NOT MEASURED";
    }
    return "";
}

} // namespace

std::vector<BenchChange> compare_reports(const BenchReport &now, const BenchReport &saved,
                                         double tolerated_percent)
{
    std::vector<BenchChange> changes;
    for (const BenchRow &row : now.rows)
        if (row.group != BenchGroup::kFloor && row.group != BenchGroup::kGrowth)
            changes.push_back(compare_row(row, saved, tolerated_percent));
    return changes;
}

std::string changes_text(const std::vector<BenchChange> &changes, const std::string &file,
                         double tolerated_percent)
{
    std::string text =
        fmt::format("\nRatios beside those of {}, {:g} % tolerated\n", file, tolerated_percent);
    for (const BenchChange &change : changes)
        text += fmt::format("  {:<18}{:>8.3f} was {:.3f}   {}\n", change.name, change.now,
                            change.expected, verdict_text(change));
    if (std::ranges::any_of(changes, &BenchChange::is_wrong))
        text += "If what grew has a good reason, `make bench` renews the saved figures.\n";
    return text;
}

} // namespace minivmx::tool
