// SPDX-License-Identifier: GPL-2.0-only
// KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS.
#include <minivmx/guest_memory.hpp>
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/shadow_paging.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

struct GprField {
    Gpr index;
    __u64 kvm_regs::*field;
};

constexpr GprField kGprFields[] = {
    {kRax, &kvm_regs::rax}, {kRbx, &kvm_regs::rbx}, {kRcx, &kvm_regs::rcx}, {kRdx, &kvm_regs::rdx},
    {kRsi, &kvm_regs::rsi}, {kRdi, &kvm_regs::rdi}, {kRsp, &kvm_regs::rsp}, {kRbp, &kvm_regs::rbp},
    {kR8, &kvm_regs::r8},   {kR9, &kvm_regs::r9},   {kR10, &kvm_regs::r10}, {kR11, &kvm_regs::r11},
    {kR12, &kvm_regs::r12}, {kR13, &kvm_regs::r13}, {kR14, &kvm_regs::r14}, {kR15, &kvm_regs::r15},
};

struct SegmentField {
    Segment which;
    kvm_segment kvm_sregs::*field;
};

constexpr SegmentField kSegmentFields[] = {
    {kCs, &kvm_sregs::cs}, {kDs, &kvm_sregs::ds}, {kEs, &kvm_sregs::es}, {kFs, &kvm_sregs::fs},
    {kGs, &kvm_sregs::gs}, {kSs, &kvm_sregs::ss}, {kTr, &kvm_sregs::tr}, {kLdtr, &kvm_sregs::ldt},
};

// A combination that no CPU can be in. SDM Vol. 3A, 4.1.1 and 10.8.5: IA-32e mode is EFER.LME and
// CR0.PG, with CR4.PAE set and EFER.LMA showing it; only there code can be 64-bit.
bool valid_sregs(const vcpu_vmx &vmx, const kvm_sregs &sregs)
{
    const bool long_mode = (sregs.efer & EFER_LME) != 0 && (sregs.cr0 & X86_CR0_PG) != 0;
    if (long_mode) {
        if (!(sregs.cr4 & X86_CR4_PAE) || !(sregs.efer & EFER_LMA) ||
            is_illegal_gpa(vmx, sregs.cr3))
            return false;
    } else if (sregs.efer & EFER_LMA || sregs.cs.l) {
        return false;
    }
    return is_valid_cr4(vmx, sregs.cr4) && is_valid_cr0(sregs.cr0) &&
           is_valid_apic_base(vmx, sregs.apic_base);
}

void read_sregs(vcpu_vmx &vmx, kvm_sregs &sregs)
{
    sregs = {};
    for (const SegmentField &segment : kSegmentFields)
        read_segment(vmx, segment.which, sregs.*segment.field);
    sregs.gdt.base = vmcs_read(GUEST_GDTR_BASE);
    sregs.gdt.limit = static_cast<u16>(vmcs_read(GUEST_GDTR_LIMIT));
    sregs.idt.base = vmcs_read(GUEST_IDTR_BASE);
    sregs.idt.limit = static_cast<u16>(vmcs_read(GUEST_IDTR_LIMIT));
    sregs.cr0 = guest_cr0(vmx);
    sregs.cr2 = vmx.area->cr2;
    sregs.cr3 = guest_cr3(vmx);
    sregs.cr4 = guest_cr4(vmx);
    sregs.cr8 = guest_cr8(vmx);
    sregs.efer = vmx.efer;
    sregs.apic_base = vmx.apic_base;
}

// Old user space doesn't say that the bootstrap processor runs: KVM takes the state after RESET for
// it.
void start_bootstrap_processor(vcpu_vmx &vmx, const kvm_sregs &sregs)
{
    constexpr u64 kBootstrap = bit64(8);
    if (vmx.apic_base & kBootstrap && read_rip(vmx) == 0xfff0 && sregs.cs.selector == 0xf000 &&
        sregs.cs.base == 0xffff0000 && !(sregs.cr0 & X86_CR0_PE))
        vmx.mp_state = KVM_MP_STATE_RUNNABLE;
}

// A client that puts the guest elsewhere may have written its tables, as for a snapshot, and nobody
// saw that.
bool translates_otherwise(vcpu_vmx &vmx, const kvm_sregs &sregs)
{
    return ((guest_cr0(vmx) ^ sregs.cr0) & (X86_CR0_PG | X86_CR0_PE)) != 0 ||
           guest_cr3(vmx) != sregs.cr3 || guest_cr4(vmx) != sregs.cr4 || vmx.efer != sregs.efer;
}

void write_sregs(vcpu_vmx &vmx, const kvm_sregs &sregs)
{
    note_place_of_pending(vmx);
    if (translates_otherwise(vmx, sregs))
        forget_shadow_tables(*vmx.kvm);
    write_apic_base(vmx, sregs.apic_base);
    vmcs_write(GUEST_GDTR_BASE, sregs.gdt.base);
    vmcs_write(GUEST_GDTR_LIMIT, sregs.gdt.limit);
    vmcs_write(GUEST_IDTR_BASE, sregs.idt.base);
    vmcs_write(GUEST_IDTR_LIMIT, sregs.idt.limit);
    vmx.area->cr2 = sregs.cr2;
    (void)set_cr8(vmx, sregs.cr8); // KVM keeps the old value, too, if this one is no priority
    write_paging_state(vmx,
                       {.cr0 = sregs.cr0, .cr3 = sregs.cr3, .cr4 = sregs.cr4, .efer = sregs.efer});
    // After the control registers: entering IA-32e mode corrects TR's type, but what the client
    // says counts.
    for (const SegmentField &segment : kSegmentFields)
        write_segment(vmx, segment.which, sregs.*segment.field);
    start_bootstrap_processor(vmx, sregs);
}

// What both structures begin with: segments, tables, control registers.
static_assert(__builtin_offsetof(kvm_sregs, interrupt_bitmap) ==
              __builtin_offsetof(kvm_sregs2, flags));
constexpr usize kSregsCommon = __builtin_offsetof(kvm_sregs2, flags);

// The interrupt whose delivery was interrupted by the exit after which the client saved the vCPU.
void restore_interrupt(vcpu_vmx &vmx, const kvm_sregs &sregs)
{
    for (u32 vector = 0; vector < KVM_NR_INTERRUPTS; vector++) {
        if (sregs.interrupt_bitmap[vector / 64] >> vector % 64 & 1) {
            vmx.interrupt = {.pending = true, .soft = false, .vector = static_cast<u8>(vector)};
            return;
        }
    }
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_get_regs(core_vcpu *vcpu, kvm_regs *regs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    *regs = {};
    for (const GprField &gpr : kGprFields)
        regs->*gpr.field = read_gpr(vmx, gpr.index);
    regs->rip = read_rip(vmx);
    regs->rflags = read_rflags(vmx);
    if (single_steps(vmx))
        regs->rflags &= ~X86_EFLAGS_TF; // it is user space's, not the guest's
    return 0;
}

int core_set_regs(core_vcpu *vcpu, const kvm_regs *regs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    note_place_of_pending(vmx);
    for (const GprField &gpr : kGprFields)
        write_gpr(vmx, gpr.index, regs->*gpr.field);
    write_rip(vmx, regs->rip);
    const u64 step = single_steps(vmx) ? X86_EFLAGS_TF : 0;
    write_rflags(vmx, regs->rflags | X86_EFLAGS_FIXED | step);
    // An exception of the instruction that the client now jumps away from is forgotten; one whose
    // delivery had begun isn't.
    if (!vmx.exception.reinject)
        vmx.exception.pending = false;
    return 0;
}

int core_get_sregs(core_vcpu *vcpu, kvm_sregs *sregs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    read_sregs(vmx, *sregs);
    if (vmx.interrupt.pending && !vmx.interrupt.soft)
        sregs->interrupt_bitmap[vmx.interrupt.vector / 64] |= bit64(vmx.interrupt.vector % 64);
    return 0;
}

int core_set_sregs(core_vcpu *vcpu, const kvm_sregs *sregs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    if (!valid_sregs(vmx, *sregs))
        return -EINVAL;
    write_sregs(vmx, *sregs);
    restore_interrupt(vmx, *sregs);
    return 0;
}

int core_get_sregs2(core_vcpu *vcpu, kvm_sregs2 *sregs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    kvm_sregs common;
    read_sregs(vmx, common);
    *sregs = {};
    __builtin_memcpy(sregs, &common, kSregsCommon);
    if (!is_pae_paging(vmx))
        return 0;
    sregs->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    for (u32 i = 0; i < 4; i++)
        sregs->pdptrs[i] = guest_pdptr(vmx, i);
    return 0;
}

int core_set_sregs2(core_vcpu *vcpu, const kvm_sregs2 *sregs)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    const bool pdptrs = (sregs->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0;
    const bool pae = (sregs->cr0 & X86_CR0_PG) != 0 && (sregs->cr4 & X86_CR4_PAE) != 0 &&
                     !(sregs->efer & EFER_LMA);
    kvm_sregs common = {};
    __builtin_memcpy(&common, sregs, kSregsCommon);
    if (sregs->flags & ~u64{KVM_SREGS2_FLAGS_PDPTRS_VALID} || (pdptrs && !pae) ||
        !valid_sregs(vmx, common))
        return -EINVAL;
    write_sregs(vmx, common);
    for (u32 i = 0; pdptrs && i < 4; i++)
        write_pdptr(vmx, i, sregs->pdptrs[i]);
    return 0;
}

int core_translate(core_vcpu *vcpu, kvm_translation *translation)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    AddressState state = address_state(vmx);
    state.user = false; // whose page it is doesn't matter here
    state.ac = true;
    u64 gpa;
    GuestFault fault;
    translation->valid = translate(vmx, state, translation->linear_address,
                                   {.implicit_supervisor = true}, gpa, fault) == MemoryResult::kOk;
    translation->physical_address = translation->valid ? gpa : ~u64{0};
    translation->writeable = 1; // as KVM says, whatever it is
    translation->usermode = 0;
    return 0;
}

} // extern "C"
