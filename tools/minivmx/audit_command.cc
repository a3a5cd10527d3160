// SPDX-License-Identifier: GPL-2.0-only
#include "audit_command.hpp"

#include "audit/audit_report.hpp"
#include "cpu_search.hpp"
#include "image.hpp"
#include "msr_file.hpp"
#include "output.hpp"

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
kvm_intel, loaded with dump_invalid_vmcs=1, and minivmx print the VMCS of a failed VM entry to dmesg.
This makes every check that the CPU makes on a VM entry (SDM Vol. 3C, chapter 27) on it, and names
each that is violated: field, value, bits, the rule and its clause. Other lines of the log, times and
names before the lines don't matter:

    dmesg | minivmx audit --cpu "i7-3770K"

What the dump doesn't tell makes checks "not checkable". --cpu (a CPU that ships with minivmx, by a
part of its name) or --msrs (a file of its MSRs) tell the capabilities of the CPU it is from.

Exit status: 0 every check could be made and holds; 1 one at least is violated; 4 none is violated,
but not all could be made; 2 an option or the file is wrong.)";

class AuditCommand : public Command {
  public:
    explicit AuditCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    AuditedCpu cpu() const;

    std::string file_ = "-";
    std::string cpu_;
    std::string msrs_;
    bool json_ = false;
};

AuditCommand::AuditCommand(CLI::App &app)
    : Command(app, "audit", "Say why a VM entry failed, from the VMCS that the kernel dumped")
{
    CLI::App &o = options();
    o.add_option("FILE", file_,
                 "The log with the dump; the standard input if it is - or not given");
    o.add_option("--cpu", cpu_,
                 "The CPU it is from, of those that ship with minivmx; with --msrs, one of that "
                 "file's");
    o.add_option("--msrs", msrs_, "The MSRs of the CPU it is from");
    o.add_flag("--json", json_, "One JSON object");
    o.footer(kFooter);
}

AuditedCpu AuditCommand::cpu() const
{
    if (msrs_.empty() && cpu_.empty())
        return {};
    if (msrs_.empty()) {
        const profiles::CpuProfile &cpu = choose_cpu("--cpu", cpu_);
        return audited_cpu(cpu.name, cpu.host(), true);
    }
    if (msrs_ == "-" && file_ == "-")
        fail_usage("--msrs: the standard input is the dump's; expected a file");
    const profiles::CpuProfile cpu = read_msr_profile(msrs_, cpu_);
    // Files that don't tell the width leave it at what it is by default.
    return audited_cpu(cpu.name.empty() ? msrs_ : cpu.name, cpu.host(),
                       cpu.max_phys_bits != profiles::CpuProfile().max_phys_bits);
}

ExitStatus status_of(AuditResult result)
{
    switch (result) {
    case AuditResult::kClean:
        return ExitStatus::kOk;
    case AuditResult::kViolated:
        return ExitStatus::kFailed;
    default:
        return ExitStatus::kIncomplete;
    }
}

ExitStatus AuditCommand::execute()
{
    constexpr std::uint64_t kMostBytes = 64 << 20;
    const AuditedCpu audited = cpu();
    const std::string name = file_ == "-" ? "standard input" : file_;
    const std::vector<std::uint8_t> bytes =
        read_image(file_ == "-" ? "/dev/stdin" : file_, kMostBytes);
    const std::string text(bytes.begin(), bytes.end());
    const AuditReport report = audit_dumps(name, parse_vmcs_dumps(name, text), audited);
    if (json_)
        print_json(audit_json(report));
    else
        print_text(audit_text(report));
    return status_of(report.result());
}

} // namespace

std::unique_ptr<Command> make_audit_command(CLI::App &app)
{
    return std::make_unique<AuditCommand>(app);
}

} // namespace minivmx::tool
