// SPDX-License-Identifier: GPL-2.0-only
// Segment registers between their two forms: KVM's struct kvm_segment and the VMCS's selector,
// base, limit and access rights. SDM Vol. 3C, 25.4.1, table 25-2 "Format of Access Rights".
#pragma once

#include <minivmx.h>

#include <minivmx/types.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// The access-rights word, bit by bit.
inline constexpr u32 AR_TYPE_MASK = 0xf, AR_S = 1u << 4, AR_DPL_SHIFT = 5,
                     AR_DPL_MASK = 3u << AR_DPL_SHIFT, AR_PRESENT = 1u << 7, AR_AVL = 1u << 12,
                     AR_L = 1u << 13, AR_DB = 1u << 14, AR_G = 1u << 15, AR_UNUSABLE = 1u << 16;
// Types of system descriptors: SDM Vol. 3A, 3.5, table 3-2.
inline constexpr u32 AR_TYPE_LDT = 2, AR_TYPE_BUSY_TSS = 11;

// A segment that isn't present counts as unusable: VM entry takes no other kind (SDM Vol.
// 3C, 27.3.1.2).
u32 segment_access_rights(const kvm_segment &segment);
// The other way; unusable segments come out not present.
void set_access_rights(kvm_segment &segment, u32 access_rights);

// The vCPU is loaded.
void read_segment(const vcpu_vmx &vmx, Segment which, kvm_segment &segment);
void write_segment(vcpu_vmx &vmx, Segment which, const kvm_segment &segment);

} // namespace minivmx
