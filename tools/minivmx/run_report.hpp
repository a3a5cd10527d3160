// SPDX-License-Identifier: GPL-2.0-only
//
// What `minivmx run` says at the end.
#pragma once

#include "guest_setup.hpp"
#include "linux_guest.hpp"
#include "runner.hpp"

#include <nlohmann/json.hpp>

#include <string>

namespace minivmx::tool {

enum class RegisterDetail {
    kNone,
    kGeneral,
    kAll,
};

/// The lines for a person: the ending, the exits, the registers.
std::string run_text(const RunReport &report, RegisterDetail detail);

/// The same for a program, with what the guest wrote, behind what was run (`subject`). 64-bit
/// numbers are strings in hexadecimal, since JSON readers round them.
nlohmann::ordered_json run_json(nlohmann::ordered_json subject, const RunReport &report,
                                std::optional<std::uint32_t> guest_status,
                                const std::string &serial, const std::string &debug);

/// What was run: a flat binary, a kernel.
nlohmann::ordered_json subject_json(const GuestRequest &request, const GuestPlan &plan,
                                    const std::string &device);
nlohmann::ordered_json subject_json(const LinuxRequest &request, const LinuxPlan &plan,
                                    const std::string &device);

} // namespace minivmx::tool
