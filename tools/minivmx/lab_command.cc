// SPDX-License-Identifier: GPL-2.0-only
#include "lab_command.hpp"

#include "lab/report.hpp"
#include "nearest.hpp"
#include "output.hpp"

#include <minivmx/controls.hpp>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
For each primary and secondary processor-based control a tiny guest does what the control governs,
once with the control off and once with it on: does the guest leave, for which reason, and what does
it cost? The cost is the least of 16 rounds in ticks of the TSC, without what measuring takes. What
is seen is compared with what the architecture says.

Off and on come by what any client can ask for: MINIVMX_SET_INTERCEPTS, KVM_CAP_X86_DISABLE_EXITS,
the guest's CPUID, an APIC in the kernel, dirty logging. Where only a module parameter moves the
control, the side that this module was loaded for is shown. Most exits are handled by the
hypervisor; to count them takes root and debugfs.

Exit status: 0 all is as the architecture says; 1 something is not (WRONG), or the device failed; 2
an option or the control's name is wrong.)";

class LabCommand : public Command {
  public:
    explicit LabCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    LabReport make(std::span<const LabCase> cases) const;

    std::string control_ = "all";
    std::string device_ = MINIVMX_DEVICE;
    bool list_ = false;
    bool json_ = false;
};

LabCommand::LabCommand(CLI::App &app)
    : Command(app, "lab", "Show VMX controls at work: a tiny guest with each control off and on")
{
    CLI::App &o = options();
    o.add_option("CONTROL", control_, "One control, cr3-load-exiting; or all")
        ->capture_default_str();
    o.add_option("-d,--device", device_, "The device that runs the guests")->capture_default_str();
    o.add_flag("--list", list_, "Only tell what each guest does, or why there is nothing to show");
    o.add_flag("--json", json_, "JSON on standard output instead of text");
    o.footer(kFooter);
}

/// The case of a control, by any of its names.
const LabCase &find_case(const std::string &name)
{
    const ControlBit *control = find_control(name.c_str());
    if (const LabCase *row = control != nullptr ? lab_case_of(control->slug) : nullptr)
        return *row;
    if (control != nullptr)
        fail_usage("CONTROL: \"{}\" is one of the {} controls; the lab shows the primary and "
                   "secondary processor-based ones",
                   control->name, control_word_info(control->field).name);
    std::vector<std::string> names;
    for (const LabCase &row : lab_cases())
        names.emplace_back(row.slug);
    fail_usage("CONTROL: '{}' is no control{}; --list names all", name,
               did_you_mean(nearest(name, names)));
}

LabReport LabCommand::make(std::span<const LabCase> cases) const
{
    const Device device(device_);
    const Laboratory lab(device);
    LabReport report;
    report.device = device_;
    report.counted = lab.counts_all();
    for (const LabCase &row : cases)
        report.results.push_back(lab.show(row));
    return report;
}

ExitStatus LabCommand::execute()
{
    if (list_) {
        json_ ? print_json(lab_list_json()) : print_text(lab_list());
        return ExitStatus::kOk;
    }
    const bool all = control_ == "all";
    const LabReport report = make(all ? lab_cases() : std::span(&find_case(control_), 1));
    if (json_)
        print_json(lab_json(report));
    else
        print_text(all ? lab_table(report) : lab_lesson(report, report.results.front()));
    return report.all_right() ? ExitStatus::kOk : ExitStatus::kFailed;
}

} // namespace

std::unique_ptr<Command> make_lab_command(CLI::App &app)
{
    return std::make_unique<LabCommand>(app);
}

} // namespace minivmx::tool
