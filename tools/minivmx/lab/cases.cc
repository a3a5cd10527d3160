// SPDX-License-Identifier: GPL-2.0-only
#include "cases.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace minivmx::tool {
namespace {

std::vector<LabCase> all_cases()
{
    std::vector<LabCase> cases = primary_lab_cases();
    std::vector<LabCase> secondary = secondary_lab_cases();
    std::move(secondary.begin(), secondary.end(), std::back_inserter(cases));
    return cases;
}

} // namespace

LabCase by_intercept(const char *slug, std::uint64_t intercept, const char *name, LabCode before,
                     LabCode code, ExitReason reason, const char *lesson)
{
    return {
        .slug = slug,
        .off =
            {.how = kAnyVcpu, .before = before, .code = code, .expected = stays_in(), .bit = false},
        .on = {.how = name,
               .setup = {.intercepts = intercept},
               .before = before,
               .code = code,
               .expected = client_sees(reason),
               .bit = true},
        .lesson = lesson,
    };
}

LabCase off_with_ept(LabCase row)
{
    row.off.with_ept = true;
    return row;
}

LabCase only_on(const char *slug, LabSide on, const char *why_never_off, const char *lesson)
{
    return {.slug = slug, .off = {.why_not = why_never_off}, .on = std::move(on), .lesson = lesson};
}

LabCase only_off(const char *slug, LabSide off, const char *why_never_on, const char *lesson)
{
    return {.slug = slug, .off = std::move(off), .on = {.why_not = why_never_on}, .lesson = lesson};
}

LabCase nothing_to_show(const char *slug, const char *why_not)
{
    return {.slug = slug, .why_not = why_not};
}

std::span<const LabCase> lab_cases()
{
    static const std::vector<LabCase> cases = all_cases();
    return cases;
}

const LabCase *lab_case_of(std::string_view slug)
{
    const std::span<const LabCase> cases = lab_cases();
    const auto found = std::find_if(cases.begin(), cases.end(),
                                    [slug](const LabCase &row) { return slug == row.slug; });
    return found == cases.end() ? nullptr : &*found;
}

} // namespace minivmx::tool
