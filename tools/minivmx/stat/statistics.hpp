// SPDX-License-Identifier: GPL-2.0-only
//
// Two readings of the counters as rates: the tables and the JSON of `minivmx stat`.
#pragma once

#include "stat/counters.hpp"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

struct Rate {
    std::string name;
    std::uint64_t total; ///< since the vCPUs were made
    double per_second;
};

/// What happened between two readings. A vCPU that the first one lacks counts from 0, one that the
/// second one lacks is gone.
struct Statistics {
    double seconds; ///< between the two; 0: there is one reading only, and no rates
    std::size_t vms;
    std::vector<VcpuCounters> vcpus;  ///< the second reading
    std::vector<Rate> exits;          ///< by reason, the most frequent first
    std::vector<Rate> events;         ///< in the module's order of names
    std::vector<Rate> by_vm, by_vcpu; ///< exits of each, the busiest first
    Rate all_exits;
};
Statistics make_statistics(const std::vector<VcpuCounters> &before,
                           const std::vector<VcpuCounters> &now, double seconds);

enum class StatRows { kReason, kVm, kVcpu };

/// A table of exits by reason, VM or vCPU, and below it the other events; at most `most_rows` rows
/// of exits.
std::string statistics_text(const Statistics &statistics, StatRows rows, std::size_t most_rows);

nlohmann::ordered_json statistics_json(const Statistics &statistics);

} // namespace minivmx::tool
