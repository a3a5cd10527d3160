// SPDX-License-Identifier: GPL-2.0-only
//
// A run of a lab guest, and what came of it.
#pragma once

#include "lab.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace minivmx::tool {

/// What a side came to.
enum class LabStatus : std::uint8_t {
    kMeasured,
    kNotShown,  // LabSide::why_not
    kAbsent,    // the CPU doesn't have the control
    kLacking,   // the CPU or the device lacks what the side needs; `reason` names it
    kParameter, // the module has been loaded with another value
};

struct LabRun {
    LabStatus status = LabStatus::kNotShown;
    std::string reason; // unless it was measured, a few words

    bool ran = false;                             // false: KVM_RUN refused the guest
    unsigned rounds = 0;                          // how often the guest did it
    std::map<std::uint32_t, std::uint64_t> exits; // by basic reason: those of the measured code
    std::uint64_t client_exits = 0; // those among them that came as MINIVMX_EXIT_INTERCEPT
    std::uint64_t ticks = 0;        // least cost of the code, in ticks of the guest's TSC
    int fault = -1;                 // vector that the guest got
    std::uint64_t value = 0;        // RAX after the code, last time
    std::uint64_t host_tsc_before = 0, host_tsc_after = 0;
    std::uint64_t tsc_setting_took = 0; // where the guest's TSC was set, in ticks
    std::optional<bool> bit;            // the control's bit in the vCPU's word
    bool counted = false; // `exits` knows those, too, that the hypervisor handles itself

    bool measured() const { return status == LabStatus::kMeasured; }
};

} // namespace minivmx::tool
