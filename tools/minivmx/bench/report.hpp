// SPDX-License-Identifier: GPL-2.0-only
//
// What was measured, for people and for programs.
#pragma once

#include "bench.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// One case on each device, in the devices' order.
struct BenchRow {
    BenchCase what;
    std::vector<BenchSample> samples;

    /// The last device's ticks divided by the first's; 0 with one device.
    double ratio() const;
};

struct BenchReport {
    std::vector<std::string> devices;
    std::vector<BenchRow> rows;
};

/// A table; groups have a headline each.
std::string bench_text(const BenchReport &report);
nlohmann::ordered_json bench_json(const BenchReport &report);
/// A picture of the ratios, self-contained; two devices.
std::string bench_svg(const BenchReport &report);

} // namespace minivmx::tool
