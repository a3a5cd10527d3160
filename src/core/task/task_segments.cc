// SPDX-License-Identifier: GPL-2.0-only
// The segment registers of a task that begins: SDM Vol. 3A, 8.3, table 8-1 "Exception Conditions
// Checked During a Task Switch".
#include <minivmx/hardware.hpp>

#include "../segmentation/load.hpp"
#include "task.hpp"

namespace minivmx {

namespace {

// In the order of table 8-1, which isn't that of MOV.
u8 check_stack_of_task(const Descriptor &d, u8 rpl, u8 cpl)
{
    if (!d.writable())
        return TS_VECTOR;
    if (!d.present())
        return SS_VECTOR;
    return d.dpl() == cpl && rpl == cpl ? kNoFault : TS_VECTOR;
}

// Which exception keeps the segment register from being loaded.
u8 check_segment(Segment which, const Descriptor &d, u8 rpl, u8 cpl)
{
    if (which == kCs)
        return check_return_code(d, rpl, TS_VECTOR);
    return which == kSs ? check_stack_of_task(d, rpl, cpl) : check_data(d, rpl, cpl, TS_VECTOR);
}

bool load_segment(TaskSwitch &t, Segment which, u16 selector, u8 cpl)
{
    if (is_null_selector(selector))
        return (which != kCs && which != kSs) || refuse(t, TS_VECTOR, selector);
    Descriptor d;
    if (!read_descriptor(t, selector, TS_VECTOR, d))
        return false;
    const u8 vector = check_segment(which, d, selector & kSelectorRpl, cpl);
    if (vector != kNoFault)
        return refuse(t, vector, selector);
    if (!mark_accessed(t, d))
        return false;
    write_segment_register(t.vmx, which, d.to_register(selector));
    return true;
}

// The selectors are loaded before any descriptor, and a fault finds them there, but no segments. VM
// entry insists on a code segment, and on a CPL, which SS has: SDM Vol. 3C, 27.3.1.2. Nothing
// executes in this one: it is empty.
void unload_segments(vcpu_vmx &vmx, const TaskSegments &segments)
{
    const u8 cpl = segments.cpl();
    for (u32 i = 0; i < segments.count; i++) {
        SegmentRegister nothing = null_segment(segments.selector[i], i == kSs ? cpl : u8{0});
        if (i == kSs && !hardware.params.unrestricted_guest &&
            !hardware.params.emulate_invalid_guest_state)
            nothing.selector = static_cast<u16>((nothing.selector & ~kSelectorRpl) | cpl);
        write_segment_register(vmx, static_cast<Segment>(i), nothing);
    }
    write_segment_register(
        vmx, kCs,
        {.base = 0,
         .limit = 0,
         .rights = AR_TYPE_READABLE_CODE | AR_S | AR_PRESENT | AR_DB | u32{cpl} << AR_DPL_SHIFT,
         .selector = segments.selector[kCs]});
    write_segment_register(vmx, kLdtr, null_segment(segments.ldt));
}

} // namespace

bool load_segments(TaskSwitch &t, const TaskSegments &segments)
{
    unload_segments(t.vmx, segments);
    if (segments.vm86) {
        for (u32 i = 0; i < segments.count; i++)
            write_segment_register(t.vmx, static_cast<Segment>(i),
                                   vm86_segment(segments.selector[i]));
        return load_ldt(t, segments.ldt, TS_VECTOR, TS_VECTOR);
    }
    if (!load_ldt(t, segments.ldt, TS_VECTOR, TS_VECTOR))
        return false;
    // The code segment first: it decides over the CPL.
    constexpr Segment kOrder[] = {kCs, kSs, kDs, kEs, kFs, kGs};
    for (const Segment which : kOrder)
        if (which < segments.count &&
            !load_segment(t, which, segments.selector[which], segments.cpl()))
            return false;
    return true;
}

} // namespace minivmx
