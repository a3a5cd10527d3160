// SPDX-License-Identifier: GPL-2.0-only
//
// What the lab has seen, for a person and for a program.
#pragma once

#include "laboratory.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

struct LabReport {
    std::string device;
    bool counted = false; // exits that the hypervisor handles itself, too
    std::vector<LabResult> results;

    bool all_right() const;
};

/// A line for each control.
std::string lab_table(const LabReport &report);

/// All about one control.
std::string lab_lesson(const LabReport &report, const LabResult &result);

nlohmann::ordered_json lab_json(const LabReport &report);

/// What there is, without a device.
std::string lab_list();
nlohmann::ordered_json lab_list_json();

} // namespace minivmx::tool
