// SPDX-License-Identifier: GPL-2.0-only
#include "system_access.hpp"

#include <minivmx/segment.hpp>

namespace minivmx {

bool refuse(SystemAccess &s, u8 vector, u16 selector)
{
    constexpr u32 kSelectorPart = 0xfffc, kExt = 1;
    s.fault = {vector, true, (selector & kSelectorPart) | (s.external ? kExt : 0), 0};
    return false;
}

// ---- Memory -----------------------------------------------------------------

namespace {

bool went_well(SystemAccess &s, MemoryResult result)
{
    s.not_memory |= result == MemoryResult::kMmio;
    return result == MemoryResult::kOk;
}

} // namespace

bool find_range_as(SystemAccess &s, const AddressState &state, u64 linear, u32 size, Access access,
                   SystemRange &range)
{
    const u32 room = static_cast<u32>(kPageSize - (linear & (kPageSize - 1)));
    range = {{}, size < room ? size : room, size};
    if (!went_well(s, translate(s.vmx, state, linear, access, range.gpa[0], s.fault)))
        return false;
    return range.first == size ||
           went_well(s, translate(s.vmx, state, advance_linear(state, linear, range.first), access,
                                  range.gpa[1], s.fault));
}

bool find_range(SystemAccess &s, u64 linear, u32 size, bool write, SystemRange &range)
{
    return find_range_as(s, s.state, linear, size, {.write = write, .implicit_supervisor = true},
                         range);
}

bool read_range(SystemAccess &s, const SystemRange &range, void *to)
{
    MemoryResult result = read_guest_phys(s.vmx, range.gpa[0], to, range.first);
    if (result == MemoryResult::kOk && range.first < range.size)
        result = read_guest_phys(s.vmx, range.gpa[1], static_cast<u8 *>(to) + range.first,
                                 range.size - range.first);
    return went_well(s, result);
}

bool write_range(SystemAccess &s, const SystemRange &range, const void *from)
{
    MemoryResult result = write_guest_phys(s.vmx, range.gpa[0], from, range.first);
    if (result == MemoryResult::kOk && range.first < range.size)
        result = write_guest_phys(s.vmx, range.gpa[1], static_cast<const u8 *>(from) + range.first,
                                  range.size - range.first);
    return went_well(s, result);
}

bool read_system(SystemAccess &s, u64 linear, void *to, u32 size)
{
    SystemRange range;
    return find_range(s, linear, size, false, range) && read_range(s, range, to);
}

bool change_bit(SystemAccess &s, u64 gpa, u8 bit, bool set, bool &was)
{
    // A guest that keeps changing the byte on another vCPU must not keep this thread here.
    for (unsigned attempt = 0; attempt < 64; attempt++) {
        u8 byte;
        if (!went_well(s, read_guest_phys(s.vmx, gpa, &byte, 1)))
            return false;
        was = (byte & bit) != 0;
        if (was == set)
            return true;
        u64 expected = byte;
        bool swapped;
        if (!went_well(s, cmpxchg_guest_phys(s.vmx, gpa, expected, byte ^ bit, 1, swapped)))
            return false;
        if (swapped)
            return true;
    }
    s.not_memory = true;
    return false;
}

// ---- Descriptors ------------------------------------------------------------

namespace {

struct Table {
    u64 base;
    u32 limit;
};

// False: there is no LDT.
bool table_of(SystemAccess &s, u16 selector, Table &table)
{
    if (!(selector & kSelectorLocal)) {
        table = {vmcs_read(GUEST_GDTR_BASE), vmcs_read(GUEST_GDTR_LIMIT)};
        return true;
    }
    table = {segment_base(s.vmx, kLdtr), segment_limit(s.vmx, kLdtr)};
    return !(segment_rights(s.vmx, kLdtr) & AR_UNUSABLE);
}

// The eight bytes at this offset of the selector's entry.
bool read_half(SystemAccess &s, u16 selector, u32 offset, u8 vector, u64 &linear, u64 &raw)
{
    constexpr u32 kLastByte = 7;
    Table table;
    offset += selector & ~u32{kLastByte};
    if (!table_of(s, selector, table) || offset + kLastByte > table.limit)
        return refuse(s, vector, selector);
    linear = advance_linear(s.state, table.base, offset);
    return read_system(s, linear, &raw, sizeof(raw));
}

} // namespace

bool read_descriptor(SystemAccess &s, u16 selector, u8 vector, Descriptor &descriptor)
{
    descriptor.high = 0;
    return read_half(s, selector, 0, vector, descriptor.linear, descriptor.raw);
}

bool read_upper_half(SystemAccess &s, u16 selector, u8 vector, Descriptor &descriptor)
{
    constexpr u64 kMustBeZero = u64{0x1f} << 40; // where a type would be
    u64 linear;
    if (!s.state.long_mode)
        return true;
    return read_half(s, selector, 8, vector, linear, descriptor.high) &&
           ((descriptor.high & kMustBeZero) == 0 || refuse(s, vector, selector));
}

bool find_access_byte(SystemAccess &s, const Descriptor &descriptor, u64 &gpa)
{
    SystemRange byte;
    if (!find_range(s, advance_linear(s.state, descriptor.linear, kDescriptorAccess), 1, true,
                    byte))
        return false;
    gpa = byte.gpa[0];
    return true;
}

bool mark_accessed(SystemAccess &s, Descriptor &descriptor)
{
    if (descriptor.type() & kDescriptorAccessed)
        return true;
    u64 gpa;
    bool was;
    descriptor.raw |= u64{kDescriptorAccessed} << 8 * kDescriptorAccess;
    return find_access_byte(s, descriptor, gpa) &&
           change_bit(s, gpa, kDescriptorAccessed, true, was);
}

} // namespace minivmx
