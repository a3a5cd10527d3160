// SPDX-License-Identifier: GPL-2.0-only
// Segment-relative addresses and what protects them.
#include <minivmx/guest_memory.hpp>

#include <minivmx/segment.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

MemoryResult segment_fault(u8 segment, GuestFault &fault)
{
    fault = {segment == kSs ? u8{SS_VECTOR} : u8{GP_VECTOR}, true, 0, 0};
    return MemoryResult::kFault;
}

bool is_canonical(u64 address)
{
    constexpr unsigned kUnusedBits = 64 - 48;
    return static_cast<u64>(static_cast<s64>(address << kUnusedBits) >> kUnusedBits) == address;
}

// Type checks: SDM Vol. 3A, 5.5 "Type Checking". Real mode makes none, but a segment keeps what it
// was loaded with in protected mode; code segments count as writable there.
bool type_allows(AccessRights rights, Access access, bool real_mode)
{
    if (!rights.usable())
        return false;
    if (access.fetch)
        return true;
    if (access.write)
        return rights.writable() || (real_mode && (rights.word & AR_TYPE_READABLE) != 0);
    return rights.readable();
}

// Limit checks: SDM Vol. 3A, 5.3 "Limit Checking". An expand-down segment holds what lies above its
// limit.
bool within_limit(AccessRights rights, u32 limit, u64 offset, u32 size)
{
    const u64 last = offset + size - 1;
    if (!rights.expand_down())
        return last <= limit;
    const u64 top = rights.big() ? 0xffffffff : 0xffff;
    return offset > limit && last <= top;
}

// 64-bit mode: only FS and GS have a base, and nothing has a limit. SDM Vol. 1, 3.4.2.1.
MemoryResult linear_of_64(u8 segment, u64 base, u64 offset, u32 size, u64 &linear,
                          GuestFault &fault)
{
    linear = offset + base;
    if (!is_canonical(linear) || !is_canonical(linear + size - 1))
        return segment_fault(segment, fault);
    return MemoryResult::kOk;
}

} // namespace

MemoryResult register_to_linear(const AddressState &state, u8 segment, const SegmentRegister &reg,
                                u64 offset, u32 size, Access access, u64 &linear, GuestFault &fault)
{
    if (state.code_64)
        return linear_of_64(segment, segment >= kFs ? reg.base : 0, offset, size, linear, fault);
    const AccessRights rights{reg.rights};
    if (!type_allows(rights, access, !state.protected_mode) ||
        !within_limit(rights, reg.limit, offset, size))
        return segment_fault(segment, fault);
    linear = static_cast<u32>(reg.base + offset);
    return MemoryResult::kOk;
}

MemoryResult segment_to_linear(const vcpu_vmx &vmx, const AddressState &state, u8 segment,
                               u64 offset, u32 size, Access access, u64 &linear, GuestFault &fault)
{
    const Segment which = static_cast<Segment>(segment);
    SegmentRegister reg{};
    if (!state.code_64 || segment >= kFs)
        reg.base = segment_base(vmx, which);
    if (!state.code_64) {
        reg.limit = segment_limit(vmx, which);
        reg.rights = which == kCs ? state.cs_rights : segment_rights(vmx, which);
    }
    return register_to_linear(state, segment, reg, offset, size, access, linear, fault);
}

} // namespace minivmx
