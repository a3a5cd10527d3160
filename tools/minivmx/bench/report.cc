// SPDX-License-Identifier: GPL-2.0-only
#include "report.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace minivmx::tool {
namespace {

const char *headline(BenchGroup group)
{
    switch (group) {
    case BenchGroup::kFloor:
        return "What no hypervisor can save";
    case BenchGroup::kInKernel:
        return "Exits that the kernel answers";
    case BenchGroup::kToUser:
        return "Exits to the VMM and back";
    case BenchGroup::kInterrupts:
        return "Interrupts";
    case BenchGroup::kMemory:
        return "Memory, for each page";
    case BenchGroup::kLife:
        return "VMs that come and go";
    }
    return "";
}

/// "1 158", with the part in which nobody ran behind it.
std::string ticks_text(const BenchSample &sample)
{
    return fmt::format("{:.0f}", sample.ticks - sample.waiting.value_or(0));
}

std::string exits_text(const BenchSample &sample)
{
    return sample.exits ? fmt::format("{:.2f}", *sample.exits) : "";
}

double busy(const BenchSample &sample)
{
    return sample.ticks - sample.waiting.value_or(0);
}

} // namespace

double BenchRow::ratio() const
{
    if (samples.size() < 2 || busy(samples.front()) <= 0)
        return 0;
    return busy(samples.back()) / busy(samples.front());
}

std::string bench_text(const BenchReport &report)
{
    std::string text = fmt::format("{:<18}", "TSC ticks");
    for (const std::string &device : report.devices)
        text += fmt::format("{:>16}", device.substr(device.rfind('/') + 1));
    if (report.devices.size() == 2)
        text += "   ratio";
    text += "   one operation\n";
    const BenchGroup *group = nullptr;
    for (const BenchRow &row : report.rows) {
        if (group == nullptr || *group != row.what.group)
            text += fmt::format("\n{}\n", headline(row.what.group));
        group = &row.what.group;
        text += fmt::format("  {:<16}", row.what.name);
        for (const BenchSample &sample : row.samples)
            text += fmt::format("{:>16}", ticks_text(sample));
        if (row.samples.size() == 2)
            text += row.what.group == BenchGroup::kFloor ? "        "
                                                         : fmt::format("{:>8.2f}", row.ratio());
        text += fmt::format("   {}\n", row.what.operation);
        const bool exits = std::ranges::any_of(
            row.samples, [](const BenchSample &sample) { return sample.exits.has_value(); });
        const bool waits = std::ranges::any_of(
            row.samples, [](const BenchSample &sample) { return sample.waiting.value_or(0) >= 1; });
        const auto more = [&](const char *name, auto cell) {
            text += fmt::format("  {:<16}", name);
            for (const BenchSample &sample : row.samples)
                text += fmt::format("{:>16}", cell(sample));
            text += '\n';
        };
        if (exits && row.what.exits == 0 && row.what.group != BenchGroup::kFloor)
            more("    VM exits", exits_text);
        if (waits)
            more("    waiting", [](const BenchSample &sample) {
                return sample.waiting ? fmt::format("{:.0f}", *sample.waiting) : "";
            });
    }
    return text;
}

nlohmann::ordered_json bench_json(const BenchReport &report)
{
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const BenchRow &row : report.rows) {
        nlohmann::ordered_json cells = nlohmann::ordered_json::array();
        for (std::size_t i = 0; i < row.samples.size(); i++) {
            const BenchSample &sample = row.samples[i];
            nlohmann::ordered_json cell = {{"device", report.devices[i]}, {"ticks", sample.ticks}};
            if (sample.waiting)
                cell["waiting"] = *sample.waiting;
            if (sample.exits)
                cell["exits"] = *sample.exits;
            cells.push_back(cell);
        }
        nlohmann::ordered_json one = {
            {"name", row.what.name}, {"operation", row.what.operation}, {"devices", cells}};
        if (row.samples.size() == 2)
            one["ratio"] = row.ratio();
        rows.push_back(one);
    }
    return {{"devices", report.devices}, {"cases", rows}};
}

} // namespace minivmx::tool
