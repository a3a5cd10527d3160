// SPDX-License-Identifier: GPL-2.0-only
//
// CPUs that are not this one: from a file of MSR values, or from those that ship with minivmx.
#pragma once

#include <minivmx/host_desc.hpp>

#include <string>
#include <string_view>

namespace minivmx::tool {

/// A text of MSR values, one a line: the number in hexadecimal, white space or a colon, the value
/// in hexadecimal; with or without 0x; "gp" for an MSR that does not exist; # starts a comment.
/// MSRs that negotiation does not need are passed over. Throws a usage Error naming `path` and the
/// line.
HostDesc parse_msr_lines(const std::string &path, std::string_view text);

/// The CPU in `path`: such lines, or JSON as in data/. `name` chooses one of several in JSON; it
/// may be empty when there is only one. Throws a usage Error naming the file.
HostDesc read_msr_file(const std::string &path, const std::string &name);

/// A CPU that ships with minivmx. Throws a usage Error that names similar ones.
HostDesc shipped_cpu(const std::string &name);

} // namespace minivmx::tool
