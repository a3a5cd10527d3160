// SPDX-License-Identifier: GPL-2.0-only
//
// What the module would negotiate on a machine, as the core decides it: for `minivmx report`.
#pragma once

#include <minivmx/report.hpp>
#include <minivmx/vmcs_config.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// A CPU that offers something else than the first one.
struct Difference {
    u32 cpu;
    std::string sentence;
};

struct MachineReport {
    std::string source;    ///< where the values are from
    std::vector<u32> cpus; ///< the numbers of all that were looked at, the reference first
    bool usable = false;   ///< the module would load
    std::string error;     ///< why not
    std::vector<std::string> warnings;
    std::vector<Difference> differences;
    Hardware hardware; ///< the result for the first CPU; without negotiated words when that failed
};

/// Negotiates for hosts[0] with these parameters, as the module does when it is loaded, and
/// compares the others with it. `hosts` is not empty.
MachineReport make_report(std::string source, const std::vector<HostDesc> &hosts,
                          Parameters parameters);

/// Lines for a person.
std::string report_text(const MachineReport &report, ReportLevel level);

/// Everything, every bit with its reason. 64-bit numbers are strings in hexadecimal.
nlohmann::ordered_json report_json(const MachineReport &report);

} // namespace minivmx::tool
