// SPDX-License-Identifier: GPL-2.0-only
#include "explain_command.hpp"

#include "control_search.hpp"
#include "explain_json.hpp"
#include "explain_text.hpp"
#include "output.hpp"
#include "vcpu_controls.hpp"
#include "what_if.hpp"

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
CONTROL is a control by its name or macro, like cr3-load-exiting, CPU_BASED_CR3_LOAD_EXITING or
primary.15; without one, every control is explained. Each step that set or cleared the bit is shown
with the function that takes it and its rule: the module's own code is asked, so this is what the
module does. The vCPU is a fresh one, unless options say more of it.

Without --cpu, --msrs or --vcpu it reads this machine's MSRs through /dev/cpu/N/msr, as root; the
module need not be loaded.

Exit status: 0 explained; 1 the module would not load there, or the MSRs or the vCPU could not be
read; 2 an option or a file is wrong.)";

class ExplainCommand : public Command {
  public:
    explicit ExplainCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    Explanation ask() const;
    std::vector<const ControlBit *> rows() const;
    std::string text(const Explanation &answer) const;

    std::vector<std::string> controls_, fields_;
    std::string vcpu_;
    WhatIfOptions what_if_;
    bool json_ = false;
};

ExplainCommand::ExplainCommand(CLI::App &app)
    : Command(app, "explain", "Show why a control is on or off, here or on another machine")
{
    CLI::App &o = options();
    o.add_option("control", controls_, "A control by name, macro or word.bit")
        ->type_name("CONTROL");
    o.add_option("--field", fields_,
                 "All of a word: pin, primary, secondary, tertiary, exit, exit2 or entry")
        ->type_name("WORD");
    what_if_.add_machine(o);
    what_if_.add_choices(o);
    o.add_option("--vcpu", vcpu_, "A running vCPU: PID/VM/VCPU, as in debugfs; needs root")
        ->type_name("PID/VM/VCPU")
        ->excludes("--cpu", "--msrs", "--param", "--irqchip", "--x2apic", "--disable-exits",
                   "--guest-cpuid", "--dirty-log", "--debug-registers");
    o.add_flag("--json", json_, "One JSON object");
    o.footer(kFooter);
}

Explanation ExplainCommand::ask() const
{
    return vcpu_.empty() ? explain(what_if_.question()) : read_vcpu_controls(vcpu_);
}

std::vector<const ControlBit *> ExplainCommand::rows() const
{
    std::vector<const ControlBit *> rows;
    for (const std::string &name : controls_)
        for (const ControlBit *row : find_controls(name))
            rows.push_back(row);
    for (const std::string &name : fields_)
        for (const ControlBit &row : control_bits_of(find_word(name)))
            rows.push_back(&row);
    return rows;
}

std::string ExplainCommand::text(const Explanation &answer) const
{
    std::string text = subject_text(answer);
    for (const std::string &name : controls_)
        for (const ControlBit *row : find_controls(name))
            text += "\n" + bit_text(answer, answer.bit(*row));
    for (const std::string &name : fields_)
        text += "\n" + word_text(answer, answer.word(find_word(name)), false);
    if (controls_.empty() && fields_.empty())
        for (const ExplainedWord &word : answer.words)
            text += "\n" + word_text(answer, word, true);
    return text;
}

ExitStatus ExplainCommand::execute()
{
    const std::vector<const ControlBit *> chosen = rows(); // a wrong name is told before MSRs are
    const Explanation answer = ask();
    if (json_)
        print_json(explanation_json(answer, chosen));
    else
        print_text(text(answer));
    return answer.usable ? ExitStatus::kOk : ExitStatus::kFailed;
}

} // namespace

std::unique_ptr<Command> make_explain_command(CLI::App &app)
{
    return std::make_unique<ExplainCommand>(app);
}

} // namespace minivmx::tool
