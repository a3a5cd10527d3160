// SPDX-License-Identifier: GPL-2.0-only
// Who may access ports: SDM Vol. 1, 19.5 "Protected-Mode I/O".
#include <minivmx/segment.hpp>

#include "../segmentation/system_access.hpp"
#include "emulator.hpp"

namespace minivmx {

namespace {

constexpr u32 kMapBase = 102; // where a TSS has the offset of its I/O permission bit map
constexpr unsigned kIoplShift = 12;

bool privileged(Emulation &e)
{
    const u64 flags = read_rflags(e.vmx);
    if (!e.state.protected_mode)
        return true;
    return !(flags & X86_EFLAGS_VM) && guest_cpl(e.vmx) <= (flags >> kIoplShift & 3);
}

// The bits of `size` ports are 0 in the map. Two bytes are read, whatever the port: 19.5.2.
bool map_allows(SystemAccess &s, const SegmentRegister &tss, u16 port, u32 size)
{
    constexpr u32 kTypeTss32 = 9, kTypeMask = 0xd; // busy or not
    constexpr u32 kMapBytes = 2;
    u16 base;
    u16 bits;
    if (tss.rights & AR_UNUSABLE || (tss.rights & kTypeMask) != kTypeTss32 ||
        tss.limit < kMapBase + sizeof(base) - 1)
        return refuse(s, GP_VECTOR, 0);
    if (!read_system(s, advance_linear(s.state, tss.base, kMapBase), &base, sizeof(base)))
        return false;
    const u32 at = base + port / 8u;
    if (at + kMapBytes - 1 > tss.limit)
        return refuse(s, GP_VECTOR, 0);
    if (!read_system(s, advance_linear(s.state, tss.base, at), &bits, kMapBytes))
        return false;
    return (bits >> port % 8 & ((1u << size) - 1)) == 0 || refuse(s, GP_VECTOR, 0);
}

} // namespace

bool port_allowed(Emulation &e, u16 port, u32 size)
{
    if (e.ports_allowed || privileged(e))
        return true;
    SystemAccess s{e.vmx};
    if (map_allows(s, read_segment_register(e.vmx, kTr), port, size))
        return true;
    if (s.not_memory)
        e.outcome = fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    else
        inject_fault(e.vmx, s.fault);
    return false;
}

} // namespace minivmx
