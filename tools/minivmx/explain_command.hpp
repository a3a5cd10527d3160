// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx explain`: why each control is on or off; `minivmx diff`: what differs between two
// machines, parameters or vCPUs.
#pragma once

#include "command.hpp"

namespace minivmx::tool {

std::unique_ptr<Command> make_explain_command(CLI::App &app);
std::unique_ptr<Command> make_diff_command(CLI::App &app);

} // namespace minivmx::tool
