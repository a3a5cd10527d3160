// SPDX-License-Identifier: GPL-2.0-only
#include "controls_markdown.hpp"

#include "../control_prose.hpp"
#include "control_facts.hpp"
#include "rule_sweep.hpp"

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

constexpr const char *kIntroduction = R"(<!-- SPDX-License-Identifier: GPL-2.0-only -->
<!-- Made by `make docs` from the table of controls, the rules and the CPUs in data/. Don't edit it. -->
# The control bits of VMX

What the processor does in a guest, at a VM exit and at a VM entry hangs on the bits of seven words in the VMCS. A capability
MSR of each word says which of them may be 0 and which may be 1 (SDM Vol. 3D, A.3 to A.5). minivmx asks for what kvm_intel of
Linux 6.1 asks for; "required" means that the module does not load without the control.

"Cleared by" and "set by" name the rules that ever acted on the bit, found by negotiating for each of the CPUs in `data/`, for
several hosts, each parameter off, and vCPUs of several kinds. `minivmx explain SLUG` tells what acts on one machine,
`minivmx matrix --html FILE` draws all CPUs, `minivmx lab SLUG` shows the control at work.

)";

/// Pipes would end a cell of a table.
std::string cell(const std::string &text)
{
    std::string result;
    for (const char c : text)
        result += c == '|' ? std::string("\\|") : std::string(1, c);
    return result;
}

std::string table_line(const char *name, const std::string &text)
{
    return text.empty() ? "" : fmt::format("| {} | {} |\n", name, cell(text));
}

std::string mover_text(const ControlBit &row, const Mover &mover)
{
    const RuleInfo &rule = rule_info(mover.rule);
    if (mover.rule == Rule::kParameter)
        return fmt::format("`{}=0` (`{}`)", parameter_name(row.parameter), mover.where);
    return fmt::format("{} (`{}`, rule `{}`)", rule.text, mover.where, rule.id);
}

std::string movers_text(const RuleSweep &sweep, const ControlBit &row, bool sets)
{
    std::string text;
    for (const Mover &mover : sweep.movers(row)) {
        if (mover.sets != sets)
            continue;
        if (!text.empty())
            text += "<br>";
        text += mover_text(row, mover);
    }
    return text;
}

std::string index_line(const ControlBit &row)
{
    return fmt::format("| {} | [{}](#{}) | {} | {} |\n", row.bit, row.name, row.slug, use_text(row),
                       cell(row.summary));
}

std::string word_text(ControlField field)
{
    const ControlWordInfo &word = control_word_info(field);
    std::string text = fmt::format("## {} controls\n\n", capitalized(word.name));
    text += fmt::format("VMCS field {:#06x}, {} bits, SDM Vol. 3C, {}. The CPU's choice: "
                        "`{}` ({:#x})",
                        word.vmcs_field, word.width, word.sdm, msr_name(word.msr), word.msr);
    if (word.true_msr != 0)
        text += fmt::format(" and `{}` ({:#x})", msr_name(word.true_msr), word.true_msr);
    text += ".";
    if (word.default1 != 0)
        text += fmt::format(" Bits that are 1 by default: {:#010x}.", word.default1);
    text += "\n\n| bit | control | minivmx | what it does |\n| --- | --- | --- | --- |\n";
    for (const ControlBit &row : control_bits_of(field))
        text += index_line(row);
    return text + "\n";
}

/// A command, or why there is none.
std::string lab_cell(const ControlBit &row)
{
    const std::string text = lab_text(row);
    return text.starts_with("minivmx ") ? fmt::format("`{}`", text) : text;
}

std::string section(const Matrix &matrix, const RuleSweep &sweep, const ControlBit &row)
{
    std::string text = fmt::format("### {}\n\n", row.slug);
    text += fmt::format("**{}**: bit {} of the {} controls, `{}`; {}.\n\n", row.name, row.bit,
                        control_word_info(row.field).name, row.macro, sdm_text(row));
    text += fmt::format("{}. {}\n\n| | |\n| --- | --- |\n", capitalized(row.summary),
                        control_prose(row));
    text += table_line("minivmx", use_text(row));
    text += table_line("kvm_intel 6.1", kvm_intel_use_text(row));
    text += table_line("the document", document_use_text(row));
    text += table_line("set by", movers_text(sweep, row, true));
    text += table_line("cleared by", movers_text(sweep, row, false));
    text += table_line("moved by", row.moved_by != nullptr ? row.moved_by : "");
    const std::vector<std::string> exits = exit_texts(row);
    text += table_line("exit reason",
                       exits.empty() ? "none" : fmt::format("{}", fmt::join(exits, "<br>")));
    text += table_line("CPUs", since_text(matrix, row));
    text += table_line("lab", lab_cell(row));
    return text + "\n";
}

} // namespace

std::string controls_markdown()
{
    MatrixChoice choice;
    choice.real_only = true;
    const Matrix matrix = make_matrix(choice);
    const RuleSweep sweep;
    std::string text = kIntroduction;
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        text += word_text(field);
        for (const ControlBit &row : control_bits_of(field))
            text += section(matrix, sweep, row);
    }
    text.pop_back();
    return text;
}

} // namespace minivmx::tool
