// SPDX-License-Identifier: GPL-2.0-only
#include "report.hpp"

#include "groups.hpp"
#include "number.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace minivmx::tool {
namespace {

/// "1,158"; small ones, as on hardware an empty loop may be, with a decimal.
std::string amount_text(double amount)
{
    if (amount > -10 && amount < 10)
        return fmt::format("{:.1f}", amount);
    const std::string sign = amount < 0 ? "-" : "";
    return sign + grouped(static_cast<std::uint64_t>(std::llround(std::abs(amount))));
}

/// A line below the case's own.
template <typename Cell>
std::string detail(const char *name, const BenchRow &row, Cell cell)
{
    std::string text = fmt::format("    {:<16}", name);
    for (const BenchSample &sample : row.samples)
        text += fmt::format("{:>16}", cell(sample));
    return text + '\n';
}

std::string row_text(const BenchRow &row)
{
    std::string text = fmt::format("  {:<18}", row.name);
    if (!row.problem.empty())
        return fmt::format("{}  not measured: {}\n", text, row.problem);
    for (const BenchSample &sample : row.samples)
        text += fmt::format("{:>16}", amount_text(sample.busy()));
    if (row.samples.size() == 2)
        text += row.has_ratio() ? fmt::format("{:>8.2f}", row.ratio()) : "        ";
    text +=
        fmt::format("   {}{}\n", row.operation, row.unit == BenchUnit::kBytes ? " (bytes)" : "");
    const auto any = [&](auto test) { return std::ranges::any_of(row.samples, test); };
    if (row.exits == 0 && any([](const BenchSample &s) { return s.exits.has_value(); }))
        text += detail("VM exits", row, [](const BenchSample &s) {
            return s.exits ? fmt::format("{:.2f}", *s.exits) : "?";
        });
    if (any([](const BenchSample &s) { return s.waiting.value_or(0) >= 1; }))
        text += detail("waiting", row, [](const BenchSample &s) {
            return s.waiting ? amount_text(*s.waiting) : "?";
        });
    return text;
}

std::string file_name(const std::string &path)
{
    return path.substr(path.rfind('/') + 1);
}

} // namespace

double BenchRow::ratio() const
{
    if (samples.size() < 2 || samples.front().busy() <= 0)
        return 0;
    return samples.back().busy() / samples.front().busy();
}

bool BenchRow::has_ratio() const
{
    return group != BenchGroup::kFloor && group != BenchGroup::kGrowth && ratio() > 0;
}

std::string bench_text(const BenchReport &report)
{
    std::string text = fmt::format("{:<20}", "TSC ticks");
    for (const std::string &device : report.devices)
        text += fmt::format("{:>16}", file_name(device));
    text += report.devices.size() == 2 ? "   ratio   one operation\n" : "   one operation\n";
    const BenchGroup *group = nullptr;
    for (const BenchRow &row : report.rows) {
        if (group == nullptr || *group != row.group)
            text += fmt::format("\n{}\n", group_facts(row.group).headline);
        group = &row.group;
        text += row_text(row);
    }
    if (!report.exits_counted)
        text += "\nVM exits were not counted: that takes root, and debugfs at /sys/kernel/debug.\n";
    return text;
}

nlohmann::ordered_json bench_json(const BenchReport &report)
{
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const BenchRow &row : report.rows) {
        nlohmann::ordered_json one = {{"name", row.name},
                                      {"group", group_facts(row.group).key},
                                      {"operation", row.operation},
                                      {"unit", unit_key(row.unit)}};
        if (row.exits != 0)
            one["exits_expected"] = row.exits;
        if (!row.problem.empty())
            one["problem"] = row.problem;
        nlohmann::ordered_json cells = nlohmann::ordered_json::array();
        for (std::size_t i = 0; i < row.samples.size(); i++) {
            const BenchSample &sample = row.samples[i];
            nlohmann::ordered_json cell = {{"device", report.devices[i]},
                                           {unit_key(row.unit), sample.ticks}};
            if (sample.waiting)
                cell["waiting"] = *sample.waiting;
            if (sample.exits)
                cell["exits"] = *sample.exits;
            cells.push_back(cell);
        }
        one["devices"] = cells;
        if (row.has_ratio())
            one["ratio"] = row.ratio();
        rows.push_back(one);
    }
    return {{"devices", report.devices},
            {"machine",
             {{"kernel", report.machine.kernel},
              {"cpu", report.machine.cpu},
              {"mitigations", report.machine.mitigations}}},
            {"exits_counted", report.exits_counted},
            {"cases", rows}};
}

} // namespace minivmx::tool
