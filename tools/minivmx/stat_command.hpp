// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include "command.hpp"

namespace minivmx::tool {

/// `minivmx stat`.
std::unique_ptr<Command> make_stat_command(CLI::App &app);

} // namespace minivmx::tool
