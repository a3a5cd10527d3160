// SPDX-License-Identifier: GPL-2.0-only
//
// Which combinations of parameters, disabled exits and CPUID are compared.
#include <cstdio>
#include <map>

#include "controls.hpp"

namespace {

// The binary options: parameters switched off, exits disabled, CPUID set.
constexpr const char *kParams[] = {"vnmi=0", "preemption_timer=0",   "ept=0",
                                   "vpid=0", "unrestricted_guest=0", "flexpriority=0"};
constexpr unsigned kParamCount = 6, kExitCount = 4, kOptions = kParamCount + kExitCount + 1;

Row row_of(unsigned options)
{
    Row row;
    for (unsigned i = 0; i < kParamCount; i++)
        if (options >> i & 1)
            row.params += (row.params.empty() ? "" : ",") + std::string(kParams[i]);
    if (row.params.empty())
        row.params = "default";
    row.exits = options >> kParamCount & 15;
    row.cpuid = options >> (kParamCount + kExitCount) & 1;
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
    return cpuid ? text + " cpuid" : text;
}

int print_plan(bool full)
{
    std::map<std::string, std::vector<Row>> sets;
    for (unsigned options = 0; options < 1u << kOptions; options++)
        if (full || __builtin_popcount(options) <= 2) {
            Row row = row_of(options);
            sets[row.params].push_back(row);
        }
    for (const auto &[params, rows] : sets) {
        printf("%s", params.c_str());
        for (const Row &row : rows)
            printf(" %u:%u", row.exits, row.cpuid);
        printf("\n");
    }
    return 0;
}
