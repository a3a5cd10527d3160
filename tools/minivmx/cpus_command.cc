// SPDX-License-Identifier: GPL-2.0-only
#include "cpus_command.hpp"

#include "cpu_list.hpp"
#include "cpu_search.hpp"
#include "output.hpp"

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
PART is any part of a CPU's name, brand string or microarchitecture: "i7-3770K", "haswell", "xeon".
Each of several must fit. With few results their sources are shown, too. explain, diff, report and
audit take such a part for --cpu where it fits only one.

Exit status: 0 listed; 1 no CPU fits.)";

class CpusCommand : public Command {
  public:
    explicit CpusCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    std::vector<std::string> parts_;
    bool json_ = false;
};

CpusCommand::CpusCommand(CLI::App &app)
    : Command(app, "cpus", "List the CPUs that ship with minivmx, by generation")
{
    options().add_option("part", parts_, "Only those with this in their name")->type_name("PART");
    options().add_flag("--json", json_, "A JSON array");
    options().footer(kFooter);
}

ExitStatus CpusCommand::execute()
{
    constexpr std::size_t kFew = 3;
    const std::string text = fmt::format("{}", fmt::join(parts_, " "));
    const std::vector<const profiles::CpuProfile *> found = find_cpus(text);
    if (json_) {
        print_json(cpu_list_json(found));
    } else if (found.empty()) {
        fail("no CPU that ships with minivmx has '{}' in its name", text);
    } else if (found.size() <= kFew) {
        for (const profiles::CpuProfile *cpu : found)
            print_text(cpu_text(*cpu));
    } else {
        print_text(cpu_list_text(found));
    }
    return found.empty() ? ExitStatus::kFailed : ExitStatus::kOk;
}

} // namespace

std::unique_ptr<Command> make_cpus_command(CLI::App &app)
{
    return std::make_unique<CpusCommand>(app);
}

} // namespace minivmx::tool
