// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/hardware.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/segment.hpp>

namespace minivmx {

u32 segment_access_rights(const kvm_segment &segment)
{
    u32 rights = segment.type & AR_TYPE_MASK;
    rights |= (segment.s & 1u) << 4;
    rights |= (segment.dpl & 3u) << AR_DPL_SHIFT;
    rights |= (segment.present & 1u) << 7;
    rights |= (segment.avl & 1u) << 12;
    rights |= (segment.l & 1u) << 13;
    rights |= (segment.db & 1u) << 14;
    rights |= (segment.g & 1u) << 15;
    if (segment.unusable || !segment.present)
        rights |= AR_UNUSABLE;
    return rights;
}

void set_access_rights(kvm_segment &segment, u32 access_rights)
{
    segment.type = access_rights & AR_TYPE_MASK;
    segment.s = (access_rights & AR_S) != 0;
    segment.dpl = (access_rights & AR_DPL_MASK) >> AR_DPL_SHIFT;
    segment.avl = (access_rights & AR_AVL) != 0;
    segment.l = (access_rights & AR_L) != 0;
    segment.db = (access_rights & AR_DB) != 0;
    segment.g = (access_rights & AR_G) != 0;
    segment.unusable = (access_rights & AR_UNUSABLE) != 0;
    // Clients that don't carry `unusable` around lose nothing: usable segments are always present.
    segment.present = !segment.unusable;
}

namespace {

SegmentRegister vmcs_segment(Segment which)
{
    return {.base = vmcs_read(GUEST_ES_BASE + which),
            .limit = vmcs_read(GUEST_ES_LIMIT + which),
            .rights = vmcs_read(GUEST_ES_AR_BYTES + which),
            .selector = vmcs_read(GUEST_ES_SELECTOR + which)};
}

} // namespace

void write_vmcs_segment(Segment which, const SegmentRegister &segment)
{
    vmcs_write(GUEST_ES_BASE + which, segment.base);
    vmcs_write(GUEST_ES_LIMIT + which, segment.limit);
    vmcs_write(GUEST_ES_SELECTOR + which, segment.selector);
    vmcs_write(GUEST_ES_AR_BYTES + which, segment.rights);
}

SegmentRegister hidden_segment(const vcpu_vmx &vmx, Segment which)
{
    SegmentRegister segment = vmx.rmode.segments[which];
    if (which == kTr)
        return segment; // LTR faults in virtual-8086 mode
    const u16 selector = vmcs_read(GUEST_ES_SELECTOR + which);
    if (selector != segment.selector) {
        segment.selector = selector;
        segment.base = vmcs_read(GUEST_ES_BASE + which);
    }
    return segment;
}

SegmentRegister read_segment_register(const vcpu_vmx &vmx, Segment which)
{
    return hides_segment(vmx, which) ? hidden_segment(vmx, which) : vmcs_segment(which);
}

void write_segment_register(vcpu_vmx &vmx, Segment which, const SegmentRegister &segment)
{
    vmx.check_state = true;
    if (hides_segment(vmx, which)) {
        vmx.rmode.segments[which] = segment;
        write_virtual_8086_segment(vmx, which);
        return;
    }
    write_vmcs_segment(which, segment);
}

void write_segment_base(vcpu_vmx &vmx, Segment which, u64 base)
{
    SegmentRegister segment = read_segment_register(vmx, which);
    segment.base = base;
    write_segment_register(vmx, which, segment);
}

void write_segment_rights(vcpu_vmx &vmx, Segment which, u32 rights)
{
    SegmentRegister segment = read_segment_register(vmx, which);
    segment.rights = rights;
    write_segment_register(vmx, which, segment);
}

void load_real_mode_segment(vcpu_vmx &vmx, Segment which, u16 selector)
{
    // What a null selector has left behind in protected mode is a segment again.
    constexpr u32 kDataRights = 3 | AR_S | AR_PRESENT;
    SegmentRegister segment = read_segment_register(vmx, which);
    segment.selector = selector;
    segment.base = real_mode_base(selector);
    if (segment.rights & AR_UNUSABLE)
        segment.rights = kDataRights;
    write_segment_register(vmx, which, segment);
}

void read_segment(const vcpu_vmx &vmx, Segment which, kvm_segment &segment)
{
    const SegmentRegister reg = read_segment_register(vmx, which);
    segment = {};
    segment.base = reg.base;
    segment.limit = reg.limit;
    segment.selector = reg.selector;
    set_access_rights(segment, reg.rights);
}

void write_segment(vcpu_vmx &vmx, Segment which, const kvm_segment &segment)
{
    u32 rights = segment_access_rights(segment);
    // Loading a segment register sets "accessed" (SDM Vol. 3A, 3.4.5.1), and VM entry insists on it
    // (SDM Vol. 3C, 27.3.1.2). Old clients reset their vCPUs without; KVM forgives them where real
    // mode runs directly, so do we.
    if (hardware.params.unrestricted_guest && which != kLdtr)
        rights |= 1;
    write_segment_register(vmx, which,
                           {.base = segment.base,
                            .limit = segment.limit,
                            .rights = rights,
                            .selector = segment.selector});
}

} // namespace minivmx
