// SPDX-License-Identifier: GPL-2.0-only
#include "load.hpp"

#include <minivmx/state.hpp>

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

SegmentRegister null_segment(u16 selector, u8 dpl)
{
    return {.base = 0,
            .limit = 0,
            .rights = AR_UNUSABLE | u32{dpl} << AR_DPL_SHIFT,
            .selector = selector};
}

SegmentRegister vm86_segment(u16 selector)
{
    return {.base = real_mode_base(selector),
            .limit = kVirtual8086Limit,
            .rights = kVirtual8086Rights,
            .selector = selector};
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
    write_segment_register(s.vmx, which, null_segment(selector, which == kSs ? cpl : u8{0}));
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
    write_segment_register(s.vmx, which, d.to_register(selector));
    return true;
}

// ---- System segments --------------------------------------------------------

namespace {

// LDTs and task states are in the GDT, and their addresses are canonical.
bool read_system_segment(SystemAccess &s, u16 selector, u8 bad, Descriptor &d)
{
    if (selector & kSelectorLocal)
        return refuse(s, bad, selector);
    if (!read_descriptor(s, selector, bad, d) || !read_upper_half(s, selector, bad, d))
        return false;
    return (d.system() && is_canonical_address(s.vmx, d.base())) || refuse(s, bad, selector);
}

bool is_available_tss(const SystemAccess &s, const Descriptor &d)
{
    return d.type() == kTypeTss32 || (d.type() == kTypeTss16 && !s.state.long_mode);
}

} // namespace

bool load_ldt(SystemAccess &s, u16 selector, u8 bad, u8 absent)
{
    if (is_null_selector(selector)) {
        write_segment_register(s.vmx, kLdtr, null_segment(selector));
        return true;
    }
    Descriptor d;
    if (!read_system_segment(s, selector, bad, d))
        return false;
    if (d.type() != kTypeLdt)
        return refuse(s, bad, selector);
    if (!d.present())
        return refuse(s, absent, selector);
    write_segment_register(s.vmx, kLdtr, d.to_register(selector));
    return true;
}

bool load_task_register(SystemAccess &s, u16 selector)
{
    if (is_null_selector(selector))
        return refuse(s, GP_VECTOR, 0);
    Descriptor d;
    u64 access_byte;
    bool was_busy;
    if (!read_system_segment(s, selector, GP_VECTOR, d))
        return false;
    if (!is_available_tss(s, d))
        return refuse(s, GP_VECTOR, selector);
    if (!d.present())
        return refuse(s, NP_VECTOR, selector);
    if (!find_access_byte(s, d, access_byte) ||
        !change_bit(s, access_byte, kTssBusy, true, was_busy))
        return false;
    if (was_busy) // another vCPU was faster
        return refuse(s, GP_VECTOR, selector);
    SegmentRegister tr = d.to_register(selector);
    tr.rights |= kTssBusy;
    write_segment_register(s.vmx, kTr, tr);
    return true;
}

} // namespace minivmx
