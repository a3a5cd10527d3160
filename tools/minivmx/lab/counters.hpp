// SPDX-License-Identifier: GPL-2.0-only
//
// How often a vCPU of this process has left its guest, by exit reason, from the module's debugfs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>

namespace minivmx::tool {

using ExitCounts = std::map<std::uint32_t, std::uint64_t>; // by basic exit reason

/// Lines "NAME COUNT" with the names of exit_reason_constant(); others are passed over.
ExitCounts parse_exit_counts(std::string_view text);

/// Of vCPU 0 of this process's newest VM; nothing where debugfs or the module doesn't tell.
std::optional<ExitCounts> read_exit_counts();

/// What `after` has more than `before`.
ExitCounts counts_since(const ExitCounts &before, const ExitCounts &after);

} // namespace minivmx::tool
