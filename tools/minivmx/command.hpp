// SPDX-License-Identifier: GPL-2.0-only
//
// What main() knows of a subcommand.
#pragma once

#include "error.hpp"

#include <CLI/CLI.hpp>

#include <memory>

namespace minivmx::tool {

/// A subcommand holds what its options were set to. It is made before the command line is parsed
/// and lives as long as the parser.
class Command {
  public:
    virtual ~Command() = default;

    /// Does the work, once the command line named this command. Throws Error.
    virtual ExitStatus execute() = 0;

    const CLI::App &parser() const { return *parser_; }

  protected:
    /// Adds the subcommand `name` to `app`, which outlives this object.
    Command(CLI::App &app, const char *name, const char *description)
        : parser_(app.add_subcommand(name, description))
    {}
    CLI::App &options() { return *parser_; }

  private:
    CLI::App *parser_;
};

} // namespace minivmx::tool
