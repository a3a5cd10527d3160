// SPDX-License-Identifier: GPL-2.0-only
#include "report_command.hpp"

#include "machine_report.hpp"
#include "msr_file.hpp"
#include "online_cpus.hpp"
#include "output.hpp"
#include "parameters.hpp"

#include <native_cpu.hpp>

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
Without options it reads the VMX capability MSRs of every CPU of this machine through
/dev/cpu/N/msr, as root; the module need not be loaded. What it prints is what the module would
negotiate, decided by the same code.

FILE may be JSON, or the text that rdmsr, vmxcap or an InstLatx64-style dump gives; the man page
shows each.

Exit status: 0 the module would load there; 1 it would not (the last line says why), or the MSRs
could not be read; 2 an option or the file is wrong.)";

class ReportCommand : public Command {
  public:
    explicit ReportCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    MachineReport make() const;

    std::string file_;
    std::string cpu_;
    std::vector<std::string> parameters_;
    bool every_bit_ = false;
    bool json_ = false;
};

ReportCommand::ReportCommand(CLI::App &app)
    : Command(app, "report", "Show what VMX offers here and what the module makes of it")
{
    CLI::App &o = options();
    o.add_option("--msrs,--msr-file", file_, "Another machine's MSRs instead of this one's")
        ->type_name("FILE");
    o.add_option("--cpu", cpu_,
                 "A CPU that ships with minivmx, by part of its name; with --msrs, one of that "
                 "file's");
    o.add_option("--param", parameters_, "A parameter of the module: NAME=VALUE; may be repeated");
    o.add_flag("--every-bit", every_bit_, "A line for each bit of each control word");
    o.add_flag("--json", json_, "One JSON object");
    o.footer(kFooter);
}

std::vector<HostDesc> this_machine()
{
    std::vector<HostDesc> hosts;
    for (const u32 cpu : online_cpus())
        hosts.push_back(native::describe(cpu));
    return hosts;
}

MachineReport ReportCommand::make() const
{
    const Parameters parameters = parse_parameters(parameters_);
    if (!file_.empty())
        return make_report(file_, {read_msr_file(file_, cpu_)}, parameters);
    if (!cpu_.empty())
        return make_report(cpu_, {shipped_cpu(cpu_)}, parameters);
    return make_report("this machine", this_machine(), parameters);
}

ExitStatus ReportCommand::execute()
{
    const MachineReport report = make();
    if (json_)
        print_json(report_json(report));
    else
        print_text(report_text(report, every_bit_ ? ReportLevel::kEveryBit : ReportLevel::kScreen));
    return report.usable ? ExitStatus::kOk : ExitStatus::kFailed;
}

} // namespace

std::unique_ptr<Command> make_report_command(CLI::App &app)
{
    return std::make_unique<ReportCommand>(app);
}

} // namespace minivmx::tool
