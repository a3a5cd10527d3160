// SPDX-License-Identifier: GPL-2.0-only
#include "clock.hpp"

#include <fstream>
#include <string>

#include <ctime>
#include <unistd.h>

namespace minivmx::tool {
namespace {

std::uint64_t monotonic_ns()
{
    timespec now = {};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

/// What the kernel's tick says of the CPU's idle time; nothing if it isn't the only one.
std::optional<std::uint64_t> idle_ns()
{
    if (sysconf(_SC_NPROCESSORS_ONLN) != 1)
        return std::nullopt;
    std::ifstream list("/proc/timer_list");
    for (std::string line; std::getline(list, line);) {
        const std::size_t at = line.find(".idle_sleeptime");
        const std::size_t colon = at == std::string::npos ? at : line.find(':', at);
        if (colon != std::string::npos)
            return std::stoull(line.substr(colon + 1));
    }
    return std::nullopt;
}

} // namespace

IdleClock::IdleClock()
    : begin_ns_(idle_ns()), begin_ticks_(now_ticks()), begin_time_ns_(monotonic_ns())
{}

std::optional<double> IdleClock::ticks() const
{
    const std::optional<std::uint64_t> end_ns = idle_ns();
    const std::uint64_t time_ns = monotonic_ns() - begin_time_ns_;
    if (!begin_ns_ || !end_ns || time_ns == 0)
        return std::nullopt;
    const double ticks_per_ns =
        static_cast<double>(now_ticks() - begin_ticks_) / static_cast<double>(time_ns);
    return static_cast<double>(*end_ns - *begin_ns_) * ticks_per_ns;
}

} // namespace minivmx::tool
