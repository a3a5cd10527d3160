// SPDX-License-Identifier: GPL-2.0-only
//
// What every vCPU of this machine has counted so far, from the module's debugfs:
// DIRECTORY/PID/VM/VCPU/{exits,events}.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

inline constexpr const char *kCountersDirectory = "/sys/kernel/debug/minivmx";

using Counters = std::map<std::string, std::uint64_t>;

struct VcpuName {
    std::uint64_t pid, vm, vcpu;
    auto operator<=>(const VcpuName &) const = default;
    std::string text() const; ///< "1234/0/1"
};

struct VcpuCounters {
    VcpuName name;
    std::string process; ///< the command of the process, or "" when that is gone
    Counters exits;      ///< by the word that traces have for the reason
    Counters events;
};

/// The vCPUs that are asked for: of one process, of one of its VMs, one vCPU, or all.
struct VcpuSelection {
    std::optional<std::uint64_t> pid, vm, vcpu;
    bool has(const VcpuName &name) const;
};

/// "PID", "PID/VM" or "PID/VM/VCPU"; "" is all of them. Throws a usage Error for anything else.
VcpuSelection parse_vcpu_selection(std::string_view text);

/// What a process calls itself in its file comm, without what a terminal would obey.
std::string process_name_text(std::string_view comm);

/// Lines "NAME COUNT". Throws an Error that names `path` and the line for anything else.
Counters parse_counters(const std::string &path, std::string_view text);

/// Of each vCPU that is selected, in the order of their names; one that goes meanwhile is left out.
/// Throws an Error that says what to do where nothing can be read at all.
std::vector<VcpuCounters> read_counters(const VcpuSelection &selection,
                                        const std::string &directory = kCountersDirectory);

} // namespace minivmx::tool
