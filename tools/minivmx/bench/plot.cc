// SPDX-License-Identifier: GPL-2.0-only
//
// Bars of the ratios: how much of the first device's cost is left.
#include "groups.hpp"
#include "matrix/markup.hpp"
#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace minivmx::tool {
namespace {

constexpr double kRowHeight = 22;
constexpr double kNames = 150;
constexpr double kBars = 480;
constexpr double kTop = 46;
/// The axis ends at this ratio; longer bars are cut off and say their number.
constexpr double kLongest = 1.2;

constexpr const char *kStyle =
    ".less{fill:#2a78b5}.more{fill:#c4622d}text{fill:#222}.number{font-size:11px}"
    ".headline{font-weight:bold}line{stroke:#888;stroke-dasharray:3 3}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.less{fill:#5aa7e0}.more{fill:#e08a5a}}";

std::string bar(const BenchRow &row, double y)
{
    const double length = kBars * std::min(row.ratio(), kLongest) / kLongest;
    return fmt::format(
        "<text x='{}' y='{}' text-anchor='end'>{}</text>"
        "<rect x='{}' y='{}' width='{:.1f}' height='{}' class='{}'><title>{}: {:.0f} of {:.0f} "
        "{}</title></rect><text x='{:.1f}' y='{}' class='number'>{:.2f}</text>\n",
        kNames - 8, y + 15, escaped(row.name), kNames, y + 3, length, kRowHeight - 6,
        row.ratio() <= 1 ? "less" : "more", escaped(row.operation), row.samples.back().busy(),
        row.samples.front().busy(), unit_key(row.unit), kNames + length + 6, y + 15, row.ratio());
}

std::string headline(BenchGroup group, double y)
{
    return fmt::format("<text x='{}' y='{}' class='headline'>{}</text>\n", kNames, y + 16,
                       group_facts(group).headline);
}

} // namespace

std::string bench_svg(const BenchReport &report)
{
    std::string bars;
    double y = kTop;
    const BenchGroup *group = nullptr;
    for (const BenchRow &row : report.rows) {
        if (!row.has_ratio())
            continue;
        if (group == nullptr || *group != row.group) {
            bars += headline(row.group, y);
            y += kRowHeight;
        }
        group = &row.group;
        bars += bar(row, y);
        y += kRowHeight;
    }
    const double one = kNames + kBars / kLongest;
    const auto name = [&](const std::string &device) {
        return escaped(device.substr(device.rfind('/') + 1));
    };
    return fmt::format(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {w} {h}' font-family='sans-serif' "
        "font-size='12' role='img'>\n<style>{style}</style>\n"
        "<title>The cost on {second} for one on {first}</title>\n"
        "<text x='{names}' y='20' font-size='14'>The cost on {second} for one on {first} "
        "({kernel})</text>\n"
        "<line x1='{one}' y1='28' x2='{one}' y2='{h}'/><text x='{one}' y='38' "
        "text-anchor='middle' class='number'>{first}</text>\n{bars}</svg>\n",
        fmt::arg("w", kNames + kBars + 60), fmt::arg("h", y + 8), fmt::arg("style", kStyle),
        fmt::arg("names", kNames), fmt::arg("one", one),
        fmt::arg("first", name(report.devices.front())),
        fmt::arg("second", name(report.devices.back())),
        fmt::arg("kernel", escaped(report.machine.kernel)), fmt::arg("bars", bars));
}

} // namespace minivmx::tool
