// SPDX-License-Identifier: GPL-2.0-only
// SYSENTER, SYSEXIT, SYSCALL, SYSRET: flat segments out of MSRs, without descriptors. SDM Vol. 2B,
// their pages; Vol. 3A, 5.8.7 and 5.8.8.
#include <minivmx/state.hpp>

#include "../segmentation/load.hpp"
#include "emulator.hpp"

namespace minivmx {

namespace {

struct FlatSegments {
    u16 code; // the stack segment's selector is the next one, but for SYSRET
    u16 stack;
    u8 cpl;
    bool code_64;
};

void load_flat_segments(vcpu_vmx &vmx, const FlatSegments &flat)
{
    const u32 both = AR_S | AR_PRESENT | AR_G | u32{flat.cpl} << AR_DPL_SHIFT;
    const u32 rpl = flat.cpl;
    SegmentRegister segment = {.base = 0,
                               .limit = 0xffffffff,
                               .rights =
                                   both | AR_TYPE_READABLE_CODE | (flat.code_64 ? AR_L : AR_DB),
                               .selector = static_cast<u16>((flat.code & ~kSelectorRpl) | rpl)};
    write_segment_register(vmx, kCs, segment);
    segment.rights = both | AR_TYPE_WRITABLE_DATA | AR_DB;
    segment.selector = static_cast<u16>((flat.stack & ~kSelectorRpl) | rpl);
    write_segment_register(vmx, kSs, segment);
}

u64 as_wide(u64 value, bool wide)
{
    return wide ? value : static_cast<u32>(value);
}

bool refuse_gp(Emulation &e)
{
    inject_gp(e.vmx);
    return false;
}

bool refuse_ud(Emulation &e)
{
    inject_ud(e.vmx);
    return false;
}

// ---- SYSENTER and SYSEXIT ---------------------------------------------------

bool enter_system(Emulation &e)
{
    const u16 selector = static_cast<u16>(vmcs_read(GUEST_SYSENTER_CS));
    if (!e.state.protected_mode || is_null_selector(selector))
        return refuse_gp(e);
    const bool wide = e.state.long_mode;
    const u16 code = selector & ~kSelectorRpl;
    write_rflags(e.vmx, read_rflags(e.vmx) & ~(X86_EFLAGS_VM | X86_EFLAGS_IF | X86_EFLAGS_RF));
    load_flat_segments(e.vmx, {code, static_cast<u16>(code + 8), 0, wide});
    write_rsp(e.vmx, as_wide(vmcs_read(GUEST_SYSENTER_ESP), wide));
    write_rip(e.vmx, as_wide(vmcs_read(GUEST_SYSENTER_EIP), wide));
    return true;
}

bool exit_system(Emulation &e)
{
    constexpr u16 kUser32 = 16, kUser64 = 32;
    const u16 selector = static_cast<u16>(vmcs_read(GUEST_SYSENTER_CS));
    if (!e.state.protected_mode || guest_cpl(e.vmx) > 0 || is_null_selector(selector))
        return refuse_gp(e);
    const bool wide = e.insn().operand_size == 8;
    const u64 rip = as_wide(read_gpr(e.vmx, kRdx), wide);
    const u64 rsp = as_wide(read_gpr(e.vmx, kRcx), wide);
    if (!is_canonical_address(e.vmx, rip) || !is_canonical_address(e.vmx, rsp))
        return refuse_gp(e);
    const u16 code = static_cast<u16>(selector + (wide ? kUser64 : kUser32));
    load_flat_segments(e.vmx, {code, static_cast<u16>(code + 8), 3, wide});
    write_rsp(e.vmx, rsp);
    write_rip(e.vmx, rip);
    return true;
}

// ---- SYSCALL and SYSRET -----------------------------------------------------

bool has_syscall(Emulation &e)
{
    return e.state.code_64 && (e.vmx.efer & EFER_SCE) != 0;
}

bool call_system(Emulation &e)
{
    if (!has_syscall(e))
        return refuse_ud(e);
    const vcpu_area &area = *e.vmx.area;
    const u64 flags = read_rflags(e.vmx);
    write_gpr(e.vmx, kRcx, read_rip(e.vmx) + e.insn().length);
    write_gpr(e.vmx, kR11, flags & ~X86_EFLAGS_RF);
    write_rip(e.vmx, area.uret[URET_LSTAR]);
    write_rflags(e.vmx, (flags & ~area.uret[URET_SYSCALL_MASK]) | X86_EFLAGS_FIXED);
    const u16 code = static_cast<u16>(area.uret[URET_STAR] >> 32);
    load_flat_segments(e.vmx, {code, static_cast<u16>((code & ~kSelectorRpl) + 8), 0, true});
    return true;
}

bool return_from_system(Emulation &e)
{
    constexpr u64 kFlags = 0x3c7fd7;
    if (!has_syscall(e))
        return refuse_ud(e);
    if (guest_cpl(e.vmx) > 0)
        return refuse_gp(e);
    const bool wide = e.insn().operand_size == 8;
    const u64 rip = as_wide(read_gpr(e.vmx, kRcx), wide);
    if (!is_canonical_address(e.vmx, rip))
        return refuse_gp(e);
    write_rflags(e.vmx, (read_gpr(e.vmx, kR11) & kFlags) | X86_EFLAGS_FIXED);
    write_rip(e.vmx, rip);
    const u16 base = static_cast<u16>(e.vmx.area->uret[URET_STAR] >> 48);
    load_flat_segments(
        e.vmx, {static_cast<u16>(base + (wide ? 16 : 0)), static_cast<u16>(base + 8), 3, wide});
    return true;
}

bool transfer(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kSysenter:
        return enter_system(e);
    case Operation::kSysexit:
        return exit_system(e);
    case Operation::kSyscall:
        return call_system(e);
    default: // kSysret
        return return_from_system(e);
    }
}

} // namespace

void execute_fast_call(Emulation &e)
{
    if (transfer(e))
        finish_jump(e.vmx, read_rip(e.vmx));
}

} // namespace minivmx
