// SPDX-License-Identifier: GPL-2.0-only
#include "explain_command.hpp"
#include "explain_diff.hpp"
#include "output.hpp"
#include "what_if.hpp"

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
CPU-A and CPU-B are CPUs that ship with minivmx, by part of their names, or "this" for this machine.
Without CPU-B both sides are CPU-A, so that options for one side show what these change:
    minivmx diff i7-3770K --param-b ept=0

Exit status: 0 compared; 1 the MSRs could not be read; 2 an option is wrong.)";

class DiffCommand : public Command {
  public:
    explicit DiffCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    Explanation ask(const std::string &cpu, const WhatIfOptions &side) const;

    std::string cpu_a_, cpu_b_;
    WhatIfOptions both_, a_, b_;
    bool json_ = false;
};

DiffCommand::DiffCommand(CLI::App &app)
    : Command(app, "diff", "Show which controls differ between two machines, and why")
{
    CLI::App &o = options();
    o.add_option("CPU-A", cpu_a_, "A CPU by part of its name, or this")->required();
    o.add_option("CPU-B", cpu_b_, "Another one");
    both_.add_choices(o);
    a_.add_choices(o, "-a");
    b_.add_choices(o, "-b");
    o.add_flag("--json", json_, "One JSON object");
    o.footer(kFooter);
}

Explanation DiffCommand::ask(const std::string &cpu, const WhatIfOptions &side) const
{
    WhatIfOptions machine = both_;
    if (cpu != "this")
        machine.set_cpu(cpu);
    return explain(machine.question(side));
}

ExitStatus DiffCommand::execute()
{
    const Explanation a = ask(cpu_a_, a_);
    const Explanation b = ask(cpu_b_.empty() ? cpu_a_ : cpu_b_, b_);
    if (json_)
        print_json(diff_json(a, b));
    else
        print_text(diff_text(a, b));
    return ExitStatus::kOk;
}

} // namespace

std::unique_ptr<Command> make_diff_command(CLI::App &app)
{
    return std::make_unique<DiffCommand>(app);
}

} // namespace minivmx::tool
