// SPDX-License-Identifier: GPL-2.0-only
//
// What was measured, for people and for programs.
#pragma once

#include "bench.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

/// One case on each device.
struct BenchRow {
    std::string name;
    BenchGroup group = BenchGroup::kFloor;
    std::string operation;
    BenchUnit unit = BenchUnit::kTicks;
    unsigned exits = 0;               ///< as BenchCase says
    std::vector<BenchSample> samples; ///< in the devices' order; empty with a problem
    std::string problem;              ///< why there is no figure

    /// The last device's figure divided by the first's, without waiting; 0 with one device.
    double ratio() const;
    /// Whether it says something: not of what is no hypervisor's, nor of what one more of something
    /// costs, nor where there is no cost at all.
    bool has_ratio() const;
};

/// Where it was measured: figures of two machines are not to be compared.
struct BenchMachine {
    std::string kernel;      ///< its release
    std::string cpu;         ///< its brand string
    std::string mitigations; ///< "l1tf: Mitigation: ...\n" for each that is in force
};

struct BenchReport {
    std::vector<std::string> devices;
    BenchMachine machine;
    bool exits_counted = false; ///< of every case that must take a certain number, and compared
    std::vector<BenchRow> rows;
};

/// A table; groups have a headline each.
std::string bench_text(const BenchReport &report);

nlohmann::ordered_json bench_json(const BenchReport &report);

/// What bench_json() made, from the text of a file that may be anything. Throws a usage Error that
/// names `file`.
BenchReport bench_report_from(const std::string &file, std::string_view text);

/// A picture of the ratios, self-contained; two devices.
std::string bench_svg(const BenchReport &report);

} // namespace minivmx::tool
