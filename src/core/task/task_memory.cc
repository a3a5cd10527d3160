// SPDX-License-Identifier: GPL-2.0-only
// Descriptors and task states as the CPU accesses them in a task switch: with the supervisor's
// rights, whatever the CPL (SDM Vol. 3A, 4.6.1 "Determination of Access Rights").
#include "task.hpp"

namespace minivmx {

bool refuse(TaskSwitch &t, u8 vector, u16 selector)
{
    constexpr u32 kSelectorPart = 0xfffc, kExt = 1;
    t.fault = {vector, true, (selector & kSelectorPart) | (t.external ? kExt : 0), 0};
    return false;
}

namespace {

bool went_well(TaskSwitch &t, MemoryResult result)
{
    t.not_memory |= result == MemoryResult::kMmio;
    return result == MemoryResult::kOk;
}

} // namespace

bool find_range(TaskSwitch &t, u64 linear, u32 size, bool write, SystemRange &range)
{
    const Access access{.write = write, .implicit_supervisor = true};
    const u32 room = static_cast<u32>(kPageSize - (linear & (kPageSize - 1)));
    range = {{}, size < room ? size : room, size};
    if (!went_well(t, translate(t.vmx, t.state, linear, access, range.gpa[0], t.fault)))
        return false;
    return range.first == size ||
           went_well(t, translate(t.vmx, t.state, advance_linear(t.state, linear, range.first),
                                  access, range.gpa[1], t.fault));
}

bool read_range(TaskSwitch &t, const SystemRange &range, void *to)
{
    MemoryResult result = read_guest_phys(t.vmx, range.gpa[0], to, range.first);
    if (result == MemoryResult::kOk && range.first < range.size)
        result = read_guest_phys(t.vmx, range.gpa[1], static_cast<u8 *>(to) + range.first,
                                 range.size - range.first);
    return went_well(t, result);
}

bool write_range(TaskSwitch &t, const SystemRange &range, const void *from)
{
    MemoryResult result = write_guest_phys(t.vmx, range.gpa[0], from, range.first);
    if (result == MemoryResult::kOk && range.first < range.size)
        result = write_guest_phys(t.vmx, range.gpa[1], static_cast<const u8 *>(from) + range.first,
                                  range.size - range.first);
    return went_well(t, result);
}

bool read_system(TaskSwitch &t, u64 linear, void *to, u32 size)
{
    SystemRange range;
    return find_range(t, linear, size, false, range) && read_range(t, range, to);
}

bool change_bit(TaskSwitch &t, u64 gpa, u8 bit, bool set, bool &was)
{
    // A guest that keeps changing the byte on another vCPU must not keep this thread here.
    for (unsigned attempt = 0; attempt < 64; attempt++) {
        u8 byte;
        if (!went_well(t, read_guest_phys(t.vmx, gpa, &byte, 1)))
            return false;
        was = (byte & bit) != 0;
        if (was == set)
            return true;
        u64 expected = byte;
        bool swapped;
        if (!went_well(t, cmpxchg_guest_phys(t.vmx, gpa, expected, byte ^ bit, 1, swapped)))
            return false;
        if (swapped)
            return true;
    }
    t.not_memory = true;
    return false;
}

bool read_descriptor(TaskSwitch &t, u16 selector, u8 vector, Descriptor &descriptor)
{
    u64 table = vmcs_read(GUEST_GDTR_BASE);
    u32 limit = vmcs_read(GUEST_GDTR_LIMIT);
    if (selector & kSelectorLocal) {
        if (vmcs_read(GUEST_LDTR_AR_BYTES) & AR_UNUSABLE)
            return refuse(t, vector, selector);
        table = vmcs_read(GUEST_LDTR_BASE);
        limit = vmcs_read(GUEST_LDTR_LIMIT);
    }
    constexpr u32 kLastByte = 7;
    const u32 offset = selector & ~u32{kLastByte};
    if (offset + kLastByte > limit)
        return refuse(t, vector, selector);
    descriptor.linear = static_cast<u32>(table + offset);
    return read_system(t, descriptor.linear, &descriptor.raw, sizeof(descriptor.raw));
}

} // namespace minivmx
