// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/hardware.hpp>
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

void read_segment(const vcpu_vmx &, Segment which, kvm_segment &segment)
{
    segment = {};
    segment.base = vmcs_read(GUEST_ES_BASE + which);
    segment.limit = vmcs_read(GUEST_ES_LIMIT + which);
    segment.selector = vmcs_read(GUEST_ES_SELECTOR + which);
    set_access_rights(segment, vmcs_read(GUEST_ES_AR_BYTES + which));
}

void write_segment(vcpu_vmx &, Segment which, const kvm_segment &segment)
{
    u32 rights = segment_access_rights(segment);
    // Loading a segment register sets "accessed" (SDM Vol. 3A, 3.4.5.1), and VM entry insists on it
    // (SDM Vol. 3C, 27.3.1.2). Old clients reset their vCPUs without; KVM forgives them where real
    // mode runs directly, so do we.
    if (hardware.params.unrestricted_guest && which != kLdtr)
        rights |= 1;
    vmcs_write(GUEST_ES_BASE + which, segment.base);
    vmcs_write(GUEST_ES_LIMIT + which, segment.limit);
    vmcs_write(GUEST_ES_SELECTOR + which, segment.selector);
    vmcs_write(GUEST_ES_AR_BYTES + which, rights);
}

} // namespace minivmx
