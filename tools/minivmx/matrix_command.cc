// SPDX-License-Identifier: GPL-2.0-only
#include "matrix_command.hpp"

#include "matrix/controls_markdown.hpp"
#include "matrix/matrix.hpp"
#include "output.hpp"
#include "parameters.hpp"

#include <cerrno>
#include <cstdio>

namespace minivmx::tool {
namespace {

constexpr const char *kFooter = R"(
A cell is what minivmx makes of a control on a CPU: required, used (optional, and taken), available
(there, but not used or turned off), absent, missing (required but not there: the module does not
load) or unknown. The page has the reasons; it is one file that asks nothing of the network.

FILE may be - for standard output. Exit status: 0 written; 1 a file can't be written; 2 an option is
wrong.)";

class MatrixCommand : public Command {
  public:
    explicit MatrixCommand(CLI::App &app);
    ExitStatus execute() override;

  private:
    std::string html_, svg_, csv_, markdown_;
    std::vector<std::string> parameters_;
    MatrixChoice choice_;
};

MatrixCommand::MatrixCommand(CLI::App &app)
    : Command(app, "matrix", "Every control on every CPU that ships with minivmx")
{
    CLI::App &o = options();
    o.add_option("--html", html_, "Write a page with all reasons, to browse")->type_name("FILE");
    o.add_option("--svg", svg_, "Write a picture")->type_name("FILE");
    o.add_option("--csv", csv_, "Write a line for each control")->type_name("FILE");
    o.add_option("--markdown", markdown_, "Write a section for each control, as docs/controls.md")
        ->type_name("FILE");
    o.add_option("--cpu", choice_.cpus, "Only CPUs with this in their name; may be repeated");
    o.add_flag("--real", choice_.real_only, "Only real CPUs, no emulated ones");
    o.add_flag("--one-per-generation", choice_.one_per_generation,
               "Only the first CPU of each generation");
    o.add_option("--param", parameters_, "A parameter of the module: NAME=VALUE; may be repeated");
    o.footer(kFooter);
}

void write_file(const std::string &path, const std::string &text)
{
    if (path == "-") {
        print_text(text);
        return;
    }
    std::FILE *const file = std::fopen(path.c_str(), "we");
    if (file == nullptr)
        fail("{}: {}", path, errno_text(errno));
    // cppcheck-suppress nullPointerRedundantCheck ; fail() does not return
    const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    const int error = errno;
    // cppcheck-suppress nullPointerRedundantCheck
    if (std::fclose(file) != 0)
        fail("{}: {}", path, errno_text(errno));
    if (!written)
        fail("{}: {}", path, errno_text(error));
}

ExitStatus MatrixCommand::execute()
{
    choice_.parameters = parse_parameters(parameters_);
    if (html_.empty() && svg_.empty() && csv_.empty() && markdown_.empty())
        fail_usage("matrix: expected --html FILE, --svg FILE, --csv FILE or --markdown FILE");
    const Matrix matrix = make_matrix(choice_);
    if (!html_.empty())
        write_file(html_, matrix_html(matrix));
    if (!svg_.empty())
        write_file(svg_, matrix_svg(matrix));
    if (!csv_.empty())
        write_file(csv_, matrix_csv(matrix));
    if (!markdown_.empty())
        write_file(markdown_, controls_markdown());
    return ExitStatus::kOk;
}

} // namespace

std::unique_ptr<Command> make_matrix_command(CLI::App &app)
{
    return std::make_unique<MatrixCommand>(app);
}

} // namespace minivmx::tool
