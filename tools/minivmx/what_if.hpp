// SPDX-License-Identifier: GPL-2.0-only
//
// The options by which a command asks about a machine and a vCPU that need not exist.
#pragma once

#include "command.hpp"
#include "explain.hpp"

#include <string>
#include <vector>

namespace minivmx::tool {

/// What "hlt,mwait" disables, and "rdtscp,invpcid" puts into the guest's CPUID; "all" and "none"
/// are known, too. Throws a usage Error that names `option` and suggests others.
void set_disabled_exits(const std::string &option, const std::string &list, VcpuChoice &choice);
void set_guest_cpuid(const std::string &option, const std::string &list, VcpuChoice &choice);

/// --cpu, --msrs, --param, --irqchip, ... of a command line.
class WhatIfOptions {
  public:
    /// --cpu and --msrs, which choose the machine.
    void add_machine(CLI::App &options);
    /// --param and those of the vCPU; with a suffix like "-a" for one side of a comparison.
    void add_choices(CLI::App &options, const std::string &suffix = "");

    void set_cpu(const std::string &name) { cpu_ = name; }
    bool names_machine() const { return !cpu_.empty() || !msrs_.empty(); }
    /// Without a named machine it is this one. Throws an Error.
    Question question() const;
    /// The same with what `also` asks for in addition.
    Question question(const WhatIfOptions &also) const;

  private:
    void apply_choices(VcpuChoice &choice) const;

    std::string suffix_;
    std::string cpu_, msrs_;
    std::vector<std::string> parameters_;
    std::vector<std::string> disabled_exits_, guest_cpuid_;
    bool irqchip_ = false, x2apic_ = false, dirty_log_ = false, debug_registers_ = false;
};

} // namespace minivmx::tool
