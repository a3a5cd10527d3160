// SPDX-License-Identifier: GPL-2.0-only
//
// What `minivmx run` says at the end.
#pragma once

#include "guest_setup.hpp"
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

/// The same for a program, with what the guest wrote. 64-bit numbers are strings in hexadecimal,
/// since JSON readers round them.
nlohmann::ordered_json run_json(const GuestRequest &request, const GuestPlan &plan,
                                const std::string &device, const RunReport &report,
                                std::optional<std::uint32_t> guest_status,
                                const std::string &serial, const std::string &debug);

} // namespace minivmx::tool
