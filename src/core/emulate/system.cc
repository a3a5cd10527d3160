// SPDX-License-Identifier: GPL-2.0-only
// Instructions of the operating system. Most of them exit, or may: the handlers of their exits
// carry them out, after the checks that the CPU makes before an exit. SDM Vol. 2, their pages.
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>

#include "emulator.hpp"

namespace minivmx {

namespace {

Outcome undefined(Emulation &e)
{
    inject_ud(e.vmx);
    return Outcome::resume();
}

Outcome done(Emulation &e)
{
    finish_instruction(e.vmx, e.insn().length);
    return Outcome::resume();
}

// ---- Control and debug registers --------------------------------------------

Outcome move_control(Emulation &e)
{
    const Instruction &insn = e.insn();
    CrAccessInfo access{};
    if (insn.operation == Operation::kMovToControl) {
        access.type = CrAccessInfo::kMovTo;
        access.cr = insn.destination.reg;
        access.gpr = insn.source.reg;
    } else {
        access.type = CrAccessInfo::kMovFrom;
        access.cr = insn.source.reg;
        access.gpr = insn.destination.reg;
    }
    return access_control_register(e.vmx, access);
}

Outcome move_debug(Emulation &e)
{
    const Instruction &insn = e.insn();
    const bool from = insn.operation == Operation::kMovFromDebug;
    const u8 number = from ? insn.source.reg : insn.destination.reg;
    const u8 gpr = from ? insn.destination.reg : insn.source.reg;
    return access_debug_register(e.vmx, {.dr = number, .from = from, .gpr = gpr});
}

Outcome load_status_word(Emulation &e)
{
    u64 value;
    if (!load_operand(e, e.insn().source, value))
        return e.outcome;
    CrAccessInfo access{};
    access.type = CrAccessInfo::kLmsw;
    access.lmsw_source = static_cast<u16>(value);
    return access_control_register(e.vmx, access);
}

// Its privilege is UMIP's to demand: SDM Vol. 2B, SMSW.
Outcome store_status_word(Emulation &e)
{
    if (guest_cpl(e.vmx) > 0 && guest_cr4(e.vmx) & X86_CR4_UMIP) {
        inject_gp(e.vmx);
        return Outcome::resume();
    }
    if (store_operand(e, e.insn().destination, guest_cr0(e.vmx)))
        finish_instruction(e.vmx, e.insn().length);
    return e.outcome;
}

// ---- Extended control registers ---------------------------------------------

Outcome read_extended_control(Emulation &e)
{
    if (!(guest_cr4(e.vmx) & X86_CR4_OSXSAVE))
        return undefined(e);
    // XCR0 & XINUSE, by ECX = 1, is the CPU's own knowledge.
    if (static_cast<u32>(read_gpr(e.vmx, kRcx)) == 1)
        return fail_emulation(e.vmx, e.pending.code, e.pending.code_size);
    if (static_cast<u32>(read_gpr(e.vmx, kRcx)) != 0) {
        inject_gp(e.vmx);
        return Outcome::resume();
    }
    write_edx_eax(e.vmx, e.vmx.msrs.xcr0);
    return done(e);
}

Outcome write_extended_control(Emulation &e)
{
    return guest_cr4(e.vmx) & X86_CR4_OSXSAVE ? handle_xsetbv(e.vmx) : undefined(e);
}

// ---- The rest ---------------------------------------------------------------

Outcome invalidate_page(Emulation &e)
{
    const Instruction &insn = e.insn();
    const Segment which = static_cast<Segment>(insn.memory.segment);
    u64 linear = memory_offset(e.vmx, insn);
    if (!e.state.code_64)
        linear = static_cast<u32>(linear + segment_base(e.vmx, which));
    else if (which >= kFs)
        linear += segment_base(e.vmx, which);
    invalidate_guest_address(e.vmx, linear);
    return done(e);
}

// CLAC and STAC exist with SMAP, and for CPL 0: else #UD.
Outcome set_access_control(Emulation &e)
{
    if (guest_cpl(e.vmx) > 0 || !e.vmx.cpuid.has(CpuidFeature::kSmap))
        return undefined(e);
    const u64 flags = read_rflags(e.vmx) & ~X86_EFLAGS_AC;
    write_rflags(e.vmx, e.insn().operation == Operation::kStac ? flags | X86_EFLAGS_AC : flags);
    return done(e);
}

// MONITOR and MWAIT are hints here, as in KVM.
Outcome wait_hint(Emulation &e)
{
    return guest_cpl(e.vmx) > 0 ? undefined(e) : handle_as_nop(e.vmx);
}

Outcome run_privileged(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kMovFromControl:
    case Operation::kMovToControl:
        return move_control(e);
    case Operation::kClts:
        return access_control_register(
            e.vmx, {.cr = 0, .type = CrAccessInfo::kClts, .gpr = 0, .lmsw_source = 0});
    case Operation::kLmsw:
        return load_status_word(e);
    case Operation::kRdmsr:
        return handle_rdmsr(e.vmx);
    case Operation::kWrmsr:
        return handle_wrmsr(e.vmx);
    case Operation::kInvd:
    case Operation::kWbinvd:
        return handle_as_nop(e.vmx);
    case Operation::kInvlpg:
        return invalidate_page(e);
    default: // kHlt
        return handle_halt(e.vmx);
    }
}

} // namespace

// #GP outside of CPL 0, before anything else.
void execute_privileged(Emulation &e)
{
    if (guest_cpl(e.vmx) > 0)
        inject_gp(e.vmx);
    else
        e.outcome = run_privileged(e);
}

void execute_system(Emulation &e)
{
    switch (e.insn().operation) {
    case Operation::kMovFromDebug:
    case Operation::kMovToDebug:
        e.outcome = move_debug(e);
        break;
    case Operation::kSmsw:
        e.outcome = store_status_word(e);
        break;
    case Operation::kXgetbv:
        e.outcome = read_extended_control(e);
        break;
    case Operation::kXsetbv:
        e.outcome = write_extended_control(e);
        break;
    case Operation::kClac:
    case Operation::kStac:
        e.outcome = set_access_control(e);
        break;
    case Operation::kMonitor:
    case Operation::kMwait:
        e.outcome = wait_hint(e);
        break;
    case Operation::kVmcall:
        e.outcome = handle_vmcall(e.vmx);
        break;
    default: // kRsm, which exists in system-management mode only
        e.outcome = undefined(e);
        break;
    }
}

} // namespace minivmx
