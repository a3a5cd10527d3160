// SPDX-License-Identifier: GPL-2.0-only
#include "msr_file.hpp"

#include "cpu_search.hpp"
#include "error.hpp"
#include "image.hpp"
#include "nearest.hpp"

#include <cstdint>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;

std::vector<CpuProfile> parse_any(const NamedText &file)
{
    const std::size_t first = file.text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && (file.text[first] == '{' || file.text[first] == '['))
        return parse_msr_json(file);
    if (is_vmxcap(file.text))
        return {parse_vmxcap(file)};
    if (is_cpu_dump(file.text))
        return parse_cpu_dump(file);
    return {parse_msr_lines(file)};
}

CpuProfile choose(const std::string &path, const std::vector<CpuProfile> &all,
                  const std::string &name)
{
    std::vector<std::string> names;
    for (const CpuProfile &cpu : all) {
        names.push_back(cpu.name);
        if (lower_case(cpu.name) == lower_case(name))
            return cpu;
    }
    if (name.empty() && all.size() == 1)
        return all.front();
    if (name.empty())
        fail_usage("{}: there are {} CPUs in it; choose one with --cpu, like '{}'", path,
                   all.size(), all.front().name);
    fail_usage("--cpu: there is no '{}' in {}{}", name, path, did_you_mean(nearest(name, names)));
}

} // namespace

std::vector<CpuProfile> parse_msr_text(const std::string &path, std::string_view text)
{
    std::vector<CpuProfile> all = parse_any({path, text});
    if (all.empty())
        fail_usage("{}: expected the MSRs of a CPU, got none", path);
    for (const CpuProfile &cpu : all)
        if (!cpu.msr.present(MSR_IA32_VMX_BASIC))
            fail_usage("{}: expected IA32_VMX_BASIC ({:#x}) among the MSRs{}, but it is not there",
                       path, MSR_IA32_VMX_BASIC, all.size() > 1 ? " of " + cpu.name : "");
    return all;
}

CpuProfile read_msr_profile(const std::string &path, const std::string &name)
{
    constexpr std::uint64_t kMostBytes = 16 << 20;
    const std::vector<std::uint8_t> bytes =
        read_image(path == "-" ? "/dev/stdin" : path, kMostBytes);
    const std::string text(bytes.begin(), bytes.end());
    return choose(path, parse_msr_text(path, text), name);
}

HostDesc read_msr_file(const std::string &path, const std::string &name)
{
    return read_msr_profile(path, name).host();
}

HostDesc shipped_cpu(const std::string &name)
{
    return choose_cpu("--cpu", name).host();
}

} // namespace minivmx::tool
