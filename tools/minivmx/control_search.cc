// SPDX-License-Identifier: GPL-2.0-only
#include "control_search.hpp"

#include "error.hpp"
#include "nearest.hpp"
#include "number.hpp"
#include "text_lines.hpp"

#include <optional>

namespace minivmx::tool {
namespace {

std::vector<std::string> word_slugs()
{
    std::vector<std::string> slugs;
    for (unsigned i = 0; i < kControlFieldCount; i++)
        slugs.emplace_back(control_word_info(static_cast<ControlField>(i)).slug);
    return slugs;
}

std::optional<ControlField> word_of(const std::string &name)
{
    const std::string typed = lower_case(name);
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlWordInfo &word = control_word_info(static_cast<ControlField>(i));
        if (typed == word.slug || typed == lower_case(word.name))
            return word.field;
    }
    return std::nullopt;
}

/// "primary.15"; nothing if the name is not like that.
const ControlBit *by_number(const std::string &name)
{
    const std::size_t dot = name.find('.');
    if (dot == std::string::npos)
        return nullptr;
    const std::optional<ControlField> field = word_of(name.substr(0, dot));
    if (!field)
        return nullptr;
    const ControlWordInfo &word = control_word_info(*field);
    const auto bit =
        static_cast<unsigned>(parse_number(name, name.substr(dot + 1), 0, word.width - 1u));
    if (const ControlBit *const row = find_control(*field, bit))
        return row;
    fail_usage("{}: bit {} of the {} controls is reserved", name, bit, word.name);
}

} // namespace

std::vector<const ControlBit *> find_controls(const std::string &name)
{
    if (const ControlBit *const row = by_number(name))
        return {row};
    const std::string typed = lower_case(name);
    std::vector<const ControlBit *> found;
    for (const ControlBit &row : all_control_bits()) {
        if (typed == row.slug || typed == lower_case(row.macro))
            return {&row};
        if (typed == lower_case(row.name))
            found.push_back(&row);
    }
    if (!found.empty())
        return found;
    std::vector<std::string> slugs;
    for (const ControlBit &row : all_control_bits())
        slugs.emplace_back(row.slug);
    const std::vector<std::string> similar = nearest(name, slugs);
    fail_usage("there is no control {}{}", in_quotes(name),
               similar.empty() ? "; minivmx explain lists all" : did_you_mean(similar));
}

ControlField find_word(const std::string &name)
{
    if (const std::optional<ControlField> field = word_of(name))
        return *field;
    fail_usage("--field: there is no control word {}, expected {}", in_quotes(name),
               fmt::join(word_slugs(), ", "));
}

} // namespace minivmx::tool
