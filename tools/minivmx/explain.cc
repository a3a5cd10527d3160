// SPDX-License-Identifier: GPL-2.0-only
#include "explain.hpp"

#include "line_list.hpp"

#include <minivmx/capabilities.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace minivmx::tool {
namespace {

ExplainedStep explained_step(const Hardware &hw, ControlField field, const BitStep &step)
{
    Sentence reason;
    put_step_reason(reason, hw, field, step);
    return {step.set, rule_info(step.rule).id, step_where(field, step), reason.c_str()};
}

ExplainedBit explained_bit(const Hardware &hw, const WordHistory &word, const ControlBit &row)
{
    const BitHistory history = history_of(hw, word, row);
    ExplainedBit bit;
    bit.row = &row;
    bit.standing = standing_of(hw, row);
    bit.may_be_0 = history.may_be_0;
    bit.may_be_1 = history.may_be_1;
    bit.negotiated = history.negotiated;
    bit.on = history.on;
    for (const BitStep &step : history.taken())
        bit.steps.push_back(explained_step(hw, row.field, step));
    if (const char *const why = why_untouched(hw, history))
        bit.untouched = why;
    return bit;
}

ExplainedWord explained_word(const Hardware &hw, const WordHistory &history)
{
    ExplainedWord word;
    word.info = &control_word_info(history.field());
    word.deciding_msr = deciding_msr(hw.host.msr, history.field());
    word.negotiated = history.negotiated();
    word.value = history.value();
    for (const ControlBit &row : control_bits_of(history.field()))
        word.bits.push_back(explained_bit(hw, history, row));
    return word;
}

} // namespace

std::string ExplainedBit::last_reason() const
{
    return steps.empty() ? untouched : steps.back().reason;
}

std::string ExplainedBit::short_reason() const
{
    if (steps.empty())
        return untouched;
    const std::string &rule = steps.back().rule;
    if (rule == rule_info(Rule::kRequired).id || rule == rule_info(Rule::kOptional).id)
        return row->summary;
    if (rule == rule_info(Rule::kNotAllowed).id && standing != Standing::kUnknown)
        return rule_info(Rule::kNotAllowed).brief;
    return steps.back().reason;
}

const ExplainedWord &Explanation::word(ControlField field) const
{
    return words.at(static_cast<std::size_t>(field));
}

const ExplainedBit &Explanation::bit(const ControlBit &row) const
{
    const std::vector<ExplainedBit> &bits = word(row.field).bits;
    return *std::find_if(bits.begin(), bits.end(),
                         [&](const ExplainedBit &bit) { return bit.row == &row; });
}

Explanation explain(const Question &question)
{
    Explanation answer;
    answer.source = question.source;
    answer.vcpu = vcpu_text(question.vcpu);
    Parameters parameters = question.parameters;
    SetupLog log;
    log.warnings = line_list_sink(answer.warnings);
    const Status status = hardware_setup(question.host, parameters, answer.hardware, log);
    answer.usable = status.ok();
    answer.error = status.why();
    // A failed setup may leave these as they were.
    answer.hardware.host = question.host;
    answer.hardware.asked = question.parameters;

    const VcpuControlInputs vcpu = control_inputs(answer.hardware, question.vcpu);
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        // Where the module does not load there is no vCPU.
        const WordHistory history = answer.usable ? WordHistory(answer.hardware, field, vcpu)
                                                  : WordHistory(answer.hardware, field);
        answer.words.push_back(explained_word(answer.hardware, history));
    }
    return answer;
}

VcpuControlInputs control_inputs(const Hardware &hw, const VcpuChoice &choice)
{
    VcpuControlInputs in{};
    in.debugreg_wont_exit = choice.debug_registers;
    in.need_tpr_shadow = choice.irqchip && cpu_has_vmx_tpr_shadow(hw.config);
    in.virtualize_apic_accesses = choice.irqchip && hw.params.flexpriority;
    in.xapic_mode = choice.irqchip && !choice.x2apic;
    in.x2apic_mode = choice.irqchip && choice.x2apic;
    in.hlt_in_guest = choice.hlt;
    in.mwait_in_guest = choice.mwait;
    in.pause_in_guest = choice.pause || hw.params.ple_gap == 0;
    in.has_vpid = hw.params.vpid;
    in.dirty_logging = choice.dirty_log && hw.params.pml;
    in.xsaves = choice.xsaves;
    in.rdtscp = choice.rdtscp;
    in.rdpid = choice.rdpid;
    in.invpcid = choice.invpcid;
    in.rdrand = choice.rdrand;
    in.rdseed = choice.rdseed;
    in.waitpkg = choice.waitpkg;
    return in;
}

std::string vcpu_text(const VcpuChoice &choice)
{
    const auto list = [](std::initializer_list<std::pair<bool, const char *>> items) {
        std::vector<std::string> names;
        for (const auto &[there, name] : items)
            if (there)
                names.emplace_back(name);
        return names;
    };
    std::vector<std::string> parts = list({{!choice.irqchip, "no irqchip in the kernel"},
                                           {choice.irqchip, "irqchip in the kernel"},
                                           {choice.x2apic, "APIC in x2APIC mode"},
                                           {choice.dirty_log, "dirty logging"},
                                           {choice.debug_registers, "debug registers loaded"}});
    const auto exits =
        list({{choice.hlt, "hlt"}, {choice.mwait, "mwait"}, {choice.pause, "pause"}});
    if (!exits.empty())
        parts.push_back(fmt::format("exits disabled for {}", fmt::join(exits, " ")));
    const auto features = list({{choice.xsaves, "xsaves"},
                                {choice.rdtscp, "rdtscp"},
                                {choice.rdpid, "rdpid"},
                                {choice.invpcid, "invpcid"},
                                {choice.rdrand, "rdrand"},
                                {choice.rdseed, "rdseed"},
                                {choice.waitpkg, "waitpkg"}});
    parts.push_back(features.empty() ? std::string("its CPUID empty")
                                     : fmt::format("its CPUID with {}", fmt::join(features, " ")));
    return fmt::format("vCPU: {}", fmt::join(parts, ", "));
}

} // namespace minivmx::tool
