// SPDX-License-Identifier: GPL-2.0-only
//
// CPUs that are not this one: from a file of MSR values, or from those that ship with minivmx.
#pragma once

#include "msr_formats.hpp"

#include <minivmx/host_desc.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

/// The CPUs of which `text` tells the MSRs, in any of the forms of msr_formats.hpp: one at least,
/// each with IA32_VMX_BASIC. MSRs that negotiation does not need are passed over. Throws a usage
/// Error.
std::vector<profiles::CpuProfile> parse_msr_text(const std::string &path, std::string_view text);

/// The CPU in the file `path`, or in the standard input where that is "-". `name` chooses one of
/// several; it may be empty when there is only one. Throws a usage Error naming the file.
profiles::CpuProfile read_msr_profile(const std::string &path, const std::string &name);
HostDesc read_msr_file(const std::string &path, const std::string &name);

/// A CPU that ships with minivmx, by name or a part that fits only one. Throws a usage Error that
/// names similar ones.
HostDesc shipped_cpu(const std::string &name);

} // namespace minivmx::tool
