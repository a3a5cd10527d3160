// SPDX-License-Identifier: GPL-2.0-only
#include "cpu_list.hpp"

#include "explain_text.hpp"
#include "text_lines.hpp"

#include <generations.hpp>

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;
using profiles::CpuProfile;
using profiles::Generation;

const char *group_name(const CpuProfile &cpu)
{
    return cpu.emulated ? "Emulated by Bochs"
                        : profiles::line_name(profiles::generation_of(cpu).line);
}

std::string year_text(const Generation &generation)
{
    return generation.year == 0 ? "" : std::to_string(generation.year);
}

std::string list_line(const CpuProfile &cpu, bool tells_generation)
{
    const Generation &generation = profiles::generation_of(cpu);
    std::string line =
        fmt::format("  {:<4} {:<16} {:<26} {}", tells_generation ? year_text(generation) : "",
                    tells_generation ? generation.name : "", cpu.name, squeezed(cpu.cpu));
    if (!cpu.also.empty())
        line += fmt::format(" and {} more", cpu.also.size());
    return line + "\n";
}

} // namespace

std::string cpu_list_text(const std::vector<const CpuProfile *> &cpus)
{
    std::string text;
    const CpuProfile *before = nullptr;
    for (const CpuProfile *cpu : cpus) {
        const bool new_group =
            before == nullptr || std::string(group_name(*before)) != group_name(*cpu);
        if (new_group)
            text += fmt::format("{}{}\n", before == nullptr ? "" : "\n", group_name(*cpu));
        text += list_line(*cpu, new_group || !profiles::same_generation(*before, *cpu));
        before = cpu;
    }
    return text;
}

std::string cpu_text(const CpuProfile &cpu)
{
    const Generation &generation = profiles::generation_of(cpu);
    const CpuSignature signature{cpu.signature};
    std::string text = fmt::format("{}\n  {}\n", cpu.name, squeezed(cpu.cpu));
    text += fmt::format("  {}{}{}, {}, family {} model {} stepping {}\n", generation.name,
                        generation.year == 0 ? "" : ", ", year_text(generation), cpu.vendor,
                        signature.family(), signature.model(), signature.stepping());
    text += wrapped("  source: ", cpu.source);
    for (const std::string &other : cpu.also)
        text += fmt::format("  the same values: {}\n", squeezed(other));
    return text;
}

Json cpu_list_json(const std::vector<const CpuProfile *> &cpus)
{
    Json json = Json::array();
    for (const CpuProfile *cpu : cpus) {
        const Generation &generation = profiles::generation_of(*cpu);
        json.push_back({{"name", cpu->name},
                        {"cpu", cpu->cpu},
                        {"vendor", cpu->vendor},
                        {"generation", generation.name},
                        {"year", generation.year == 0 ? Json(nullptr) : Json(generation.year)},
                        {"line", profiles::line_name(generation.line)},
                        {"emulated", cpu->emulated},
                        {"signature", fmt::format("{:#010x}", cpu->signature)},
                        {"physical_address_bits", cpu->max_phys_bits},
                        {"source", cpu->source},
                        {"also", cpu->also}});
    }
    return json;
}

} // namespace minivmx::tool
