// SPDX-License-Identifier: GPL-2.0-only
#include "nearest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace minivmx::tool {
namespace {

/// How many letters must be put in, taken out, changed, or swapped with their neighbour to make `a`
/// into `b` (optimal string alignment).
std::size_t distance(const std::string &a, const std::string &b)
{
    std::vector<std::size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
    std::iota(last.begin(), last.end(), 0u);
    for (std::size_t i = 1; i <= a.size(); i++) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); j++) {
            const std::size_t changed = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            row[j] = std::min({changed, last[j] + 1, row[j - 1] + 1});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
        std::swap(before_last, last);
        std::swap(last, row);
    }
    return last[b.size()];
}

/// What a person typed is short; anything longer is no misspelt name.
constexpr std::size_t kLongest = 100;

} // namespace

std::string lower_case(std::string_view text)
{
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return lower;
}

std::vector<std::string> nearest(std::string_view text, const std::vector<std::string> &candidates,
                                 std::size_t most)
{
    if (text.empty() || text.size() > kLongest)
        return {};
    const std::string typed = lower_case(text);
    std::vector<std::pair<std::size_t, const std::string *>> found;
    for (const std::string &candidate : candidates) {
        const std::string name = lower_case(candidate);
        const std::size_t errors = distance(typed, name);
        if (name.find(typed) != std::string::npos)
            found.emplace_back(0, &candidate);
        else if (errors <= 1 + typed.size() / 4)
            found.emplace_back(errors, &candidate);
    }
    std::stable_sort(found.begin(), found.end(),
                     [](const auto &a, const auto &b) { return a.first < b.first; });
    std::vector<std::string> names;
    for (const auto &[errors, name] : found)
        if (names.size() < most && errors <= found.front().first + 1 &&
            std::find(names.begin(), names.end(), *name) == names.end())
            names.push_back(*name);
    return names;
}

std::string did_you_mean(const std::vector<std::string> &names)
{
    if (names.empty())
        return "";
    std::string text = "; did you mean " + names.front();
    for (std::size_t i = 1; i < names.size(); i++)
        text += (i + 1 < names.size() ? ", " : " or ") + names[i];
    return text + "?";
}

} // namespace minivmx::tool
