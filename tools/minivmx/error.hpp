// SPDX-License-Identifier: GPL-2.0-only
//
// How the tool fails: with one sentence that names the file, option or value at fault, and an exit
// status that a script can tell apart.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace minivmx::tool {

/// The process's exit status. The man page lists these.
enum class ExitStatus : int {
    kOk = 0,
    kFailed = 1,        // the machine, the device or the guest's entry failed
    kUsage = 2,         // an option, a value or an input file is wrong
    kGuestStatus = 3,   // the guest ended the run itself with a status other than 0
    kIncomplete = 4,    // not everything that was asked for could be told
    kTimeout = 124,     // as timeout(1)
    kInterrupted = 130, // as a shell reports SIGINT
};

class Error : public std::runtime_error {
  public:
    Error(ExitStatus status, const std::string &sentence)
        : std::runtime_error(sentence), status_(status)
    {}
    ExitStatus status() const { return status_; }

  private:
    ExitStatus status_;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args &&...args)
{
    throw Error(ExitStatus::kFailed, fmt::format(text, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> text, Args &&...args)
{
    throw Error(ExitStatus::kUsage, fmt::format(text, std::forward<Args>(args)...));
}

/// The system's words for an errno value, without its number.
std::string errno_text(int error);

} // namespace minivmx::tool
