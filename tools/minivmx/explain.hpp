// SPDX-License-Identifier: GPL-2.0-only
//
// Why every control bit is on or off, for a machine and a vCPU that need not exist: what `minivmx
// explain`, `diff` and `matrix` print. The core decides and gives the reasons; this keeps them.
#pragma once

#include <minivmx/explain.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace minivmx::tool {

/// A vCPU as a person describes it.
struct VcpuChoice {
    bool irqchip = false; ///< the interrupt controllers are in the kernel
    bool x2apic = false;  ///< the guest has switched its APIC to x2APIC mode; with irqchip
    bool dirty_log = false;
    bool debug_registers = false;                   ///< the guest's debug registers are loaded
    bool hlt = false, mwait = false, pause = false; ///< exits that the VM's owner disabled
    /// Of the guest's CPUID.
    bool xsaves = false, rdtscp = false, rdpid = false, invpcid = false, rdrand = false,
         rdseed = false, waitpkg = false;
};

/// What to explain.
struct Question {
    std::string source; ///< what the answer calls the machine: a CPU's name, a file, "this machine"
    HostDesc host;
    Parameters parameters = default_parameters();
    VcpuChoice vcpu;
};

struct ExplainedStep {
    bool to_one;
    std::string rule;   ///< "ept-cr3-invlpg"
    std::string where;  ///< "setup_vmcs_config"
    std::string reason; ///< a sentence's part
};

struct ExplainedBit {
    const ControlBit *row = nullptr;
    Standing standing = Standing::kUnknown;
    bool may_be_0 = false, may_be_1 = false;
    bool negotiated = false;
    bool on = false; ///< for the vCPU of the question
    std::vector<ExplainedStep> steps;
    std::string untouched; ///< why no step touched it; empty when one did

    /// The reason of the last step, or why there is none.
    std::string last_reason() const;
    /// The same for a list of bits: what the bit does where it is simply used.
    std::string short_reason() const;
};

struct ExplainedWord {
    const ControlWordInfo *info = nullptr;
    u32 deciding_msr = 0; ///< says what the CPU accepts
    u64 negotiated = 0;
    u64 value = 0;                  ///< for the vCPU of the question
    std::vector<ExplainedBit> bits; ///< those that the table has, lowest first
};

struct Explanation {
    std::string source;
    bool usable = false; ///< the module would load; otherwise the words are as far as it came
    std::string error;   ///< why it would not
    std::vector<std::string> warnings;
    Hardware hardware;
    std::string vcpu;                 ///< in words; empty for a living one
    std::vector<ExplainedWord> words; ///< all, in the order of ControlField

    const ExplainedWord &word(ControlField field) const;
    const ExplainedBit &bit(const ControlBit &row) const;
};

Explanation explain(const Question &question);

/// "vCPU: irqchip in the kernel, ...".
std::string vcpu_text(const VcpuChoice &choice);

/// What a vCPU of this choice hands to the core's control functions on such hardware.
VcpuControlInputs control_inputs(const Hardware &hw, const VcpuChoice &choice);

} // namespace minivmx::tool
