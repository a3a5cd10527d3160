// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx report`: what VMX offers here, and what the module makes of it.
#pragma once

#include "command.hpp"

namespace minivmx::tool {

std::unique_ptr<Command> make_report_command(CLI::App &app);

} // namespace minivmx::tool
