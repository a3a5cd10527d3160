// SPDX-License-Identifier: GPL-2.0-only
// The names of basic exit reasons and of exceptions.
#include <minivmx/exit_name.hpp>

namespace minivmx {

namespace {

struct ExitReasonNames {
    const char *name[EXIT_REASON_COUNT];
    const char *constant[EXIT_REASON_COUNT];
};

constexpr ExitReasonNames make_names()
{
    ExitReasonNames names = {};
#define MINIVMX_REASON(its_constant, number, its_name)                                             \
    names.name[number] = its_name;                                                                 \
    names.constant[number] = #its_constant;
    MINIVMX_EXIT_REASONS(MINIVMX_REASON)
#undef MINIVMX_REASON
    return names;
}

constexpr ExitReasonNames kExitReasonNames = make_names();

// SDM Vol. 3A, 6.3.1, table 6-1.
constexpr const char *const kExceptionNames[] = {
    "#DE", "#DB", "NMI", "#BP", "#OF",   "#BR", "#UD", "#NM", "#DF", nullptr, "#TS",
    "#NP", "#SS", "#GP", "#PF", nullptr, "#MF", "#AC", "#MC", "#XM", "#VE",   "#CP",
};

} // namespace

const char *exception_name(u32 vector)
{
    constexpr u32 kCount = sizeof(kExceptionNames) / sizeof(kExceptionNames[0]);
    return vector < kCount ? kExceptionNames[vector] : nullptr;
}

const char *exit_reason_name(u32 basic_reason)
{
    return basic_reason < EXIT_REASON_COUNT ? kExitReasonNames.name[basic_reason] : nullptr;
}

const char *exit_reason_constant(u32 basic_reason)
{
    return basic_reason < EXIT_REASON_COUNT ? kExitReasonNames.constant[basic_reason] : nullptr;
}

} // namespace minivmx
