// SPDX-License-Identifier: GPL-2.0-only
//
// The halves of the lab's table, each in a file of its own, and the kinds of cases that they share.
#pragma once

#include "lab.hpp"

#include <minivmx/exit.hpp>

#include <vector>

namespace minivmx::tool {

std::vector<LabCase> primary_lab_cases();
std::vector<LabCase> secondary_lab_cases();

constexpr const char *kAnyVcpu = "as for any vCPU";
constexpr const char *kNoApic = "no APIC in the kernel";
constexpr const char *kApic = "an APIC in the kernel";

constexpr LabOutcome stays_in()
{
    return {};
}

constexpr LabOutcome leaves(ExitReason reason)
{
    return {.exits = {static_cast<int>(reason), -1, -1}};
}

/// Where the client asked for the exit.
constexpr LabOutcome client_sees(ExitReason reason)
{
    LabOutcome outcome = leaves(reason);
    outcome.to_client = true;
    return outcome;
}

/// An exception without an exit for the instruction. #UD itself exits: the hypervisor looks whether
/// it has to emulate something.
constexpr LabOutcome faults(int vector)
{
    return {.fault = vector, .also = {EXIT_REASON_EXCEPTION_NMI, -1, -1}};
}

/// An exit that the hypervisor answers with an exception.
constexpr LabOutcome leaves_and_faults(ExitReason reason, int vector)
{
    LabOutcome outcome = leaves(reason);
    outcome.fault = vector;
    return outcome;
}

/// An exit that the hypervisor has no use for: off as usual, on for a client that asks.
LabCase by_intercept(const char *slug, std::uint64_t intercept, const char *name, LabCode before,
                     LabCode code, ExitReason reason, const char *lesson);

/// Without EPT the control is always on.
LabCase off_with_ept(LabCase row);

LabCase only_on(const char *slug, LabSide on, const char *why_never_off, const char *lesson);
LabCase only_off(const char *slug, LabSide off, const char *why_never_on, const char *lesson);
LabCase nothing_to_show(const char *slug, const char *why_not);

} // namespace minivmx::tool
