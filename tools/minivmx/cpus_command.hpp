// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx cpus`: the CPUs whose MSRs ship with minivmx.
#pragma once

#include "command.hpp"

namespace minivmx::tool {

std::unique_ptr<Command> make_cpus_command(CLI::App &app);

} // namespace minivmx::tool
