// SPDX-License-Identifier: GPL-2.0-only
//
// How often the guests of this process have left, as kvm and minivmx count it in debugfs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace minivmx::tool {

/// A file of minivmx's with a line "REASON COUNT" for each reason. Interrupts of the host are none
/// of the guest's doing, and left out.
std::uint64_t exits_of_reasons(std::string_view text);

/// kvm's: a VM's files of one number each, "exits" and "irq_exits".
std::optional<std::uint64_t> exits_of_counts(std::string_view exits, std::string_view irq_exits);

/// Those of this process's only VM, `vm_fd`; nothing where debugfs doesn't tell.
std::optional<std::uint64_t> count_exits(int vm_fd,
                                         const std::string &debugfs = "/sys/kernel/debug");

} // namespace minivmx::tool
