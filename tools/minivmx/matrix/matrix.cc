// SPDX-License-Identifier: GPL-2.0-only
#include "matrix.hpp"

#include "../error.hpp"
#include "../parameters.hpp"

#include <minivmx/exit_name.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <sstream>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;

std::string lower(std::string_view text)
{
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return result;
}

void erase_all(std::string &text, std::string_view part)
{
    for (std::size_t at; (at = text.find(part)) != std::string::npos;)
        text.erase(at, part.size());
}

/// Words of brand strings that tell one CPU from another no better than the column's place does.
bool is_noise(std::string_view word)
{
    constexpr std::array<std::string_view, 12> kNoise = {
        "intel",   "cpu",      "processor", "genuine", "gen",      "zhaoxin",
        "kaixian", "kaisheng", "via",       "ghz",     "quadcore", "centaurhauls"};
    const std::string small = lower(word);
    return std::find(kNoise.begin(), kNoise.end(), small) != kNoise.end() ||
           (small.size() == 4 && small.ends_with("th") && small[0] >= '0' && small[0] <= '9');
}

bool begins_with_digit(std::string_view word)
{
    return !word.empty() && word[0] >= '0' && word[0] <= '9';
}

/// "XEON" as "Xeon"; a model's number stays.
std::string word_case(std::string word)
{
    const bool all_letters =
        std::all_of(word.begin(), word.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    if (all_letters && word.size() > 2)
        return word[0] + lower(word.substr(1));
    return word;
}

/// Names of emulated models are those that `--cpu` takes; their first part says little.
std::string emulated_label(const std::string &name)
{
    const std::size_t underscore = name.find('_');
    return name.starts_with("core") && underscore != std::string::npos ? name.substr(underscore + 1)
                                                                       : name;
}

bool matches(const CpuProfile &profile, const std::vector<std::string> &parts)
{
    std::string text =
        profile.name + "\n" + profile.cpu + "\n" + profiles::generation_of(profile).name;
    for (const std::string &also : profile.also)
        text += "\n" + also;
    text = lower(text);
    return parts.empty() || std::any_of(parts.begin(), parts.end(), [&](const std::string &part) {
               return text.find(lower(part)) != std::string::npos;
           });
}

/// Brand strings are padded with spaces inside.
std::string squeezed(const std::string &text)
{
    std::istringstream stream(text);
    std::string result;
    for (std::string word; stream >> word;)
        result += result.empty() ? word : " " + word;
    return result;
}

/// Makes titles unique: brand strings first, with the profile's name where they repeat, and with
/// a number where that does, too.
void set_titles(std::vector<MatrixColumn> &columns)
{
    std::map<std::string, unsigned> brands, seen;
    for (const MatrixColumn &column : columns)
        brands[squeezed(column.profile->cpu)]++;
    for (MatrixColumn &column : columns) {
        std::string title = squeezed(column.profile->cpu);
        if (brands[title] > 1)
            title += fmt::format(" ({})", column.profile->name);
        const unsigned before = seen[title]++;
        column.title = before == 0 ? title : fmt::format("{} #{}", title, before + 1);
    }
}

/// The assignments that `minivmx --param` would take.
std::string changed_parameters(const Parameters &parameters)
{
    const nlohmann::ordered_json given = parameters_json(parameters);
    const nlohmann::ordered_json usual = parameters_json(default_parameters());
    std::vector<std::string> changed;
    for (const auto &[name, value] : given.items()) {
        if (value == usual.at(name))
            continue;
        const std::string text =
            value.is_boolean() ? (value.get<bool>() ? "1" : "0") : value.dump();
        changed.push_back(name + "=" + text);
    }
    return fmt::format("{}", fmt::join(changed, " "));
}

} // namespace

const char *cell_state_name(CellState state)
{
    switch (state) {
    case CellState::kAvailable:
        return "available";
    case CellState::kUsed:
        return "used";
    case CellState::kRequired:
        return "required";
    case CellState::kMissing:
        return "missing";
    case CellState::kUnknown:
        return "unknown";
    case CellState::kAbsent:
        break;
    }
    return "absent";
}

const char *cell_state_text(CellState state)
{
    switch (state) {
    case CellState::kAvailable:
        return "the CPU has it; minivmx has no use for it, or had to turn it off";
    case CellState::kUsed:
        return "optional, and taken where the CPU has it";
    case CellState::kRequired:
        return "minivmx can't do without it";
    case CellState::kMissing:
        return "required and not there: the module does not load";
    case CellState::kUnknown:
        return "the CPU's values that ship with minivmx do not tell";
    case CellState::kAbsent:
        break;
    }
    return "the CPU does not have it";
}

CellState MatrixColumn::state(const ControlBit &row) const
{
    switch (explanation.bit(row).standing) {
    case Standing::kAvailable:
        return CellState::kAvailable;
    case Standing::kUsed:
        return CellState::kUsed;
    case Standing::kRequired:
        return CellState::kRequired;
    case Standing::kUnknown:
        return CellState::kUnknown;
    case Standing::kAbsent:
        break;
    }
    return row.use == ControlUse::kRequired ? CellState::kMissing : CellState::kAbsent;
}

VcpuChoice typical_vcpu()
{
    VcpuChoice vcpu;
    vcpu.irqchip = true;
    vcpu.xsaves = vcpu.rdtscp = vcpu.rdpid = vcpu.invpcid = true;
    vcpu.rdrand = vcpu.rdseed = vcpu.waitpkg = true;
    return vcpu;
}

Matrix make_matrix(const MatrixChoice &choice)
{
    Matrix matrix;
    matrix.parameters = changed_parameters(choice.parameters);
    const CpuProfile *previous = nullptr;
    for (const CpuProfile *profile : profiles::profiles_by_generation()) {
        if (!matches(*profile, choice.cpus) || (choice.real_only && profile->emulated))
            continue;
        const profiles::Generation &generation = profiles::generation_of(*profile);
        const bool first = previous == nullptr || previous->emulated != profile->emulated ||
                           !profiles::same_generation(*previous, *profile);
        previous = profile;
        if (choice.one_per_generation && !first)
            continue;
        const Question question{profile->name, profile->host(), choice.parameters, typical_vcpu()};
        matrix.columns.push_back(
            {profile, &generation, short_cpu_name(*profile), "", first, explain(question)});
    }
    if (matrix.columns.empty())
        fail_usage("--cpu: no CPU that ships with minivmx is called '{}'",
                   fmt::join(choice.cpus, "' or '"));
    set_titles(matrix.columns);
    return matrix;
}

std::string short_cpu_name(const CpuProfile &profile)
{
    if (profile.emulated)
        return emulated_label(profile.name);
    std::string text = profile.cpu.substr(0, profile.cpu.find_first_of("@,"));
    erase_all(text, "(R)");
    erase_all(text, "(TM)");
    std::vector<std::string> words;
    std::istringstream stream(text);
    for (std::string word; stream >> word;)
        if (!is_noise(word))
            words.push_back(word_case(word));
    // "Core 7 350" needs the word, "Core i7-3770K" does not.
    if (words.size() > 1 && words[0] == "Core" && !begins_with_digit(words[1]))
        words.erase(words.begin());
    return words.empty() ? profile.name : fmt::format("{}", fmt::join(words, " "));
}

std::string exit_reason_text(int basic_reason)
{
    if (basic_reason < 0)
        return "";
    const char *const name = exit_reason_name(static_cast<u32>(basic_reason));
    return fmt::format("{} {}", basic_reason, name != nullptr ? name : "unknown");
}

} // namespace minivmx::tool
