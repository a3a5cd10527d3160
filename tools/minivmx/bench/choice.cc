// SPDX-License-Identifier: GPL-2.0-only
#include "choice.hpp"

#include "error.hpp"
#include "nearest.hpp"
#include "text_lines.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace minivmx::tool {
namespace {

bool has_case(const std::vector<BenchCase> &all, const std::string &name)
{
    return std::ranges::any_of(all, [&](const BenchCase &one) { return one.name == name; });
}

bool means(const std::vector<BenchCase> &all, const std::string &name, const BenchCase &one)
{
    if (has_case(all, name))
        return one.name == name;
    return std::string_view(one.name).find(name) != std::string_view::npos;
}

} // namespace

std::vector<BenchCase> choose_cases(const std::vector<BenchCase> &all,
                                    const std::vector<std::string> &names)
{
    if (names.empty())
        return all;
    std::vector<std::string> known;
    for (const BenchCase &one : all)
        known.emplace_back(one.name);
    for (const std::string &name : names)
        if (name.empty() ||
            std::ranges::none_of(all, [&](const BenchCase &one) { return means(all, name, one); }))
            fail_usage("CASE: no case is called {}{}; --list names them", in_quotes(name),
                       did_you_mean(nearest(name, known)));
    std::vector<BenchCase> chosen;
    std::ranges::copy_if(all, std::back_inserter(chosen), [&](const BenchCase &one) {
        return std::ranges::any_of(names,
                                   [&](const std::string &name) { return means(all, name, one); });
    });
    return chosen;
}

} // namespace minivmx::tool
