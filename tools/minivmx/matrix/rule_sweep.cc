// SPDX-License-Identifier: GPL-2.0-only
#include "rule_sweep.hpp"

#include "../explain.hpp"
#include "matrix.hpp"

#include <minivmx/controls.hpp>

#include <algorithm>

namespace minivmx::tool {
namespace {

std::size_t place_of(const ControlBit &row)
{
    return static_cast<std::size_t>(&row - kControlTable);
}

Rule rule_by_id(const std::string &id)
{
    unsigned i = 0;
    while (i < static_cast<unsigned>(Rule::kCount) && id != rule_info(static_cast<Rule>(i)).id)
        i++;
    return static_cast<Rule>(i);
}

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

/// A vCPU of which everything is said that moves a control.
VcpuChoice unusual_vcpu()
{
    VcpuChoice vcpu;
    vcpu.irqchip = vcpu.x2apic = vcpu.debug_registers = true;
    vcpu.hlt = vcpu.mwait = vcpu.pause = true;
    return vcpu;
}

/// Hosts on which rules act that don't on an ordinary one.
std::vector<HostDesc> hosts_of(const profiles::CpuProfile &profile)
{
    std::vector<HostDesc> hosts(4, profile.host());
    hosts[1].is_64bit = false;
    hosts[2].enlightened_vmcs = true;
    hosts[3].has_sgx = false;
    return hosts;
}

} // namespace

RuleSweep::RuleSweep() : movers_(kControlCount)
{
    for (const profiles::CpuProfile *profile : profiles::profiles_by_generation()) {
        // Parameters and vCPUs on every CPU, the kinds of hosts with the default ones.
        for (const Parameters &parameters : parameter_choices())
            for (const VcpuChoice &vcpu : {VcpuChoice(), typical_vcpu(), unusual_vcpu()})
                add({profile->name, profile->host(), parameters, vcpu});
        for (const HostDesc &host : hosts_of(*profile))
            add({profile->name, host, default_parameters(), typical_vcpu()});
    }
    for (std::vector<Mover> &movers : movers_)
        std::stable_sort(movers.begin(), movers.end(),
                         [](const Mover &a, const Mover &b) { return a.rule < b.rule; });
}

void RuleSweep::add(const Question &question)
{
    const Explanation explanation = explain(question);
    for (const ControlBit &row : all_control_bits()) {
        std::vector<Mover> &movers = movers_[place_of(row)];
        for (const ExplainedStep &step : explanation.bit(row).steps) {
            const Mover mover{rule_by_id(step.rule), step.to_one, step.where};
            const bool says_nothing =
                mover.rule == Rule::kRequired || mover.rule == Rule::kOptional ||
                mover.rule == Rule::kNegotiated || mover.rule == Rule::kNotAllowed;
            if (!says_nothing && std::find(movers.begin(), movers.end(), mover) == movers.end())
                movers.push_back(mover);
        }
    }
}

const std::vector<Mover> &RuleSweep::movers(const ControlBit &row) const
{
    return movers_[place_of(row)];
}

} // namespace minivmx::tool
