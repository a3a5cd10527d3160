// SPDX-License-Identifier: GPL-2.0-only
// Virtual-processor identifiers: they tag a vCPU's linear translations, so that no entry or exit
// has to flush them. SDM Vol. 3C, 29.1 "Virtual Processor Identifiers (VPIDs)". 0 is the host's.
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {
constexpr u32 kVpidCount = 1u << 16;
constinit u64 vpid_used[kVpidCount / 64] = {1};
} // namespace

u16 allocate_vpid()
{
    if (!hardware.params.vpid)
        return 0;
    for (u32 word = 0; word < kVpidCount / 64; word++) {
        u64 used = __atomic_load_n(&vpid_used[word], __ATOMIC_RELAXED);
        while (used != ~0ull) {
            const u64 free_bit = ~used & (used + 1);
            if (__atomic_compare_exchange_n(&vpid_used[word], &used, used | free_bit, false,
                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                return static_cast<u16>(word * 64 + lowest_bit(free_bit));
        }
    }
    return 0; // such a vCPU flushes at every entry and exit instead
}

void free_vpid(u16 vpid)
{
    if (vpid)
        __atomic_fetch_and(&vpid_used[vpid / 64], ~(1ull << vpid % 64), __ATOMIC_RELAXED);
}

} // namespace minivmx
