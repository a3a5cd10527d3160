// SPDX-License-Identifier: GPL-2.0-only
#include "bench.hpp"

#include <algorithm>

namespace minivmx::tool {

std::vector<BenchCase> bench_cases()
{
    std::vector<BenchCase> all;
    for (const auto some :
         {exit_bench_cases(), floor_bench_cases(), interrupt_bench_cases(), memory_bench_cases(),
          paging_bench_cases(), life_bench_cases(), growth_bench_cases(), footprint_bench_cases()})
        all.insert(all.end(), some.begin(), some.end());
    std::ranges::stable_sort(all, {}, &BenchCase::group);
    return all;
}

} // namespace minivmx::tool
