// SPDX-License-Identifier: GPL-2.0-only
//
// Bars of the ratios: how much of the first device's cost is left.
#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace minivmx::tool {
namespace {

constexpr double kRowHeight = 22;
constexpr double kNames = 130;
constexpr double kBars = 480;
constexpr double kTop = 46;
/// The axis ends at this ratio; longer bars are cut off and say their number.
constexpr double kLongest = 1.2;

std::string bar(const BenchRow &row, double y)
{
    const double length = kBars * std::min(row.ratio(), kLongest) / kLongest;
    return fmt::format(
        "<text x='{}' y='{}' text-anchor='end'>{}</text>"
        "<rect x='{}' y='{}' width='{:.1f}' height='{}' class='{}'><title>{}: {:.0f} of {:.0f} "
        "ticks</title></rect><text x='{:.1f}' y='{}' class='number'>{:.2f}</text>\n",
        kNames - 8, y + 15, row.what.name, kNames, y + 3, length, kRowHeight - 6,
        row.ratio() <= 1 ? "less" : "more", row.what.operation, row.samples.back().ticks,
        row.samples.front().ticks, kNames + length + 6, y + 15, row.ratio());
}

} // namespace

std::string bench_svg(const BenchReport &report)
{
    std::string bars;
    double y = kTop;
    for (const BenchRow &row : report.rows) {
        if (row.what.group == BenchGroup::kFloor || row.samples.size() != 2)
            continue;
        bars += bar(row, y);
        y += kRowHeight;
    }
    const double one = kNames + kBars / kLongest;
    const auto name = [&](std::size_t i) {
        return report.devices[i].substr(report.devices[i].rfind('/') + 1);
    };
    return fmt::format(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {w} {h}' font-family='sans-serif' "
        "font-size='12' role='img'>\n"
        "<style>.less{{fill:#2a78b5}}.more{{fill:#c4622d}}text{{fill:#222}}.number{{font-size:11px}"
        "}"
        "line{{stroke:#888;stroke-dasharray:3 3}}"
        "@media(prefers-color-scheme:dark){{text{{fill:#ddd}}.less{{fill:#5aa7e0}}"
        ".more{{fill:#e08a5a}}}}</style>\n"
        "<title>Ticks of {second} for one of {first}</title>\n"
        "<text x='{names}' y='20' font-size='14'>Ticks of {second} for one of {first}</text>\n"
        "<line x1='{one}' y1='28' x2='{one}' y2='{h}'/><text x='{one}' y='38' "
        "text-anchor='middle' class='number'>{first}</text>\n{bars}</svg>\n",
        fmt::arg("w", kNames + kBars + 60), fmt::arg("h", y + 8), fmt::arg("names", kNames),
        fmt::arg("one", one), fmt::arg("first", name(0)), fmt::arg("second", name(1)),
        fmt::arg("bars", bars));
}

} // namespace minivmx::tool
