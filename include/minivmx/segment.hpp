// SPDX-License-Identifier: GPL-2.0-only
// Segment registers between their two forms: KVM's struct kvm_segment and the VMCS's selector,
// base, limit and access rights.
#pragma once

#include <minivmx.h>

#include <minivmx/access_rights.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// A segment that isn't present counts as unusable: VM entry takes no other kind (SDM Vol.
// 3C, 27.3.1.2).
u32 segment_access_rights(const kvm_segment &segment);
// The other way; unusable segments come out not present.
void set_access_rights(kvm_segment &segment, u32 access_rights);

// ----- The guest's segment registers -------------------------------------------------------------
//
// Everything that reads or writes them goes through here: in virtual-8086 mode that stands in for
// real mode the VMCS has what VM entry wants, not what the guest has. The vCPU is loaded.

inline bool hides_segment(const vcpu_vmx &vmx, Segment which)
{
    return vmx.vm86_active && which != kLdtr;
}
// What the guest has there then.
SegmentRegister hidden_segment(const vcpu_vmx &vmx, Segment which);

inline u16 segment_selector(const vcpu_vmx &vmx, Segment which)
{
    return hides_segment(vmx, which) ? hidden_segment(vmx, which).selector
                                     : vmcs_read(GUEST_ES_SELECTOR + which);
}
inline u64 segment_base(const vcpu_vmx &vmx, Segment which)
{
    return hides_segment(vmx, which) ? hidden_segment(vmx, which).base
                                     : vmcs_read(GUEST_ES_BASE + which);
}
inline u32 segment_limit(const vcpu_vmx &vmx, Segment which)
{
    return hides_segment(vmx, which) ? hidden_segment(vmx, which).limit
                                     : vmcs_read(GUEST_ES_LIMIT + which);
}
inline u32 segment_rights(const vcpu_vmx &vmx, Segment which)
{
    return hides_segment(vmx, which) ? hidden_segment(vmx, which).rights
                                     : vmcs_read(GUEST_ES_AR_BYTES + which);
}

// What the CPU has there.
void write_vmcs_segment(Segment which, const SegmentRegister &segment);

SegmentRegister read_segment_register(const vcpu_vmx &vmx, Segment which);
void write_segment_register(vcpu_vmx &vmx, Segment which, const SegmentRegister &segment);
void write_segment_base(vcpu_vmx &vmx, Segment which, u64 base);
void write_segment_rights(vcpu_vmx &vmx, Segment which, u32 rights);
// What loading a selector does in real and in virtual-8086 mode, where there is no descriptor: the
// base is 16 times the selector; limit and rights stay what they are, which is what "big real mode"
// lives on. SDM Vol. 3B, 21.1.1; Vol. 3A, 10.9.2.
void load_real_mode_segment(vcpu_vmx &vmx, Segment which, u16 selector);

void read_segment(const vcpu_vmx &vmx, Segment which, kvm_segment &segment);
void write_segment(vcpu_vmx &vmx, Segment which, const kvm_segment &segment);

} // namespace minivmx
