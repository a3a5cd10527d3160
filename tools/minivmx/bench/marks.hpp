// SPDX-License-Identifier: GPL-2.0-only
//
// What `bench --mark` does instead of measuring: each case runs a few windows that are warm
// already, between two magic breakpoints of Bochs. Its debugger can count there what is on an
// exit's path (tools/machine/count-exits).
#pragma once

#include "bench_vm.hpp"

#include <cstdint>
#include <optional>

namespace minivmx::tool {

/// How it is done, and what came of it.
struct BenchMarking {
    bool on = false;
    /// VM exits between the last marks, as the module counts them.
    std::optional<std::uint64_t> exits;
};
BenchMarking &bench_marking();

/// `usual`, or as many windows as are enough between marks.
inline unsigned bench_rounds(unsigned usual)
{
    constexpr unsigned kMarkedRounds = 3;
    return bench_marking().on ? kMarkedRounds : usual;
}

/// Two magic breakpoints, one at each end of the object's life; none without a VM, or unless
/// marking is on. Outside Bochs's debugger they do nothing.
class BenchMarks {
  public:
    explicit BenchMarks(const BenchVm *vm);
    ~BenchMarks();
    BenchMarks(const BenchMarks &) = delete;
    BenchMarks &operator=(const BenchMarks &) = delete;

  private:
    const BenchVm *vm_;
    std::optional<std::uint64_t> before_;
};

} // namespace minivmx::tool
