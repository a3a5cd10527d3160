// SPDX-License-Identifier: GPL-2.0-only
#include "rule_sweep.hpp"

#include "../explain.hpp"
#include "matrix.hpp"

#include <minivmx/controls.hpp>
#include <minivmx/intercept_controls.hpp>

#include <algorithm>

namespace minivmx::tool {
namespace {

/// The default, and each parameter that decides over controls off by itself.
std::vector<Parameters> parameter_choices()
{
    std::vector<Parameters> choices = {default_parameters()};
    for (bool core_params::*const member :
         {&core_params::vnmi, &core_params::preemption_timer, &core_params::ept, &core_params::vpid,
          &core_params::unrestricted_guest, &core_params::flexpriority, &core_params::pml,
          &core_params::enable_apicv}) {
        choices.push_back(default_parameters());
        choices.back().*member = false;
    }
    choices.push_back(default_parameters());
    choices.back().ple_gap = 0;
    return choices;
}

/// A plain one, a typical one, one with all that clears controls, and one whose client wants to see
/// all that it can.
std::vector<VcpuControlInputs> vcpu_choices(const Hardware &hw)
{
    VcpuChoice unusual;
    unusual.irqchip = unusual.x2apic = unusual.debug_registers = true;
    unusual.hlt = unusual.mwait = unusual.pause = true;
    std::vector<VcpuControlInputs> choices = {control_inputs(hw, VcpuChoice()),
                                              control_inputs(hw, typical_vcpu()),
                                              control_inputs(hw, unusual)};
    choices.push_back(choices[1]);
    choices.back().intercepts_ports = true;
    for (const InterceptControl &row : kInterceptControls)
        choices.back().intercepts |= row.intercept;
    return choices;
}

/// As shipped, and kinds of hosts on which other rules act.
std::vector<HostDesc> hosts_of(const profiles::CpuProfile &profile)
{
    std::vector<HostDesc> hosts(4, profile.host());
    hosts[1].is_64bit = false;
    hosts[2].enlightened_vmcs = true;
    hosts[3].has_sgx = false;
    return hosts;
}

/// That a control is asked for, or is not there, is said elsewhere.
bool says_nothing(Rule rule)
{
    return rule == Rule::kRequired || rule == Rule::kOptional || rule == Rule::kNegotiated ||
           rule == Rule::kNotAllowed;
}

} // namespace

RuleSweep::RuleSweep() : movers_(kControlCount)
{
    for (const profiles::CpuProfile &profile : profiles::shipped_profiles()) {
        for (const Parameters &parameters : parameter_choices())
            add(profile.host(), parameters);
        for (const HostDesc &host : hosts_of(profile))
            add(host, default_parameters());
    }
    for (std::vector<Mover> &movers : movers_)
        std::stable_sort(movers.begin(), movers.end(),
                         [](const Mover &a, const Mover &b) { return a.rule < b.rule; });
}

void RuleSweep::add(const HostDesc &host, Parameters parameters)
{
    Hardware hw;
    SetupLog log;
    if (hardware_setup(host, parameters, hw, log).failed())
        return;
    for (const VcpuControlInputs &vcpu : vcpu_choices(hw))
        add(hw, vcpu);
}

void RuleSweep::add(const Hardware &hw, const VcpuControlInputs &vcpu)
{
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        const WordHistory word(hw, field, vcpu);
        for (const ControlBit &row : control_bits_of(field)) {
            const BitHistory history = history_of(hw, word, row);
            for (const BitStep &step : history.taken())
                if (!says_nothing(step.rule))
                    add(row, {step.rule, step.set, step_where(field, step)});
        }
    }
}

void RuleSweep::add(const ControlBit &row, const Mover &mover)
{
    std::vector<Mover> &movers = movers_[static_cast<std::size_t>(&row - kControlTable)];
    if (std::find(movers.begin(), movers.end(), mover) == movers.end())
        movers.push_back(mover);
}

const std::vector<Mover> &RuleSweep::movers(const ControlBit &row) const
{
    return movers_[static_cast<std::size_t>(&row - kControlTable)];
}

} // namespace minivmx::tool
