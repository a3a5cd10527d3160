// SPDX-License-Identifier: GPL-2.0-only
//
// The `minivmx` command: parses the command line and hands over to a subcommand.
#include "audit_command.hpp"
#include "bench_command.hpp"
#include "cpus_command.hpp"
#include "error.hpp"
#include "explain_command.hpp"
#include "lab_command.hpp"
#include "matrix_command.hpp"
#include "report_command.hpp"
#include "run_command.hpp"
#include "stat_command.hpp"

#include <vector>

namespace {

using minivmx::tool::Command;
using minivmx::tool::ExitStatus;

constexpr const char *kDescription = "minivmx: run guests on Intel VT-x, and see what it offers";

/// An option that may be repeated takes one value each time: what follows is not its second one.
void take_one_value_each(CLI::App &app)
{
    for (CLI::App *command : app.get_subcommands({}))
        for (CLI::Option *option : command->get_options())
            if (!option->get_positional() && option->get_expected_max() > 1)
                option->allow_extra_args(false);
}

int parse_and_execute(int argc, char **argv)
{
    CLI::App app(kDescription, "minivmx");
    app.set_version_flag("--version", "minivmx " MINIVMX_VERSION);
    app.require_subcommand(0, 1); // none is refused below, with the help text
    std::vector<std::unique_ptr<Command>> commands;
    commands.push_back(minivmx::tool::make_run_command(app));
    commands.push_back(minivmx::tool::make_report_command(app));
    commands.push_back(minivmx::tool::make_matrix_command(app));
    commands.push_back(minivmx::tool::make_audit_command(app));
    commands.push_back(minivmx::tool::make_explain_command(app));
    commands.push_back(minivmx::tool::make_diff_command(app));
    commands.push_back(minivmx::tool::make_cpus_command(app));
    commands.push_back(minivmx::tool::make_lab_command(app));
    commands.push_back(minivmx::tool::make_stat_command(app));
    commands.push_back(minivmx::tool::make_bench_command(app));
    take_one_value_each(app);

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        // Asking for help or the version comes as an exception, too.
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success))
            return app.exit(error);
        fmt::print(stderr, "minivmx: {}\nTry minivmx --help.\n", error.what());
        return static_cast<int>(ExitStatus::kUsage);
    }
    for (const auto &command : commands)
        if (command->parser().parsed())
            return static_cast<int>(command->execute());
    fmt::print(stderr, "{}", app.help());
    return static_cast<int>(ExitStatus::kUsage);
}

} // namespace

int main(int argc, char **argv)
{
    try {
        return parse_and_execute(argc, argv);
    } catch (const minivmx::tool::Error &error) {
        fmt::print(stderr, "minivmx: {}\n", error.what());
        return static_cast<int>(error.status());
    } catch (const std::exception &error) {
        fmt::print(stderr, "minivmx: {}\n", error.what());
        return static_cast<int>(ExitStatus::kFailed);
    }
}
