// SPDX-License-Identifier: GPL-2.0-only
//
// Which rules ever move a control: found by negotiating for all CPUs that ship with minivmx, with
// each parameter off, for hosts and vCPUs of all kinds, and watching who acts.
#pragma once

#include <minivmx/control_types.hpp>
#include <minivmx/rules.hpp>
#include <minivmx/vcpu_controls.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// A rule that sets or clears a control somewhere.
struct Mover {
    Rule rule;
    bool sets;
    std::string where; ///< the function that takes the step

    bool operator==(const Mover &) const = default;
};

class RuleSweep {
  public:
    RuleSweep();
    /// In the order in which they act; without those that only say that the control is asked for.
    const std::vector<Mover> &movers(const ControlBit &row) const;

  private:
    /// All words of these vCPUs on a host with these parameters, if the module loads there.
    void add(const HostDesc &host, Parameters parameters);
    void add(const Hardware &hw, const VcpuControlInputs &vcpu);
    void add(const ControlBit &row, const Mover &mover);

    std::vector<std::vector<Mover>> movers_; ///< by the row's place in the table
};

} // namespace minivmx::tool
