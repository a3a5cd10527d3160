// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx run`: a small VMM for flat binaries.
#pragma once

#include "command.hpp"

namespace minivmx::tool {

std::unique_ptr<Command> make_run_command(CLI::App &app);

} // namespace minivmx::tool
