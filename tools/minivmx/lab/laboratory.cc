// SPDX-License-Identifier: GPL-2.0-only
#include "laboratory.hpp"

#include "check.hpp"
#include "code.hpp"
#include "machine.hpp"

#include <minivmx/controls.hpp>

#include <fmt/format.h>
#include <x86intrin.h>

#include <algorithm>
#include <fstream>

namespace minivmx::tool {

LAB_CODE(kNothing, "");
LAB_CODE(kCallForEvent, "out 0xf1, al");

namespace {

/// The least of so many rounds is free of the host's interruptions.
constexpr unsigned kRounds = 16;

/// What the module was loaded with: nothing where it has no such parameter, or doesn't tell.
std::optional<bool> parameter_value(const std::string &module, Parameter parameter)
{
    std::ifstream file(
        fmt::format("/sys/module/{}/parameters/{}", module, parameter_name(parameter)));
    std::string text;
    if (!(file >> text))
        return std::nullopt;
    return text != "N" && text != "0";
}

/// "needs vpid=0", where the module has been loaded otherwise; else nothing. ple_gap is a number of
/// ticks.
std::string need(const std::string &module, Parameter parameter, bool on)
{
    const std::optional<bool> is = parameter_value(module, parameter);
    if (!is || *is == on)
        return "";
    const bool any = parameter == Parameter::kPleGap && on;
    return fmt::format("needs {}{}", parameter_name(parameter), any ? ">0" : on ? "=1" : "=0");
}

LabRun not_measured(LabStatus status, std::string reason)
{
    LabRun run;
    run.status = status;
    run.reason = std::move(reason);
    return run;
}

void take_over(LabRun &run, const LabPass &pass, const LabPass &idle)
{
    run.ran = pass.ran;
    run.reason = pass.refused;
    run.counted = pass.counted;
    run.exits = counts_since(idle.exits, pass.exits);
    run.client_exits = pass.client_exits - std::min(pass.client_exits, idle.client_exits);
    run.ticks = pass.least_ticks - std::min(pass.least_ticks, idle.least_ticks);
    run.value = pass.value;
    run.fault = pass.fault;
}

} // namespace

Laboratory::Laboratory(const Device &device)
    : device_(device),
      module_(device.path().find("minivmx") != std::string::npos ? "minivmx" : "kvm_intel")
{
    LabMachine machine(device, {});
    const LabPass pass = machine.run(kNothing, kCallForEvent, 1, false);
    counts_all_ = pass.counted;
    if (const auto word = machine.word(ControlField::kPrimary))
        primary_allowed_ = word->allowed1;
    if (const auto word = machine.word(ControlField::kSecondary))
        secondary_allowed_ = word->allowed1;
}

bool Laboratory::is_absent(const ControlBit &control) const
{
    const auto &allowed =
        control.field == ControlField::kPrimary ? primary_allowed_ : secondary_allowed_;
    return allowed && (*allowed & control.mask()) == 0;
}

LabRun Laboratory::run(const LabCase &row, const LabSide &side) const
{
    if (side.why_not != nullptr)
        return not_measured(LabStatus::kNotShown, side.why_not);
    const ControlBit &control = *find_control(row.slug);
    std::string needed;
    if (side.parameter != Parameter::kNone)
        needed = need(module_, side.parameter, side.parameter_on);
    if (side.with_ept && needed.empty())
        needed = need(module_, Parameter::kEpt, true);
    if (!needed.empty())
        return not_measured(LabStatus::kParameter, needed);
    LabMachine machine(device_, side.setup);
    if (!machine.lacking().empty())
        return not_measured(LabStatus::kLacking, machine.lacking());

    LabRun run;
    run.status = LabStatus::kMeasured;
    run.rounds = kRounds;
    run.tsc_setting_took = machine.tsc_setting_took();
    if (const auto word = machine.word(control.field))
        run.bit = (word->value & control.mask()) != 0;
    // What the first time costs more, as the guest's memory, is over before each measured pass;
    // what the frame costs is taken off.
    LabPass idle;
    if (side.setup.real_mode) {
        run.rounds = 1;
    } else {
        machine.run(side.before, kNothing, 1, false);
        idle = machine.run(side.before, kNothing, kRounds, false);
    }
    machine.run(side.before, side.code, 1, true);
    run.host_tsc_before = __rdtsc();
    take_over(run, machine.run(side.before, side.code, run.rounds, true), idle);
    run.host_tsc_after = __rdtsc();
    if (side.setup.real_mode)
        run.ticks = 0; // not measured there
    return run;
}

LabResult Laboratory::show(const LabCase &row) const
{
    LabResult result = {.row = &row, .off = {}, .on = {}, .wrong = {}};
    if (is_absent(*find_control(row.slug))) {
        result.off = result.on = not_measured(LabStatus::kAbsent, "absent on this CPU");
        return result;
    }
    if (!row.shows()) {
        result.off = result.on = not_measured(LabStatus::kNotShown, row.why_not);
        return result;
    }
    result.off = run(row, row.off);
    result.on = run(row, row.on);
    result.wrong = check_case(row, result.off, result.on);
    return result;
}

} // namespace minivmx::tool
