// SPDX-License-Identifier: GPL-2.0-only
#include "explain_text.hpp"

#include "text_lines.hpp"

#include <minivmx/exit_name.hpp>
#include <minivmx/report.hpp>

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

constexpr std::size_t kWidth = 100;

/// "0 or 1": what the CPU lets a bit be.
const char *freedom_text(const ExplainedBit &bit)
{
    if (!bit.may_be_1)
        return "0 only";
    return bit.may_be_0 ? "0 or 1" : "1 only";
}

const char *short_freedom(const ExplainedBit &bit)
{
    if (bit.standing == Standing::kUnknown)
        return "?";
    if (!bit.may_be_1)
        return "0";
    return bit.may_be_0 ? "0/1" : "1";
}

/// "IA32_VMX_PROCBASED_CTLS2 (0x48b) is 0x...", as far as it is known.
std::string msr_text(const VmxMsrs &msrs, u32 msr)
{
    const std::string name = fmt::format("{} ({:#x})", msr_name(msr), msr);
    return msrs.present(msr) ? fmt::format("{} is {:#018x}", name, msrs[msr]) : name;
}

std::string word_hex(const ControlWordInfo &info, u64 value)
{
    return fmt::format("0x{:0{}x}", value, info.width / 4);
}

/// The exits that a control causes: "exit 28 (Control-register accesses)".
std::string exit_text(int reason)
{
    const char *const name = exit_reason_name(static_cast<u32>(reason));
    return fmt::format("exit {} ({})", reason, name != nullptr ? name : "unnamed");
}

std::string exits_text(const ControlBit &row)
{
    if (row.exit_reason < 0)
        return "";
    std::string text = "; " + exit_text(row.exit_reason);
    if (row.other_exit_reason >= 0)
        text += " and " + exit_text(row.other_exit_reason);
    return text;
}

/// What may move the bit beside negotiation; empty if nothing does.
std::string movers_text(const ControlBit &row)
{
    std::string text;
    if (row.parameter != Parameter::kNone)
        text = fmt::format("the parameter {} (0 {} it)", parameter_name(row.parameter),
                           row.when_off == WhenOff::kSets ? "sets" : "clears");
    if (row.moved_by != nullptr)
        text += fmt::format("{}{}", text.empty() ? "" : "; ", row.moved_by);
    return text;
}

std::string step_line(const char *to, const std::string &where, const std::string &reason)
{
    return wrapped(fmt::format("  {:<4} {:<27}", to, where), reason);
}

std::string bit_line(const ExplainedBit &bit)
{
    return wrapped(fmt::format("  {:>2} {:<3} {:<3} {:<38} ", bit.row->bit, bit.on ? "on" : "off",
                               short_freedom(bit), bit.row->name),
                   bit.short_reason());
}

/// The bits of this standing that minivmx has no use for, as a list.
std::string unused_list(const ExplainedWord &word, Standing standing, const char *title)
{
    std::vector<std::string> names;
    for (const ExplainedBit &bit : word.bits)
        if (bit.row->use == ControlUse::kUnused && !bit.on && bit.standing == standing)
            names.emplace_back(bit.row->name);
    return names.empty() ? ""
                         : wrapped(fmt::format("  {}: ", title),
                                   fmt::format("{}", fmt::join(names, ", ")), 4);
}

} // namespace

std::string wrapped(const std::string &first, const std::string &text)
{
    return wrapped(first, text, first.size());
}

std::string wrapped(const std::string &first, const std::string &text, std::size_t indent)
{
    std::string all = first;
    std::size_t column = first.size();
    bool at_start = true;
    for (const std::string_view word : split(text, " ")) {
        if (!at_start && column + 1 + word.size() > kWidth) {
            all += "\n" + std::string(indent, ' ');
            column = indent;
            at_start = true;
        }
        all += at_start ? "" : " ";
        all += word;
        column += word.size() + (at_start ? 0 : 1);
        at_start = false;
    }
    all.erase(all.find_last_not_of(' ') + 1);
    return all + "\n";
}

std::string subject_text(const Explanation &answer)
{
    std::string text = answer.source + "\n";
    if (!answer.vcpu.empty())
        text += wrapped("  ", answer.vcpu);
    std::vector<std::string> off;
    for (unsigned i = 1; i < kParameterCount; i++)
        if (!parameter_on(answer.hardware.asked, static_cast<Parameter>(i)))
            off.push_back(fmt::format("{}=0", parameter_name(static_cast<Parameter>(i))));
    if (!off.empty() && !answer.vcpu.empty())
        text += wrapped("  with the parameters ", fmt::format("{}", fmt::join(off, " ")));
    for (const std::string &warning : answer.warnings)
        text += wrapped("  warning: ", warning);
    if (!answer.usable)
        text += wrapped("  The module would not load there: ", answer.error);
    return text;
}

std::string bit_text(const Explanation &answer, const ExplainedBit &bit)
{
    const ControlBit &row = *bit.row;
    const ExplainedWord &word = answer.word(row.field);
    std::string text = fmt::format("{}: {}\n", row.name, bit.on ? "on" : "off");
    text +=
        wrapped("  ", fmt::format("bit {} of the {} controls, VMCS field {:#x}; SDM Vol. 3C, {}",
                                  row.bit, word.info->name, word.info->vmcs_field, row.sdm));
    text += wrapped("  ", fmt::format("{}{}", row.summary, exits_text(row)));
    if (const std::string movers = movers_text(row); !movers.empty())
        text += wrapped("  moved by ", movers);
    text += step_line("CPU", bit.standing == Standing::kUnknown ? "unknown" : freedom_text(bit),
                      msr_text(answer.hardware.host.msr, word.deciding_msr));
    for (const ExplainedStep &step : bit.steps)
        text += step_line(step.to_one ? "on" : "off", step.where,
                          fmt::format("{}: {}", step.rule, step.reason));
    if (!bit.untouched.empty())
        text += step_line(bit.on ? "on" : "off", "", bit.untouched);
    return text;
}

std::string word_text(const Explanation &answer, const ExplainedWord &word, bool brief)
{
    const ControlWordInfo &info = *word.info;
    std::string text = fmt::format("{} controls: {}", info.name, word_hex(info, word.value));
    if (word.value != word.negotiated)
        text += fmt::format(", negotiated {}", word_hex(info, word.negotiated));
    text += fmt::format("\n  VMCS field {:#x}; {}\n", info.vmcs_field,
                        msr_text(answer.hardware.host.msr, word.deciding_msr));
    for (const ExplainedBit &bit : word.bits)
        if (!brief || bit.row->use != ControlUse::kUnused || bit.on)
            text += bit_line(bit);
    if (brief) {
        text += unused_list(word, Standing::kAvailable, "available, but not used");
        text += unused_list(word, Standing::kAbsent, "not on this CPU");
        text +=
            unused_list(word, Standing::kUnknown, "unknown, since the MSR is not among the values");
    }
    return text;
}

} // namespace minivmx::tool
