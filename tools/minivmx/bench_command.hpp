// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx bench`.
#pragma once

#include "command.hpp"

namespace minivmx::tool {

std::unique_ptr<Command> make_bench_command(CLI::App &app);

} // namespace minivmx::tool
