// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/errata.hpp>

namespace minivmx {

namespace {

/// By CPUID.1:EAX without its reserved bits: some steppings only.
struct BrokenTimer {
    u32 signature;
    const char *erratum;
};
constexpr BrokenTimer kBrokenPreemptionTimers[] = {
    {0x000106a0, "AAM126, Xeon 3500 C0"},
    {0x000106a1, "AAM126, Xeon 3500 C1"},
    {0x000106a4, "AAJ124, Core i7-900 C0"},
    {0x000106a5, "AAM126, AAK139, AAJ124, Xeon 3500 and 5500, Core i7-900 D0"},
    {0x000106e5, "AAO95, AAN92, AAP86, Xeon 3400, Core i7-800 and i5-700 B1"},
    {0x00020652, "AAX65, AAT59, AAU65, Xeon L3406, Core i7-600 to i3-300 C2"},
    {0x00020655, "AAU65, Core i5-600 and i3-500 K0"},
    {0x000206e6, "BA86, Xeon 7500 D0"},
    {0x000306a8, "Xeon E3-1220 v2"},
};

} // namespace

const char *broken_preemption_timer_erratum(CpuSignature signature)
{
    for (const BrokenTimer &model : kBrokenPreemptionTimers) {
        if (signature.without_reserved() == model.signature)
            return model.erratum;
    }
    return nullptr;
}

const char *perf_global_ctrl_erratum(CpuSignature signature)
{
    if (signature.family() != 6)
        return nullptr;
    switch (signature.model()) {
    case 26:
        return "erratum AAK155, Nehalem-EP";
    case 30:
        return "erratum AAP115, Nehalem";
    case 37:
        return "erratum AAT100, Westmere";
    case 44:
        return "erratum BC86, AAY89, BD102, Westmere-EP";
    case 46:
        return "erratum BA97, Nehalem-EX";
    default:
        return nullptr;
    }
}

} // namespace minivmx
