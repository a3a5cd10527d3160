// SPDX-License-Identifier: GPL-2.0-only
//
// How groups and units are called.
#pragma once

#include "bench.hpp"

#include <array>
#include <optional>
#include <string_view>

namespace minivmx::tool {

struct BenchGroupFacts {
    const char *key; ///< in JSON
    const char *headline;
};

constexpr std::array<BenchGroupFacts, 8> kBenchGroups = {{
    {"floor", "What no hypervisor can save"},
    {"in-kernel", "Exits that the kernel answers"},
    {"to-user", "Exits to the VMM and back"},
    {"interrupts", "Interrupts"},
    {"memory", "Memory, for each page"},
    {"paging", "What a guest does to its page tables"},
    {"life", "VMs that come and go"},
    {"growth", "In a VM that has much of something"},
}};

constexpr const BenchGroupFacts &group_facts(BenchGroup group)
{
    return kBenchGroups[static_cast<std::size_t>(group)];
}

constexpr std::optional<BenchGroup> group_of_key(std::string_view key)
{
    for (std::size_t i = 0; i < kBenchGroups.size(); i++)
        if (kBenchGroups[i].key == key)
            return static_cast<BenchGroup>(i);
    return std::nullopt;
}

constexpr const char *unit_key(BenchUnit unit)
{
    return unit == BenchUnit::kTicks ? "ticks" : "bytes";
}

} // namespace minivmx::tool
