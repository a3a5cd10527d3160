// SPDX-License-Identifier: GPL-2.0-only
#include "load.hpp"

namespace minivmx {

// ---- Checks -----------------------------------------------------------------

u8 check_return_code(const Descriptor &d, u8 rpl, u8 bad)
{
    if (!d.code() || (d.conforming() ? d.dpl() > rpl : d.dpl() != rpl))
        return bad;
    return d.present() ? kNoFault : NP_VECTOR;
}

u8 check_jump_code(const Descriptor &d, u8 rpl, u8 cpl)
{
    if (!d.code() || (d.conforming() ? d.dpl() > cpl : rpl > cpl || d.dpl() != cpl))
        return GP_VECTOR;
    return d.present() ? kNoFault : NP_VECTOR;
}

u8 check_data(const Descriptor &d, u8 rpl, u8 cpl, u8 bad)
{
    if (!d.readable() || (!d.conforming() && (rpl > d.dpl() || cpl > d.dpl())))
        return bad;
    return d.present() ? kNoFault : NP_VECTOR;
}

u8 check_stack(const Descriptor &d, u8 rpl, u8 cpl, u8 bad)
{
    if (rpl != cpl || !d.writable() || d.dpl() != cpl)
        return bad;
    return d.present() ? kNoFault : SS_VECTOR;
}

// ---- What is loaded ---------------------------------------------------------

bool in_vm86(vcpu_vmx &vmx)
{
    return is_protmode(vmx) && (read_rflags(vmx) & X86_EFLAGS_VM) != 0;
}

kvm_segment null_segment(u16 selector, u8 dpl)
{
    kvm_segment segment = {};
    segment.selector = selector;
    segment.dpl = dpl;
    segment.unusable = 1;
    return segment;
}

kvm_segment vm86_segment(u16 selector)
{
    constexpr u8 kDataWritableAccessed = 3;
    kvm_segment segment = {};
    segment.selector = selector;
    segment.base = u64{selector} << 4;
    segment.limit = 0xffff;
    segment.type = kDataWritableAccessed;
    segment.s = segment.present = 1;
    segment.dpl = 3;
    return segment;
}

namespace {

// Nothing can be accessed through a null selector, but 64-bit code below CPL 3 runs with one in SS:
// SDM Vol. 3A, 3.4.4, 5.4.1.1.
bool load_null(SystemAccess &s, Segment which, u16 selector)
{
    const u8 cpl = guest_cpl(s.vmx);
    const u8 rpl = selector & kSelectorRpl;
    if (which == kSs && (!is_64_bit_code(s.vmx) || cpl == 3 || rpl != cpl))
        return refuse(s, GP_VECTOR, 0);
    write_segment(s.vmx, which, null_segment(selector, which == kSs ? cpl : u8{0}));
    return true;
}

} // namespace

bool load_segment_register(SystemAccess &s, Segment which, u16 selector)
{
    if (!is_protmode(s.vmx) || in_vm86(s.vmx)) {
        load_real_mode_segment(s.vmx, which, selector);
        return true;
    }
    if (is_null_selector(selector))
        return load_null(s, which, selector);
    Descriptor d;
    if (!read_descriptor(s, selector, GP_VECTOR, d))
        return false;
    const u8 rpl = selector & kSelectorRpl;
    const u8 cpl = guest_cpl(s.vmx);
    const u8 vector =
        which == kSs ? check_stack(d, rpl, cpl, GP_VECTOR) : check_data(d, rpl, cpl, GP_VECTOR);
    if (vector != kNoFault)
        return refuse(s, vector, selector);
    if (!mark_accessed(s, d))
        return false;
    write_segment(s.vmx, which, d.to_segment(selector));
    return true;
}

} // namespace minivmx
