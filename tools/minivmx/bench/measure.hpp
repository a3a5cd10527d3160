// SPDX-License-Identifier: GPL-2.0-only
//
// Takes the devices in turns: no VM of one is open while the other is measured.
#pragma once

#include "error.hpp"
#include "report.hpp"

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace minivmx::tool {

/// One case, each of `devices` once in each of `turns`; a device's figure is its least (of bytes
/// the most: freed memory may be in caches still). Exits in another number than the case must take,
/// or an Error of `measure`, are the row's problem; `worst` becomes that error's status unless it
/// is graver already.
BenchRow measure_row(const BenchCase &what, const std::vector<std::string> &devices, unsigned turns,
                     const std::function<BenchSample(std::size_t device)> &measure,
                     ExitStatus &worst);

/// All of them; `progress` hears the name of each. Throws Error when a device can't be opened.
BenchReport measure_jobs(const std::vector<std::string> &devices, std::span<const BenchJob> jobs,
                         unsigned turns, const std::function<void(const char *name)> &progress,
                         ExitStatus &worst);

} // namespace minivmx::tool
