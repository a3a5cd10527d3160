// SPDX-License-Identifier: GPL-2.0-only
#include "what_if.hpp"

#include "cpu_search.hpp"
#include "msr_file.hpp"
#include "online_cpus.hpp"
#include "parameters.hpp"

#include <native_cpu.hpp>

namespace minivmx::tool {

void WhatIfOptions::add_machine(CLI::App &options)
{
    options.add_option("--cpu", cpu_,
                       "A CPU that ships with minivmx, by part of its name; with --msrs, one of "
                       "that file's");
    options
        .add_option("--msrs", msrs_,
                    "The MSRs of another machine: JSON, or the text that rdmsr, vmxcap or an "
                    "InstLatx64-style dump gives; - is standard input")
        ->type_name("FILE");
}

void WhatIfOptions::add_choices(CLI::App &options, const std::string &suffix)
{
    suffix_ = suffix;
    options.add_option("--param" + suffix, parameters_,
                       "A parameter of the module: NAME=VALUE; may be repeated");
    options.add_flag("--irqchip" + suffix, irqchip_,
                     "The interrupt controllers are in the kernel (KVM_CREATE_IRQCHIP)");
    options.add_flag("--x2apic" + suffix, x2apic_,
                     "The guest has its local APIC in x2APIC mode; implies --irqchip");
    options
        .add_option("--disable-exits" + suffix, disabled_exits_,
                    "Exits that the VM does without: hlt, mwait, pause or all")
        ->type_name("LIST");
    options
        .add_option("--guest-cpuid" + suffix, guest_cpuid_,
                    "What the guest's CPUID has: xsaves, rdtscp, rdpid, invpcid, rdrand, rdseed, "
                    "waitpkg or all")
        ->type_name("LIST");
    options.add_flag("--dirty-log" + suffix, dirty_log_, "A memory slot logs dirty pages");
    options.add_flag("--debug-registers" + suffix, debug_registers_,
                     "The guest's debug registers are loaded");
}

void WhatIfOptions::apply_choices(VcpuChoice &choice) const
{
    choice.irqchip |= irqchip_ || x2apic_;
    choice.x2apic |= x2apic_;
    choice.dirty_log |= dirty_log_;
    choice.debug_registers |= debug_registers_;
    for (const std::string &list : disabled_exits_)
        set_disabled_exits("--disable-exits" + suffix_, list, choice);
    for (const std::string &list : guest_cpuid_)
        set_guest_cpuid("--guest-cpuid" + suffix_, list, choice);
}

Question WhatIfOptions::question() const
{
    return question(WhatIfOptions());
}

Question WhatIfOptions::question(const WhatIfOptions &also) const
{
    Question question;
    std::vector<std::string> parameters = parameters_;
    parameters.insert(parameters.end(), also.parameters_.begin(), also.parameters_.end());
    question.parameters = parse_parameters(parameters);
    apply_choices(question.vcpu);
    also.apply_choices(question.vcpu);
    if (!msrs_.empty() || !cpu_.empty()) {
        const profiles::CpuProfile cpu =
            msrs_.empty() ? choose_cpu("--cpu", cpu_) : read_msr_profile(msrs_, cpu_);
        question.source = cpu_title(cpu);
        question.host = cpu.host();
        return question;
    }
    const std::vector<u32> cpus = online_cpus();
    question.host = native::describe(cpus.front());
    question.source = std::string("this machine: ") + question.host.name;
    return question;
}

} // namespace minivmx::tool
