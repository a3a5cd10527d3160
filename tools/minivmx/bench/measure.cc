// SPDX-License-Identifier: GPL-2.0-only
#include "measure.hpp"

#include "text_lines.hpp"

#include <cpuid.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace minivmx::tool {
namespace {

/// Counters are exact; this is for the division.
constexpr double kRounding = 1e-6;
/// A page that the host moved, or an NMI, costs an exit that is nobody's fault, but seldom twice.
constexpr unsigned kTriesForExactExits = 3;

BenchSample measure_exactly(const BenchCase &what, const std::string &device,
                            const std::function<BenchSample()> &measure)
{
    for (unsigned i = 1;; i++) {
        const BenchSample sample = measure();
        if (what.exits == 0 || !sample.exits || std::abs(*sample.exits - what.exits) < kRounding)
            return sample;
        if (i == kTriesForExactExits)
            fail("{}: {:.3f} VM exits for each, expected {}", device, *sample.exits, what.exits);
    }
}

bool is_better(const BenchCase &what, const BenchSample &a, const BenchSample &b)
{
    return what.unit == BenchUnit::kBytes ? a.ticks > b.ticks : a.busy() < b.busy();
}

ExitStatus graver(ExitStatus a, ExitStatus b)
{
    if (a == ExitStatus::kOk || (a == ExitStatus::kIncomplete && b != ExitStatus::kOk))
        return b;
    return a;
}

std::string cpu_brand()
{
    char text[49] = {};
    unsigned words[12] = {};
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002 + i, &words[i * 4], &words[i * 4 + 1], &words[i * 4 + 2],
                    &words[i * 4 + 3]);
    std::memcpy(text, words, sizeof(words));
    return squeezed(text);
}

BenchMachine this_machine()
{
    namespace fs = std::filesystem;
    BenchMachine machine;
    utsname name = {};
    if (uname(&name) == 0)
        machine.kernel = name.release;
    machine.cpu = cpu_brand();
    std::vector<std::string> lines;
    std::error_code error;
    for (fs::directory_iterator one("/sys/devices/system/cpu/vulnerabilities", error), end;
         !error && one != end; one.increment(error)) {
        std::ifstream file(one->path());
        std::string text;
        if (std::getline(file, text) && text != "Not affected")
            lines.push_back(one->path().filename().string() + ": " + text);
    }
    std::ranges::sort(lines);
    machine.mitigations = fmt::format("{}", fmt::join(lines, "\n"));
    return machine;
}

} // namespace

BenchRow measure_row(const BenchCase &what, const std::vector<std::string> &devices, unsigned turns,
                     const std::function<BenchSample(std::size_t device)> &measure,
                     ExitStatus &worst)
{
    BenchRow row;
    row.name = what.name;
    row.group = what.group;
    row.operation = what.operation;
    row.unit = what.unit;
    row.exits = what.exits;
    row.samples.resize(devices.size());
    try {
        for (unsigned turn = 0; turn < turns; turn++)
            for (std::size_t i = 0; i < devices.size(); i++) {
                const BenchSample sample =
                    measure_exactly(what, devices[i], [&] { return measure(i); });
                if (turn == 0 || is_better(what, sample, row.samples[i]))
                    row.samples[i] = sample;
            }
    } catch (const Error &error) {
        row.samples.clear();
        row.problem = error.what();
        worst = graver(worst, error.status());
    }
    return row;
}

BenchReport measure_jobs(const std::vector<std::string> &devices, std::span<const BenchJob> jobs,
                         unsigned turns, const std::function<void(const char *name)> &progress,
                         ExitStatus &worst)
{
    BenchReport report;
    report.devices = devices;
    report.machine = this_machine();
    std::vector<Device> open;
    for (const std::string &path : devices)
        open.emplace_back(path);
    for (const BenchJob &job : jobs) {
        progress(job.what.name);
        report.rows.push_back(measure_row(
            job.what, devices, turns, [&](std::size_t i) { return job.measure(open[i]); }, worst));
    }
    report.exits_counted = std::ranges::all_of(report.rows, [](const BenchRow &row) {
        return row.exits == 0 || std::ranges::all_of(row.samples, [](const BenchSample &s) {
                   return s.exits.has_value();
               });
    });
    return report;
}

} // namespace minivmx::tool
