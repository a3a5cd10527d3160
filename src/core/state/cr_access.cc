// SPDX-License-Identifier: GPL-2.0-only
// Exits of instructions that access control registers: SDM Vol. 3C, 28.2.1, table 28-3.
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

// The instruction is done, or it faulted: SDM Vol. 2B, MOV "Move to/from Control Registers".
Outcome complete_or_gp(vcpu_vmx &vmx, bool done)
{
    if (done)
        skip_emulated_instruction(vmx);
    else
        inject_gp(vmx);
    return Outcome::resume();
}

// KVM's rule without an APIC in the kernel: user space holds back interrupts below the TPR, and has
// to hear when it drops.
Outcome mov_to_cr8(vcpu_vmx &vmx, u64 value)
{
    const u64 before = guest_cr8(vmx);
    const bool done = set_cr8(vmx, value);
    const Outcome outcome = complete_or_gp(vmx, done);
    if (!done || vmx.has_apic || vmx.cr8 >= before)
        return outcome;
    vmx.area->run->exit_reason = KVM_EXIT_SET_TPR;
    return Outcome::to_user();
}

Outcome unknown_cr_access(vcpu_vmx &vmx)
{
    vmx.area->run->exit_reason = KVM_EXIT_UNKNOWN;
    return Outcome::to_user();
}

u64 mov_source(vcpu_vmx &vmx, const CrAccessInfo &access)
{
    const u64 value = read_gpr(vmx, access.gpr);
    return is_64_bit_code(vmx) ? value : static_cast<u32>(value);
}

Outcome mov_to_cr(vcpu_vmx &vmx, const CrAccessInfo &access)
{
    const u64 value = mov_source(vmx, access);
    switch (access.cr) {
    case 0:
        return complete_or_gp(vmx, set_cr0(vmx, value));
    case 2: // exits nowhere; the emulator comes here
        vmx.area->cr2 = value;
        return complete_or_gp(vmx, true);
    case 3:
        return complete_or_gp(vmx, set_cr3(vmx, value));
    case 4:
        return complete_or_gp(vmx, set_cr4(vmx, value));
    case 8:
        return mov_to_cr8(vmx, value);
    default:
        return unknown_cr_access(vmx);
    }
}

// CR0 and CR4 are read from their shadows, and CR2 is the CPU's own, without an exit: only the
// emulator asks for them.
u64 read_cr(vcpu_vmx &vmx, u8 number)
{
    switch (number) {
    case 0:
        return guest_cr0(vmx);
    case 2:
        return vmx.area->cr2;
    case 3:
        return guest_cr3(vmx);
    case 4:
        return guest_cr4(vmx);
    default:
        return guest_cr8(vmx);
    }
}

Outcome mov_from_cr(vcpu_vmx &vmx, const CrAccessInfo &access)
{
    const u64 value = read_cr(vmx, access.cr);
    write_gpr(vmx, access.gpr, is_64_bit_code(vmx) ? value : static_cast<u32>(value));
    skip_emulated_instruction(vmx);
    return Outcome::resume();
}

} // namespace

// LMSW loads bits 3:0 of CR0, and can set PE but not clear it: SDM Vol. 2A, LMSW.
u64 cr0_after_lmsw(u64 cr0, u16 source)
{
    constexpr u64 kClearable = X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
    return (cr0 & ~kClearable) | (source & 0xf);
}

Outcome access_control_register(vcpu_vmx &vmx, const CrAccessInfo &access)
{
    switch (access.type) {
    case CrAccessInfo::kMovTo:
        return mov_to_cr(vmx, access);
    case CrAccessInfo::kMovFrom:
        return mov_from_cr(vmx, access);
    case CrAccessInfo::kClts:
        return complete_or_gp(vmx, set_cr0(vmx, guest_cr0(vmx) & ~X86_CR0_TS));
    case CrAccessInfo::kLmsw:
        return complete_or_gp(vmx,
                              set_cr0(vmx, cr0_after_lmsw(guest_cr0(vmx), access.lmsw_source)));
    }
    return unknown_cr_access(vmx);
}

// MOV to CR0 that leaves paging and protection as they are. Not in PAE paging, where a change of
// the caching bits reads guest memory: it reloads the PDPTEs (SDM Vol. 3A, 4.4.1).
bool answer_cr_access(vcpu_vmx &vmx)
{
    constexpr u64 kModeBits = X86_CR0_PE | X86_CR0_WP | X86_CR0_PG;
    const CrAccessInfo access = CrAccessInfo::decode(exit_qualification(vmx));
    if (access.cr != 0 || access.type != CrAccessInfo::kMovTo || is_pae_paging(vmx))
        return false;
    const u64 value = mov_source(vmx, access);
    if ((value ^ guest_cr0(vmx)) & kModeBits || !set_cr0(vmx, value))
        return false;
    skip_emulated_instruction(vmx);
    return true;
}

Outcome handle_cr_access(vcpu_vmx &vmx)
{
    return access_control_register(vmx, CrAccessInfo::decode(exit_qualification(vmx)));
}

} // namespace minivmx
