// SPDX-License-Identifier: GPL-2.0-only
//
// The texts in which people keep a CPU's MSRs. Each parser throws a usage Error that names the
// file, the line, and what it expected there; what a text does not tell of a CPU is as in a
// CpuProfile of a CPU of today.
#pragma once

#include <profiles.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

/// Such a text, and the name of the file that it is from.
struct NamedText {
    std::string path;
    std::string_view text;
};

/// JSON: minivmx's own profiles ({"profiles": [...]}), one such profile ({"msr": {...}}), or only
/// the values ({"0x480": "0x00da040000000004", ...}).
std::vector<profiles::CpuProfile> parse_msr_json(const NamedText &file);

/// An MSR a line, its number or name and its value in hexadecimal, and what rdmsr prints:
///     0x480 0x00da040000000004          480: da040000000004
///     IA32_VMX_BASIC = 0xda040000000004
///     # rdmsr 0x480                     (the value is the next line)
///     rdmsr: CPU 0 cannot read MSR 0x00000492
profiles::CpuProfile parse_msr_lines(const NamedText &file);

/// What QEMU's scripts/kvm/vmxcap prints.
bool is_vmxcap(std::string_view text);
profiles::CpuProfile parse_vmxcap(const NamedText &file);

/// Dumps like those of InstLatx64, which AIDA64 makes: CPUID and MSRs of each logical CPU. CPUs
/// that offer the same are told once.
bool is_cpu_dump(std::string_view text);
std::vector<profiles::CpuProfile> parse_cpu_dump(const NamedText &file);

} // namespace minivmx::tool
