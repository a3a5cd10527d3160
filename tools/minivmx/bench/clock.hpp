// SPDX-License-Identifier: GPL-2.0-only
//
// Time as the benchmark sees it: ticks of the time-stamp counter.
#pragma once

#include <x86intrin.h>

#include <algorithm>
#include <cstdint>
#include <optional>

namespace minivmx::tool {

/// LFENCE keeps the reading from moving ahead of what is measured: SDM Vol. 2B, RDTSC.
inline std::uint64_t now_ticks()
{
    _mm_lfence();
    return __rdtsc();
}

/// The least that `operation` took in so many tries: an interrupt of the host is in few of them.
template <typename Operation>
std::uint64_t least_ticks(unsigned tries, Operation operation)
{
    std::uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < tries; i++) {
        const std::uint64_t begin = now_ticks();
        operation();
        least = std::min(least, now_ticks() - begin);
    }
    return least;
}

/// Adds up how long the machine's only CPU was idle. Nothing with several CPUs, or where
/// /proc/timer_list can't be read: then who waited can't be told.
class IdleClock {
  public:
    IdleClock();
    /// Ticks since the object was made.
    std::optional<double> ticks() const;

  private:
    std::optional<std::uint64_t> begin_ns_;
    std::uint64_t begin_ticks_;
    std::uint64_t begin_time_ns_;
};

} // namespace minivmx::tool
