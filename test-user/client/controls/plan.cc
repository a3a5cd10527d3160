// SPDX-License-Identifier: GPL-2.0-only
//
// Which combinations of parameters, disabled exits and CPUID are compared.
#include <cstdio>
#include <map>
#include <set>

#include "controls.hpp"

namespace {

// The binary options: parameters switched off, exits disabled, CPUID set, CREATE_IRQCHIP, x2APIC
// mode. The last needs CPUID and the APIC in the kernel, and brings them along.
constexpr const char *kParams[] = {"vnmi=0", "preemption_timer=0",   "ept=0",
                                   "vpid=0", "unrestricted_guest=0", "flexpriority=0"};
constexpr unsigned kParamCount = 6, kExitCount = 4, kCpuid = kParamCount + kExitCount,
                   kIrqchip = kCpuid + 1, kX2apicMode = kIrqchip + 1, kOptions = kX2apicMode + 1;

Row row_of(unsigned options)
{
    Row row;
    for (unsigned i = 0; i < kParamCount; i++)
        if (options >> i & 1)
            row.params += (row.params.empty() ? "" : ",") + std::string(kParams[i]);
    if (row.params.empty())
        row.params = "default";
    row.exits = options >> kParamCount & 15;
    const bool x2apic = options >> kX2apicMode & 1;
    row.cpuid = x2apic || (options >> kCpuid & 1);
    row.apic = x2apic ? Apic::kX2apic : options >> kIrqchip & 1 ? Apic::kXapic : Apic::kUserSpace;
    return row;
}

} // namespace

std::string Row::name() const
{
    static const char *const kExits[] = {"mwait", "hlt", "pause", "cstate"};
    std::string text = params;
    for (unsigned i = 0; i < kExitCount; i++)
        if (exits >> i & 1)
            text += std::string(" no-") + kExits[i] + "-exits";
    if (cpuid)
        text += " cpuid";
    static const char *const kApics[] = {"", " irqchip", " irqchip-x2apic"};
    return text + kApics[static_cast<unsigned>(apic)];
}

int print_plan(bool full)
{
    std::map<std::string, std::set<Row>> sets;
    for (unsigned options = 0; options < 1u << kOptions; options++)
        if (full || __builtin_popcount(options) <= 2) {
            Row row = row_of(options);
            sets[row.params].insert(row);
        }
    for (const auto &[params, rows] : sets) {
        printf("%s", params.c_str());
        for (const Row &row : rows)
            printf(" %u:%u:%u", row.exits, row.cpuid, static_cast<unsigned>(row.apic));
        printf("\n");
    }
    return 0;
}
