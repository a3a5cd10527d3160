// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx matrix`: every control on every CPU that ships with minivmx.
#pragma once

#include "command.hpp"

namespace minivmx::tool {

std::unique_ptr<Command> make_matrix_command(CLI::App &app);

} // namespace minivmx::tool
