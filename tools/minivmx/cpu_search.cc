// SPDX-License-Identifier: GPL-2.0-only
#include "cpu_search.hpp"

#include "error.hpp"
#include "nearest.hpp"
#include "text_lines.hpp"

#include <generations.hpp>

#include <algorithm>
#include <cctype>
#include <optional>
#include <sstream>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;

bool is_part(const std::string &word, const std::string &of)
{
    return lower_case(of).find(lower_case(word)) != std::string::npos;
}

/// Like is_part(), but "i7-4770" is no part of "i7-4770R".
bool is_whole_part(const std::string &word, const std::string &of)
{
    const std::string where = lower_case(of);
    const std::string what = lower_case(word);
    const auto in_word = [&](std::size_t i) {
        return i < where.size() && std::isalnum(static_cast<unsigned char>(where[i])) != 0;
    };
    for (std::size_t at = where.find(what); at != std::string::npos; at = where.find(what, at + 1))
        if ((at == 0 || !in_word(at - 1)) && !in_word(at + what.size()))
            return true;
    return false;
}

bool fits_word(const CpuProfile &cpu, const std::string &word)
{
    return is_part(word, cpu.name) || is_part(word, cpu.cpu) ||
           is_part(word, profiles::generation_of(cpu).name) ||
           std::any_of(cpu.also.begin(), cpu.also.end(),
                       [&](const std::string &other) { return is_part(word, other); });
}

bool fits(const CpuProfile &cpu, const std::string &text)
{
    std::istringstream words(text);
    for (std::string word; words >> word;)
        if (!fits_word(cpu, word))
            return false;
    return true;
}

/// How sure it is that `text` means this CPU: lower is surer.
std::optional<int> rank(const CpuProfile &cpu, const std::string &text)
{
    constexpr int kEmulated = 10; // a model of a CPU is meant only where there is no real one
    const int kind = cpu.emulated ? kEmulated : 0;
    if (lower_case(cpu.name) == lower_case(text))
        return -1;
    if (is_whole_part(text, cpu.cpu))
        return kind;
    if (std::any_of(cpu.also.begin(), cpu.also.end(),
                    [&](const std::string &other) { return is_whole_part(text, other); }))
        return kind + 1;
    if (fits(cpu, text))
        return kind + 2;
    return std::nullopt;
}

std::vector<const CpuProfile *> best(const std::string &text)
{
    std::vector<const CpuProfile *> found;
    std::optional<int> best_rank;
    for (const CpuProfile &cpu : profiles::shipped_profiles()) {
        const std::optional<int> here = rank(cpu, text);
        if (!here || (best_rank && *here > *best_rank))
            continue;
        if (!best_rank || *here < *best_rank)
            found.clear();
        best_rank = here;
        found.push_back(&cpu);
    }
    return found;
}

std::vector<std::string> names(const std::vector<const CpuProfile *> &cpus, std::size_t most)
{
    std::vector<std::string> list;
    for (const CpuProfile *cpu : cpus)
        if (list.size() < most)
            list.push_back(cpu->name);
    if (cpus.size() > most)
        list.push_back(fmt::format("{} more", cpus.size() - most));
    return list;
}

/// Everything by which one may look for a CPU.
std::vector<std::string> all_names()
{
    std::vector<std::string> all;
    for (const CpuProfile &cpu : profiles::shipped_profiles())
        all.push_back(cpu.name);
    return all;
}

} // namespace

std::string cpu_title(const CpuProfile &cpu)
{
    return cpu.cpu.empty() || cpu.cpu == cpu.name
               ? cpu.name
               : fmt::format("{}: {}", cpu.name, squeezed(cpu.cpu));
}

std::vector<const CpuProfile *> find_cpus(const std::string &text)
{
    std::vector<const CpuProfile *> found;
    for (const CpuProfile *cpu : profiles::profiles_by_generation())
        if (fits(*cpu, text))
            found.push_back(cpu);
    return found;
}

const CpuProfile &choose_cpu(const std::string &option, const std::string &text)
{
    constexpr std::size_t kMost = 8;
    if (text.empty())
        fail_usage("{}: expected the name of a CPU; minivmx cpus lists them", option);
    const std::vector<const CpuProfile *> found = best(text);
    if (found.size() == 1)
        return *found.front();
    if (found.empty()) {
        const std::vector<std::string> similar = nearest(text, all_names());
        fail_usage("{}: {} does not ship with minivmx{}", option, in_quotes(text),
                   similar.empty() ? "; minivmx cpus lists those that do" : did_you_mean(similar));
    }
    fail_usage("{}: {} may be any of {} CPUs, choose one: {}", option, in_quotes(text),
               found.size(), fmt::join(names(found, kMost), ", "));
}

} // namespace minivmx::tool
