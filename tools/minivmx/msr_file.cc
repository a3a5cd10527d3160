// SPDX-License-Identifier: GPL-2.0-only
#include "msr_file.hpp"

#include "error.hpp"
#include "image.hpp"

#include <profiles.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <vector>

namespace minivmx::tool {
namespace {

constexpr std::string_view kBlank = " \t\r";

std::string_view trim(std::string_view text)
{
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::optional<u64> parse_hex(std::string_view text)
{
    if (text.starts_with("0x") || text.starts_with("0X"))
        text.remove_prefix(2);
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

/// Takes one line into `msrs`. Returns whether it was understood.
bool take_line(std::string_view line, VmxMsrs &msrs)
{
    line = trim(line.substr(0, line.find('#')));
    if (line.empty())
        return true;
    const std::size_t gap = std::min(line.find_first_of(" \t:="), line.size());
    const std::size_t rest = std::min(line.find_first_not_of(" \t:=", gap), line.size());
    const std::optional<u64> number = parse_hex(line.substr(0, gap));
    const std::string_view value_text = line.substr(rest);
    if (!number || *number > 0xffffffff)
        return false;
    if (value_text == "gp")
        return true;
    const std::optional<u64> value = parse_hex(value_text);
    if (!value)
        return false;
    msrs.set(static_cast<u32>(*number), *value);
    return true;
}

/// A host of which only the MSRs are known. All else is what a machine of today has.
HostDesc host_of_msrs(const std::string &path, const VmxMsrs &msrs)
{
    profiles::CpuProfile profile;
    profile.name = path;
    profile.cpu = path;
    profile.vendor = "GenuineIntel";
    profile.msr = msrs;
    return profile.host();
}

const profiles::CpuProfile &choose(const std::string &path,
                                   const std::vector<profiles::CpuProfile> &all,
                                   const std::string &name)
{
    if (all.empty())
        fail_usage("{}: there is no CPU in it", path);
    if (name.empty() && all.size() > 1)
        fail_usage("{}: there are {} CPUs in it; choose one with --cpu, like {}", path, all.size(),
                   all.front().name);
    const auto found = std::find_if(all.begin(), all.end(), [&](const profiles::CpuProfile &cpu) {
        return name.empty() || cpu.name == name;
    });
    if (found == all.end())
        fail_usage("--cpu: there is no '{}' in {}", name, path);
    return *found;
}

std::string lower(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return text;
}

/// Names of shipped CPUs that contain `part`, in their name or their brand string.
std::vector<std::string> similar_cpus(const std::string &part)
{
    constexpr std::size_t kMost = 8;
    std::vector<std::string> names;
    for (const profiles::CpuProfile &cpu : profiles::shipped_profiles())
        if (names.size() < kMost &&
            lower(cpu.name + " " + cpu.cpu).find(lower(part)) != std::string::npos)
            names.push_back(cpu.name);
    return names;
}

} // namespace

HostDesc parse_msr_lines(const std::string &path, std::string_view text)
{
    VmxMsrs msrs;
    unsigned number = 0;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        number++;
        if (!take_line(text.substr(0, end), msrs))
            fail_usage("{}:{}: expected an MSR's number and value in hexadecimal, got '{}'", path,
                       number, trim(text.substr(0, end)));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (!msrs.present(MSR_IA32_VMX_BASIC))
        fail_usage("{}: IA32_VMX_BASIC ({:#x}) is not in it", path, MSR_IA32_VMX_BASIC);
    return host_of_msrs(path, msrs);
}

HostDesc read_msr_file(const std::string &path, const std::string &name)
{
    constexpr std::uint64_t kMostBytes = 16 << 20;
    const std::vector<std::uint8_t> bytes = read_image(path, kMostBytes);
    const std::string text(bytes.begin(), bytes.end());
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string::npos || text[first] != '{') {
        if (!name.empty())
            fail_usage("--cpu: {} is a list of MSRs, which has no names", path);
        return parse_msr_lines(path, text);
    }
    std::vector<profiles::CpuProfile> all;
    try {
        all = profiles::parse_profiles(text, false);
    } catch (const std::exception &error) {
        fail_usage("{}: {}", path, error.what());
    }
    return choose(path, all, name).host();
}

HostDesc shipped_cpu(const std::string &name)
{
    if (const profiles::CpuProfile *found = profiles::find_profile(name))
        return found->host();
    const std::vector<std::string> similar = similar_cpus(name);
    if (similar.empty())
        fail_usage("--cpu: '{}' does not ship with minivmx", name);
    fail_usage("--cpu: '{}' does not ship with minivmx; did you mean {}?", name,
               fmt::join(similar, ", "));
}

} // namespace minivmx::tool
