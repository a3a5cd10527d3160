// SPDX-License-Identifier: GPL-2.0-only
#include "error.hpp"
#include "nearest.hpp"
#include "text_lines.hpp"
#include "what_if.hpp"

#include <algorithm>
#include <span>

namespace minivmx::tool {
namespace {

struct Switch {
    const char *name;
    bool VcpuChoice::*member;
};
constexpr Switch kExits[] = {
    {"hlt", &VcpuChoice::hlt},
    {"mwait", &VcpuChoice::mwait},
    {"pause", &VcpuChoice::pause},
};
constexpr Switch kFeatures[] = {
    {"xsaves", &VcpuChoice::xsaves},   {"rdtscp", &VcpuChoice::rdtscp},
    {"rdpid", &VcpuChoice::rdpid},     {"invpcid", &VcpuChoice::invpcid},
    {"rdrand", &VcpuChoice::rdrand},   {"rdseed", &VcpuChoice::rdseed},
    {"waitpkg", &VcpuChoice::waitpkg},
};

void set_all(std::span<const Switch> switches, bool to, VcpuChoice &choice)
{
    for (const Switch &one : switches)
        choice.*one.member = to;
}

void set_one(const std::string &option, const std::string &name, std::span<const Switch> switches,
             VcpuChoice &choice)
{
    const auto found = std::find_if(switches.begin(), switches.end(),
                                    [&](const Switch &one) { return name == one.name; });
    if (found != switches.end()) {
        choice.*found->member = true;
        return;
    }
    std::vector<std::string> names;
    for (const Switch &one : switches)
        names.emplace_back(one.name);
    fail_usage("{}: expected {}, all or none, got {}", option, fmt::join(names, ", "),
               in_quotes(name));
}

void set_list(const std::string &option, const std::string &list, std::span<const Switch> switches,
              VcpuChoice &choice)
{
    for (const std::string_view word : split(list, ", ")) {
        const std::string name = lower_case(word);
        if (name == "all" || name == "none")
            set_all(switches, name == "all", choice);
        else
            set_one(option, name, switches, choice);
    }
}

} // namespace

void set_disabled_exits(const std::string &option, const std::string &list, VcpuChoice &choice)
{
    set_list(option, list, kExits, choice);
}

void set_guest_cpuid(const std::string &option, const std::string &list, VcpuChoice &choice)
{
    set_list(option, list, kFeatures, choice);
}

} // namespace minivmx::tool
