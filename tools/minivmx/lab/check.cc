// SPDX-License-Identifier: GPL-2.0-only
#include "check.hpp"

#include <minivmx/exit.hpp>
#include <minivmx/exit_name.hpp>

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

using Sentences = std::vector<std::string>;

/// The host's own events: they come at any time. An NMI shares its reason with the guest's
/// exceptions, which the guest would have got.
bool is_the_hosts(std::uint32_t reason, const LabRun &run)
{
    return reason == EXIT_REASON_EXTERNAL_INTERRUPT || reason == EXIT_REASON_PREEMPTION_TIMER ||
           (reason == EXIT_REASON_EXCEPTION_NMI && run.fault < 0);
}

std::string name_of(int reason)
{
    const char *name = exit_reason_name(static_cast<std::uint32_t>(reason));
    return fmt::format("exit {} ({})", reason, name != nullptr ? name : "unknown");
}

std::string vector_name(int vector)
{
    if (vector < 0)
        return "no exception";
    const char *name = exception_name(static_cast<std::uint32_t>(vector));
    return name != nullptr ? name : fmt::format("vector {}", vector);
}

void check_exits(const LabOutcome &expected, const LabRun &run, Sentences &wrong)
{
    std::uint64_t others = 0;
    std::string which;
    for (const auto &[reason, count] : run.exits) {
        const int number = static_cast<int>(reason);
        if (is_the_hosts(reason, run) || expected.counts(number) || expected.allows(number))
            continue;
        others += count;
        which += fmt::format("{}{} {} times", which.empty() ? "" : ", ", name_of(number), count);
    }
    if (others > expected.stray)
        wrong.push_back(fmt::format("the guest left by {}, which it should not", which));
    if (!expected.expects_exit())
        return;
    const std::uint64_t least = expected.least != 0 ? expected.least : run.rounds;
    const std::uint64_t counted = expected_exits(expected, run);
    if (counted < least)
        wrong.push_back(fmt::format("{} came {} times in {} rounds, expected at least {}",
                                    name_of(expected.exits[0]), counted, run.rounds, least));
    if (expected.to_client && run.client_exits < least)
        wrong.push_back(fmt::format("the client was told of {} exits, expected at least {}",
                                    run.client_exits, least));
}

} // namespace

std::uint64_t expected_exits(const LabOutcome &expected, const LabRun &run)
{
    std::uint64_t counted = 0;
    for (const auto &[reason, count] : run.exits)
        if (expected.counts(static_cast<int>(reason)))
            counted += count;
    return counted;
}

Sentences check_side(const LabSide &side, const LabRun &run)
{
    Sentences wrong;
    if (!run.measured())
        return wrong;
    if (side.bit && run.bit && *side.bit != *run.bit)
        wrong.push_back(fmt::format("the control's bit is {} in the vCPU's word, expected {}",
                                    *run.bit ? 1 : 0, *side.bit ? 1 : 0));
    if (!run.ran) {
        wrong.push_back("the guest did not run: " + run.reason);
        return wrong;
    }
    // Uncounted exits can't be judged, but for those that the client saw.
    if (run.counted || side.expected.to_client)
        check_exits(side.expected, run, wrong);
    if (!side.expected.to_client && run.client_exits != 0)
        wrong.push_back(fmt::format("the client was told of {} exits that it did not ask for",
                                    run.client_exits));
    if (run.fault != side.expected.fault)
        wrong.push_back(fmt::format("the guest got {}, expected {}", vector_name(run.fault),
                                    vector_name(side.expected.fault)));
    return wrong;
}

namespace {

/// An exit and the way back cost more than what they replace.
void check_cost(const LabCase &row, const LabRun &off, const LabRun &on, Sentences &wrong)
{
    const auto stays = [](const LabOutcome &o) { return !o.expects_exit() && o.also[0] < 0; };
    const auto leaves_each_round = [](const LabOutcome &o) {
        return o.expects_exit() && o.least == 0;
    };
    const LabOutcome &a = row.off.expected;
    const LabOutcome &b = row.on.expected;
    const bool on_costs = stays(a) && leaves_each_round(b) && on.ticks <= off.ticks;
    const bool off_costs = stays(b) && leaves_each_round(a) && off.ticks <= on.ticks;
    if (off.ran && on.ran && (on_costs || off_costs))
        wrong.push_back(
            fmt::format("an exit costs nothing: {} ticks off, {} on", off.ticks, on.ticks));
}

} // namespace

Sentences check_case(const LabCase &row, const LabRun &off, const LabRun &on)
{
    Sentences wrong;
    for (const std::string &text : check_side(row.off, off))
        wrong.push_back("off: " + text);
    for (const std::string &text : check_side(row.on, on))
        wrong.push_back("on: " + text);
    if (off.measured() && on.measured())
        check_cost(row, off, on, wrong);
    const bool can_compare = off.measured() || on.measured();
    if (row.check != nullptr && can_compare)
        if (const char *text = row.check(off, on))
            wrong.emplace_back(text);
    return wrong;
}

} // namespace minivmx::tool
