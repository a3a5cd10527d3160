// SPDX-License-Identifier: GPL-2.0-only
//
// What kvm_intel of Linux 6.1 negotiates, and the control words it gives a fresh vCPU whose irqchip
// is in user space and whose CPUID was not set. Written from its behaviour with plain numbers, so
// that it shares nothing with the code under test.
#pragma once

#include <minivmx/vmcs_config.hpp>

namespace minivmx::test {

struct KvmWords {
    bool refused = false; ///< kvm_intel would not load
    u64 pin = 0, primary = 0, secondary = 0, tertiary = 0, exit = 0, entry = 0;
    u32 ept = 0, vpid = 0;
};

namespace kvm_61 {

inline bool adjust(u32 min, u32 opt, u64 msr, u64 *word)
{
    const u32 low = static_cast<u32>(msr), high = static_cast<u32>(msr >> 32);
    const u32 ctl = ((min | opt) & high) | low;
    *word = ctl;
    return (min & ~ctl) == 0;
}

/// The words of kvm_intel's vmcs_config, on a 64-bit host with error_on_inconsistent_vmcs_config.
inline KvmWords config(const HostDesc &host)
{
    const VmxMsrs &msr = host.msr;
    KvmWords w;
    w.refused = true;
    if (!adjust(0x21998e8c, 0xda621000, msr[0x482], &w.primary))
        return w;
    if ((w.primary & 0x80000000) != 0 && !adjust(0, 0xc71bffff, msr[0x48b], &w.secondary))
        return w;
    if ((w.primary & 0x00200000) == 0)
        w.secondary &= ~u64{0x310};
    w.ept = static_cast<u32>(msr[0x48c]);
    w.vpid = static_cast<u32>(msr[0x48c] >> 32);
    if (((w.secondary & 0x2) == 0 && w.ept != 0) || ((w.secondary & 0x20) == 0 && w.vpid != 0))
        return w;
    if (!host.has_sgx)
        w.secondary &= ~u64{0x8000};
    if ((w.primary & 0x20000) != 0)
        w.tertiary = msr[0x492] & 0x10;
    if (!adjust(0x8204, 0x3fc1000, msr[0x483], &w.exit) || !adjust(0x9, 0xe0, msr[0x481], &w.pin))
        return w;
    for (const u32 broken : {0x206e6u, 0x20652u, 0x20655u, 0x106e5u, 0x106a0u, 0x106a1u, 0x106a4u,
                             0x106a5u, 0x306a8u}) {
        if ((host.signature.raw & 0x0fff3fff) == broken)
            w.pin &= ~u64{0x40};
    }
    if ((w.secondary & 0x200) == 0)
        w.pin &= ~u64{0x80};
    if (!adjust(0x204, 0x7e000, msr[0x484], &w.entry))
        return w;
    const u32 pairs[][2] = {{0x2000, 0x1000},
                            {0x4000, 0x80000},
                            {0x8000, 0x200000},
                            {0x10000, 0x800000},
                            {0x40000, 0x2000000}};
    for (const auto &pair : pairs) {
        if (((w.entry & pair[0]) != 0) != ((w.exit & pair[1]) != 0))
            return w;
    }
    const u32 basic_high = static_cast<u32>(msr[0x480] >> 32);
    if ((basic_high & 0x1fff) > 4096 || (basic_high & 0x10000) != 0 ||
        ((basic_high >> 18) & 15) != 6)
        return w;
    w.refused = false;
    return w;
}

/// The module parameters as kvm_intel's hardware_setup() leaves them.
struct Knobs {
    bool vnmi, preemption_timer, ept, vpid, unrestricted_guest, flexpriority;
    u32 ple_gap;
};

inline Knobs knobs(const HostDesc &host, const KvmWords &w, const Parameters &asked)
{
    Knobs k{asked.vnmi,   asked.preemption_timer,   asked.ept,
            asked.vpid,   asked.unrestricted_guest, asked.flexpriority,
            asked.ple_gap};
    if ((w.secondary & 0x20) == 0 || (w.vpid & 1) == 0 || (w.vpid & 0x600) == 0)
        k.vpid = false;
    if ((w.secondary & 2) == 0 || (w.ept & 0x40) == 0 || (w.ept & 0x4000) == 0 ||
        (w.ept & 0x4000000) == 0)
        k.ept = false;
    if ((w.secondary & 0x80) == 0 || !k.ept)
        k.unrestricted_guest = false;
    if ((w.primary & 0x200000) == 0 || (w.secondary & 1) == 0)
        k.flexpriority = false;
    if ((w.pin & 0x20) == 0 || (w.primary & 0x400000) == 0)
        k.vnmi = false;
    if ((w.secondary & 0x400) == 0)
        k.ple_gap = 0;
    if ((w.pin & 0x40) == 0)
        k.preemption_timer = false;
    u64 frequency = host.tsc_khz != 0 ? u64{host.tsc_khz} * 1000 : 5000000000;
    frequency >>= host.msr[0x485] & 0x1f;
    if (frequency > 429496729)
        k.preemption_timer = false;
    return k;
}

/// The words of a fresh vCPU. `disabled_exits` is KVM_CAP_X86_DISABLE_EXITS's mask.
inline KvmWords vcpu(const HostDesc &host, const Parameters &asked, u32 disabled_exits)
{
    KvmWords w = config(host);
    const Knobs k = knobs(host, w, asked);

    w.pin &= ~u64{0x80};
    if (!k.vnmi)
        w.pin &= ~u64{0x20};
    if (!k.preemption_timer)
        w.pin &= ~u64{0x40};

    w.primary &= ~u64{0x1000 | 0x2000000 | 0x8000000 | 0x40000000 | 0x4 | 0x400000};
    w.primary &= ~u64{0x200000};
    w.primary |= 0x180000;
    if (k.ept)
        w.primary &= ~u64{0x18200};
    if ((disabled_exits & 1) != 0)
        w.primary &= ~u64{0x20000400};
    if ((disabled_exits & 2) != 0)
        w.primary &= ~u64{0x80};

    w.secondary &= ~u64{0x1000000 | 0x80000 | 0x1 | 0x300 | 0x10 | 0x4 | 0x4000 | 0x20000};
    w.secondary &= ~u64{0x40000000 | 0x80000000};
    w.secondary &= ~u64{0x100000 | 0x8 | 0x1000 | 0x4000000}; // no XSAVES, RDTSCP, INVPCID, WAITPKG
    if (!k.vpid)
        w.secondary &= ~u64{0x20};
    if (!k.ept)
        w.secondary &= ~u64{0x2};
    if (!k.unrestricted_guest)
        w.secondary &= ~u64{0x80};
    if ((disabled_exits & 4) != 0 || k.ple_gap == 0)
        w.secondary &= ~u64{0x400};
    if ((w.primary & 0x80000000) == 0)
        w.secondary = 0;

    w.exit &= ~u64{0x40000 | 0x100000 | 0x400000 | 0x1000000 | 0x2000000 | 0x1000 | 0x200000};
    w.entry &= ~u64{0x20000 | 0x40000 | 0x2000 | 0x8000 | 0x200};
    return w;
}

} // namespace kvm_61

} // namespace minivmx::test
