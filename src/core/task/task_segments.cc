// SPDX-License-Identifier: GPL-2.0-only
// The segment registers of a task that begins: SDM Vol. 3A, 8.3, table 8-1 "Exception Conditions
// Checked During a Task Switch".
#include <minivmx/hardware.hpp>

#include "task.hpp"

namespace minivmx {

kvm_segment Descriptor::to_segment(u16 selector) const
{
    kvm_segment segment = {};
    segment.base = base();
    segment.limit = limit();
    segment.selector = selector;
    segment.type = type();
    segment.present = present();
    segment.dpl = dpl();
    segment.db = (raw & bit64(54)) != 0;
    segment.s = !system();
    segment.l = (raw & bit64(53)) != 0;
    segment.g = (raw & bit64(55)) != 0;
    segment.avl = (raw & bit64(52)) != 0;
    return segment;
}

namespace {

constexpr u8 kNoFault = 0xff; // no exception has this number

bool is_null(u16 selector)
{
    return (selector & ~kSelectorRpl) == 0;
}

u8 check_code(const Descriptor &d, u8 rpl)
{
    if (!d.code() || (d.conforming() ? d.dpl() > rpl : d.dpl() != rpl))
        return TS_VECTOR;
    return d.present() ? kNoFault : NP_VECTOR;
}

u8 check_stack(const Descriptor &d, u8 rpl, u8 cpl)
{
    if (!d.writable())
        return TS_VECTOR;
    if (!d.present())
        return SS_VECTOR;
    return d.dpl() == cpl && rpl == cpl ? kNoFault : TS_VECTOR;
}

u8 check_data(const Descriptor &d, u8 rpl, u8 cpl)
{
    if (!d.readable() || (!d.conforming() && (rpl > d.dpl() || cpl > d.dpl())))
        return TS_VECTOR;
    return d.present() ? kNoFault : NP_VECTOR;
}

// Which exception keeps the segment register from being loaded.
u8 check_segment(Segment which, const Descriptor &d, u8 rpl, u8 cpl)
{
    if (which == kCs)
        return check_code(d, rpl);
    return which == kSs ? check_stack(d, rpl, cpl) : check_data(d, rpl, cpl);
}

// "Accessed", in memory and in what is loaded: SDM Vol. 3A, 3.4.5.1.
bool mark_accessed(TaskSwitch &t, Descriptor &d)
{
    if (d.type() & kDescriptorAccessed)
        return true;
    SystemRange byte;
    bool was;
    d.raw |= u64{kDescriptorAccessed} << 8 * kDescriptorAccess;
    return find_range(t, d.linear + kDescriptorAccess, 1, true, byte) &&
           change_bit(t, byte.gpa[0], kDescriptorAccessed, true, was);
}

bool load_segment(TaskSwitch &t, Segment which, u16 selector, u8 cpl)
{
    if (is_null(selector))
        return (which != kCs && which != kSs) || refuse(t, TS_VECTOR, selector);
    Descriptor d;
    if (!read_descriptor(t, selector, TS_VECTOR, d))
        return false;
    const u8 vector = check_segment(which, d, selector & kSelectorRpl, cpl);
    if (vector != kNoFault)
        return refuse(t, vector, selector);
    if (!mark_accessed(t, d))
        return false;
    write_segment(t.vmx, which, d.to_segment(selector));
    return true;
}

bool load_ldt(TaskSwitch &t, u16 selector)
{
    if (is_null(selector))
        return true;
    Descriptor d;
    if (selector & kSelectorLocal)
        return refuse(t, TS_VECTOR, selector);
    if (!read_descriptor(t, selector, TS_VECTOR, d))
        return false;
    if (!d.system() || d.type() != AR_TYPE_LDT || !d.present())
        return refuse(t, TS_VECTOR, selector);
    write_segment(t.vmx, kLdtr, d.to_segment(selector));
    return true;
}

// The selectors are loaded before any descriptor, and a fault finds them there, but no segments. VM
// entry insists on a code segment, and on a CPL, which SS has: SDM Vol. 3C, 27.3.1.2. Nothing
// executes in this one: it is empty.
void unload_segments(vcpu_vmx &vmx, const TaskSegments &segments)
{
    const u8 cpl = segments.cpl();
    for (u32 i = 0; i < segments.count; i++) {
        kvm_segment nothing = {};
        nothing.selector = segments.selector[i];
        nothing.unusable = 1;
        if (i == kSs) {
            nothing.dpl = cpl;
            if (!hardware.params.unrestricted_guest)
                nothing.selector = static_cast<u16>((nothing.selector & ~kSelectorRpl) | cpl);
        }
        write_segment(vmx, static_cast<Segment>(i), nothing);
    }
    kvm_segment code = {};
    code.selector = segments.selector[kCs];
    code.type = 11; // executable, readable, accessed
    code.s = code.present = code.db = 1;
    code.dpl = cpl;
    write_segment(vmx, kCs, code);

    kvm_segment ldt = {};
    ldt.selector = segments.ldt;
    ldt.unusable = 1;
    write_segment(vmx, kLdtr, ldt);
}

// SDM Vol. 3B, 21.1.1 and 21.2.1: 64 KiB at 16 times the selector.
void load_vm86_segments(vcpu_vmx &vmx, const TaskSegments &segments)
{
    for (u32 i = 0; i < segments.count; i++) {
        kvm_segment segment = {};
        segment.selector = segments.selector[i];
        segment.base = u64{segment.selector} << 4;
        segment.limit = 0xffff;
        segment.type = 3; // data, writable, accessed
        segment.s = segment.present = 1;
        segment.dpl = 3;
        write_segment(vmx, static_cast<Segment>(i), segment);
    }
}

} // namespace

bool load_segments(TaskSwitch &t, const TaskSegments &segments)
{
    unload_segments(t.vmx, segments);
    if (segments.vm86) {
        load_vm86_segments(t.vmx, segments);
        return load_ldt(t, segments.ldt);
    }
    if (!load_ldt(t, segments.ldt))
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
