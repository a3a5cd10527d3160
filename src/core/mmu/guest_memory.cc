// SPDX-License-Identifier: GPL-2.0-only
// Guest-physical memory through the slots, and guest-linear memory through the guest's tables.
#include <minivmx/guest_memory.hpp>

#include <linux/errno.h>

#include <minivmx/dirty_log.hpp>
#include <minivmx/host.h>
#include <minivmx/memslot.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

void inject_fault(vcpu_vmx &vmx, const GuestFault &fault)
{
    if (fault.vector == PF_VECTOR)
        inject_page_fault(vmx, fault.address, fault.error_code);
    else if (fault.has_error_code)
        queue_exception(vmx, fault.vector, fault.error_code);
    else
        queue_exception(vmx, fault.vector);
}

// ---- Physical addresses -----------------------------------------------------

namespace {

// For whoever follows what is written: the dirty log, and shadow tables made from guest's tables.
void note_written(vcpu_vmx &vmx, const MemSlot &slot, u64 gpa, u64 size)
{
    mark_range_dirty(slot, gpa, size);
    for (u64 gfn = gpa >> kPageShift; gfn <= (gpa + size - 1) >> kPageShift; gfn++)
        shadow_note_write(*vmx.kvm, gfn);
}

// Calls copy(hva, done, n) for each part of [gpa, gpa + size) that lies in one slot; copy returns 0
// or an error.
template <class Copy>
MemoryResult for_each_part(vcpu_vmx &vmx, u64 gpa, u64 size, bool write, Copy copy)
{
    SlotsReader slots{vmx};
    for (u64 done = 0; done < size;) {
        const MemSlot *slot = slots.find((gpa + done) >> kPageShift);
        if (!slot || (write && slot->read_only()))
            return MemoryResult::kMmio;
        const u64 offset = gpa + done - (slot->base_gfn << kPageShift);
        const u64 room = (slot->npages << kPageShift) - offset;
        const u64 n = size - done < room ? size - done : room;
        const int error = copy(slot->hva + offset, done, n);
        if (write) // a part may be written even if not all could
            note_written(vmx, *slot, gpa + done, n);
        if (error != 0)
            return MemoryResult::kMmio;
        done += n;
    }
    return MemoryResult::kOk;
}

} // namespace

MemoryResult read_guest_phys(vcpu_vmx &vmx, u64 gpa, void *to, u64 size)
{
    u8 *bytes = static_cast<u8 *>(to);
    return for_each_part(vmx, gpa, size, false, [=](u64 hva, u64 done, u64 n) {
        return host_copy_from_user(bytes + done, hva, n);
    });
}

MemoryResult write_guest_phys(vcpu_vmx &vmx, u64 gpa, const void *from, u64 size)
{
    const u8 *bytes = static_cast<const u8 *>(from);
    return for_each_part(vmx, gpa, size, true, [=](u64 hva, u64 done, u64 n) {
        return host_copy_to_user(hva, bytes + done, n);
    });
}

MemoryResult cmpxchg_guest_phys(vcpu_vmx &vmx, u64 gpa, u64 &expected, u64 desired, u32 size,
                                bool &swapped)
{
    SlotsReader slots{vmx};
    const MemSlot *slot = slots.find(gpa >> kPageShift);
    if (!slot || slot->read_only())
        return MemoryResult::kMmio;
    const u64 hva = slot->hva_of_gfn(gpa >> kPageShift) + (gpa & (kPageSize - 1));
    const int result = host_cmpxchg_user(hva, &expected, desired, size);
    swapped = result == 0;
    if (swapped)
        note_written(vmx, *slot, gpa, size);
    return result == 0 || result == -EAGAIN ? MemoryResult::kOk : MemoryResult::kMmio;
}

// ---- Linear addresses -------------------------------------------------------

namespace {

u32 bytes_left_in_page(u64 address)
{
    return static_cast<u32>(kPageSize - (address & (kPageSize - 1)));
}

} // namespace

MemoryResult read_guest_virt(vcpu_vmx &vmx, const AddressState &state, u64 linear, void *to,
                             u32 size, Access access, GuestFault &fault)
{
    u8 *bytes = static_cast<u8 *>(to);
    for (u32 done = 0; done < size;) {
        const u64 address = advance_linear(state, linear, done);
        const u32 room = bytes_left_in_page(address);
        const u32 n = size - done < room ? size - done : room;
        u64 gpa;
        MemoryResult result = translate(vmx, state, address, access, gpa, fault);
        if (result == MemoryResult::kOk)
            result = read_guest_phys(vmx, gpa, bytes + done, n);
        if (result != MemoryResult::kOk)
            return result;
        done += n;
    }
    return MemoryResult::kOk;
}

MemoryResult write_guest_virt(vcpu_vmx &vmx, const AddressState &state, u64 linear,
                              const void *from, u32 size, GuestFault &fault)
{
    const Access access{.write = true};
    const u8 *bytes = static_cast<const u8 *>(from);
    const u32 room = bytes_left_in_page(linear);
    const u32 first = size < room ? size : room;
    u64 gpa;
    u64 second_gpa = 0;
    MemoryResult result = translate(vmx, state, linear, access, gpa, fault);
    if (result == MemoryResult::kOk && first < size)
        result =
            translate(vmx, state, advance_linear(state, linear, first), access, second_gpa, fault);
    if (result == MemoryResult::kOk)
        result = write_guest_phys(vmx, gpa, bytes, first);
    if (result == MemoryResult::kOk && first < size)
        result = write_guest_phys(vmx, second_gpa, bytes + first, size - first);
    return result;
}

} // namespace minivmx
