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

const char *instruction_error_name(u32 number)
{
    switch (number) {
    case 4:
        return "VMLAUNCH with a VMCS that is not clear";
    case 5:
        return "VMRESUME with a VMCS that was not launched";
    case 6:
        return "VMRESUME after VMXOFF";
    case 7:
        return "invalid control fields";
    case 8:
        return "invalid host-state fields";
    case 16:
        return "invalid executive-VMCS pointer";
    case 17:
        return "executive VMCS not launched";
    case 18:
        return "executive-VMCS pointer is not the VMXON pointer";
    case 25:
        return "invalid VM-execution controls in the executive VMCS";
    case 26:
        return "events blocked by MOV SS";
    default:
        return nullptr;
    }
}

} // namespace minivmx
