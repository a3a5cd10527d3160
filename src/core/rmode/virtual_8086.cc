// SPDX-License-Identifier: GPL-2.0-only
// Real mode in virtual-8086 mode: into it, out of it, and the segments in between. SDM Vol.
// 3B, 21.2.
#include <minivmx/hardware.hpp>
#include <minivmx/private_pages.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

constexpr u32 kSegmentCount = kTr + 1;

// The client prefers a wrong segment to emulation: emulate_invalid_guest_state=0.
SegmentRegister forced_virtual_8086(SegmentRegister segment)
{
    segment.selector = static_cast<u16>(segment.base >> 4);
    segment.base = real_mode_base(segment.selector);
    segment.limit = kVirtual8086Limit;
    segment.rights = kVirtual8086Rights;
    return segment;
}

void write_task_state_segment(vcpu_vmx &vmx)
{
    vmx.rmode.tss_addr = vmx.kvm->tss_addr;
    vmcs_write(GUEST_TR_BASE, vmx.rmode.tss_addr);
    vmcs_write(GUEST_TR_LIMIT, kRealModeTssLimit);
    vmcs_write(GUEST_TR_AR_BYTES, AR_TYPE_BUSY_TSS | AR_PRESENT);
}

// Without emulation CS and SS must fit each other as soon as protected mode begins: CPL 0.
SegmentRegister forced_protected(SegmentRegister segment)
{
    constexpr u16 kRpl = 3;
    segment.selector = static_cast<u16>(segment.selector & ~kRpl);
    segment.rights = (segment.rights & ~AR_DPL_MASK) | AR_S;
    return segment;
}

} // namespace

SegmentRegister as_virtual_8086(Segment which, SegmentRegister segment)
{
    // In real mode the DPL is hidden, and that CS has another type than data.
    segment.rights |= AR_DPL_MASK;
    if (which == kCs)
        segment.rights = (segment.rights & ~AR_TYPE_MASK) | AR_TYPE_WRITABLE_DATA;
    return segment;
}

void write_virtual_8086_segment(vcpu_vmx &vmx, Segment which)
{
    const SegmentRegister &segment = vmx.rmode.segments[which];
    if (which == kTr) { // the rest of it is ours
        vmcs_write(GUEST_TR_SELECTOR, segment.selector);
        return;
    }
    write_vmcs_segment(which, hardware.params.emulate_invalid_guest_state
                                  ? as_virtual_8086(which, segment)
                                  : forced_virtual_8086(segment));
}

bool use_task_state(vcpu_vmx &vmx)
{
    if (vmx.rmode.tss_addr != vmx.kvm->tss_addr)
        write_task_state_segment(vmx);
    return vmx.rmode.tss_addr != 0;
}

void enter_virtual_8086(vcpu_vmx &vmx)
{
    const u64 rflags = read_rflags(vmx);
    for (u32 i = 0; i < kSegmentCount; i++)
        vmx.rmode.segments[i] = read_segment_register(vmx, static_cast<Segment>(i));
    vmx.vm86_active = true;
    vmx.check_state = true;
    write_rflags(vmx, rflags);
    for (u32 i = 0; i <= kGs; i++)
        write_virtual_8086_segment(vmx, static_cast<Segment>(i));
    write_task_state_segment(vmx);
    vmx_update_exception_bitmap(vmx);
}

void leave_virtual_8086(vcpu_vmx &vmx)
{
    SegmentRegister segments[kSegmentCount];
    const u64 rflags = read_rflags(vmx);
    for (u32 i = 0; i < kSegmentCount; i++)
        segments[i] = read_segment_register(vmx, static_cast<Segment>(i));
    vmx.vm86_active = false;
    vmx.check_state = true;
    write_rflags(vmx, rflags);
    for (u32 i = 0; i < kSegmentCount; i++) {
        const bool force = !hardware.params.emulate_invalid_guest_state && (i == kCs || i == kSs);
        write_segment_register(vmx, static_cast<Segment>(i),
                               force ? forced_protected(segments[i]) : segments[i]);
    }
    vmx_update_exception_bitmap(vmx);
}

} // namespace minivmx
