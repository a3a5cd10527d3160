// SPDX-License-Identifier: GPL-2.0-only
//
// Runs the lab's cases on a device.
#pragma once

#include "../kvm.hpp"
#include "run.hpp"

#include <minivmx/control_types.hpp>

#include <optional>
#include <string>
#include <vector>

namespace minivmx::tool {

/// A case and what came of it.
struct LabResult {
    const LabCase *row;
    LabRun off, on;
    std::vector<std::string> wrong; // sentences; empty: as the architecture says
};

class Laboratory {
  public:
    explicit Laboratory(const Device &device);

    LabResult show(const LabCase &row) const;

    /// Exits that the hypervisor handles itself are counted, too.
    bool counts_all() const { return counts_all_; }

  private:
    bool is_absent(const ControlBit &control) const;
    LabRun run(const LabCase &row, const LabSide &side) const;

    const Device &device_;
    std::string module_; // the name of the device's module in /sys/module
    bool counts_all_ = false;
    /// What the CPU allows of the primary and secondary controls, where the device tells.
    std::optional<std::uint64_t> primary_allowed_, secondary_allowed_;
};

} // namespace minivmx::tool
