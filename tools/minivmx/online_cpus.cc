// SPDX-License-Identifier: GPL-2.0-only
#include "online_cpus.hpp"

#include "error.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>

namespace minivmx::tool {
namespace {

constexpr const char *kOnlineFile = "/sys/devices/system/cpu/online";
constexpr std::uint32_t kMostCpus = 1 << 16;

/// Takes a number off the front of `text`; false when there is none below kMostCpus.
bool take_cpu(std::string_view &text, std::uint32_t &cpu)
{
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
    if (error != std::errc() || cpu >= kMostCpus)
        return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
}

/// Takes "3" or "0-3" off the front of `text` into `cpus`.
bool take_range(std::string_view &text, std::vector<std::uint32_t> &cpus)
{
    std::uint32_t first = 0;
    if (!take_cpu(text, first))
        return false;
    std::uint32_t last = first;
    if (text.starts_with('-')) {
        text.remove_prefix(1);
        if (!take_cpu(text, last) || last < first)
            return false;
    }
    for (std::uint32_t cpu = first; cpu <= last; cpu++)
        cpus.push_back(cpu);
    return true;
}

} // namespace

std::vector<std::uint32_t> parse_cpu_list(std::string_view text)
{
    const std::string_view whole = text;
    std::vector<std::uint32_t> cpus;
    while (take_range(text, cpus)) {
        if (text.empty())
            return cpus;
        if (!text.starts_with(','))
            break;
        text.remove_prefix(1);
    }
    fail("'{}' is not a list of CPUs", whole);
}

std::vector<std::uint32_t> online_cpus()
{
    std::ifstream file(kOnlineFile);
    std::string line;
    if (!std::getline(file, line))
        fail("cannot read {}: is sysfs mounted on /sys?", kOnlineFile);
    return parse_cpu_list(line);
}

} // namespace minivmx::tool
