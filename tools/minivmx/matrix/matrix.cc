// SPDX-License-Identifier: GPL-2.0-only
#include "matrix.hpp"

#include "../cpu_search.hpp"
#include "../error.hpp"
#include "../nearest.hpp"
#include "../parameters.hpp"
#include "../text_lines.hpp"

#include <minivmx/exit_name.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <sstream>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;

struct StateWords {
    CellState state;
    const char *name;
    const char *text;
};

constexpr std::array kStateWords = {
    StateWords{CellState::kAbsent, "absent", "the CPU does not have it"},
    StateWords{CellState::kAvailable, "available",
               "the CPU has it; minivmx has no use for it, or had to turn it off"},
    StateWords{CellState::kUsed, "used", "optional, and taken where the CPU has it"},
    StateWords{CellState::kRequired, "required", "minivmx can't do without it"},
    StateWords{CellState::kMissing, "missing", "required and not there: the module does not load"},
    StateWords{CellState::kUnknown, "unknown",
               "the CPU's values that ship with minivmx do not tell"},
};

const StateWords &words_of(CellState state)
{
    return *std::find_if(kStateWords.begin(), kStateWords.end(),
                         [state](const StateWords &row) { return row.state == state; });
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
    const std::string small = lower_case(word);
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
        return word[0] + lower_case(word.substr(1));
    return word;
}

/// Names of emulated models are those that `--cpu` takes; their first part says little.
std::string emulated_label(const std::string &name)
{
    const std::size_t underscore = name.find('_');
    return name.starts_with("core") && underscore != std::string::npos ? name.substr(underscore + 1)
                                                                       : name;
}

/// The CPUs that any of these names fits, or all. Throws a usage Error for a name that fits none.
std::set<const CpuProfile *> chosen_cpus(const std::vector<std::string> &names)
{
    std::set<const CpuProfile *> chosen;
    for (const std::string &name : names) {
        const std::vector<const CpuProfile *> found = find_cpus(name);
        if (found.empty())
            choose_cpu("--cpu", name); // knows the nearest names
        chosen.insert(found.begin(), found.end());
    }
    if (names.empty())
        for (const CpuProfile &profile : profiles::shipped_profiles())
            chosen.insert(&profile);
    return chosen;
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
    return words_of(state).name;
}

const char *cell_state_text(CellState state)
{
    return words_of(state).text;
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
    const std::set<const CpuProfile *> chosen = chosen_cpus(choice.cpus);
    const CpuProfile *previous = nullptr;
    for (const CpuProfile *profile : profiles::profiles_by_generation()) {
        if (!chosen.contains(profile) || (choice.real_only && profile->emulated))
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
        fail_usage("--real: only emulated CPUs have the names that --cpu gives");
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
