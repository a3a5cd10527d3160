// SPDX-License-Identifier: GPL-2.0-only
//
// The ioctls of a vCPU's state beyond registers, with good, bad and impossible contents.
#include "state_ioctl_fixture.hpp"

namespace minivmx::test {
namespace {

// ---- KVM_GET/SET_VCPU_EVENTS ----

TEST_F(StateIoctl, EventsOfAFreshVcpu)
{
    const kvm_vcpu_events fresh = events();
    kvm_vcpu_events expected{};
    expected.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    EXPECT_EQ(std::memcmp(&fresh, &expected, sizeof(fresh)), 0);
}

TEST_F(StateIoctl, EventsRoundTrip)
{
    kvm_vcpu_events e = events();
    e.exception.injected = 1;
    e.exception.nr = GP_VECTOR;
    e.exception.has_error_code = 1;
    e.exception.error_code = 0x18;
    e.nmi.pending = 1;
    e.nmi.masked = 1;
    e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    ASSERT_EQ(set(e), 0);
    EXPECT_TRUE(guest.vmx().exception.reinject);
    const kvm_vcpu_events back = events();
    EXPECT_EQ(back.exception.injected, 1);
    EXPECT_EQ(back.exception.nr, GP_VECTOR);
    EXPECT_EQ(back.exception.error_code, 0x18u);
    EXPECT_EQ(back.nmi.pending, 1);
    EXPECT_EQ(back.nmi.masked, 1);
    EXPECT_EQ(back.interrupt.shadow, KVM_X86_SHADOW_INT_STI);
}

TEST_F(StateIoctl, EventsThatAreRefused)
{
    const kvm_vcpu_events good = events();
    for (const u32 flag :
         {KVM_VCPUEVENT_VALID_PAYLOAD, KVM_VCPUEVENT_VALID_TRIPLE_FAULT, 1 << 6, 1 << 30}) {
        kvm_vcpu_events e = good;
        e.flags = flag;
        EXPECT_EQ(set(e), -EINVAL) << flag;
    }
    for (const u8 vector : {u8{2}, u8{32}, u8{255}}) {
        kvm_vcpu_events e = good;
        e.exception.injected = 1;
        e.exception.nr = vector;
        EXPECT_EQ(set(e), -EINVAL) << +vector;
    }
    kvm_vcpu_events smm = good;
    smm.flags = KVM_VCPUEVENT_VALID_SMM;
    EXPECT_EQ(set(smm), 0);
    smm.smi.smm = 1;
    EXPECT_EQ(set(smm), -EINVAL);
}

TEST_F(StateIoctl, ShadowsOfBothKindsAtOnceWouldFailTheEntry)
{
    kvm_vcpu_events e = events();
    e.interrupt.shadow = KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS;
    ASSERT_EQ(set(e), 0);
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), GUEST_INTR_STATE_MOV_SS);
}

TEST_F(StateIoctl, PendingAndInjectedAreOneWithoutPayloads)
{
    inject_ud(guest.vmx());
    EXPECT_EQ(events().exception.injected, 1);
    ASSERT_EQ(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1), 0);
    const kvm_vcpu_events e = events();
    EXPECT_EQ(e.exception.injected, 0);
    EXPECT_EQ(e.exception.pending, 1);
    EXPECT_TRUE(e.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
}

TEST_F(StateIoctl, PayloadReachesDr6AtDelivery)
{
    ASSERT_EQ(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1), 0);
    kvm_vcpu_events e = events();
    e.exception.pending = 1;
    e.exception.nr = DB_VECTOR;
    e.exception_has_payload = 1;
    e.exception_payload = DR6_BS;
    ASSERT_EQ(set(e), 0);
    EXPECT_EQ(guest.area().dr6, DR6_ACTIVE_LOW);
    EXPECT_EQ(events().exception_payload, DR6_BS);
    inject_pending_events(guest.vmx());
    EXPECT_EQ(guest.area().dr6, DR6_ACTIVE_LOW | DR6_BS);
}

// The host loads DR6 into the CPU for a guest that reads it without exits, and MOV to DR6 faults
// with any of bits 63:32.
TEST_F(StateIoctl, DebugPayloadLeavesNothingInDr6ThatFaults)
{
    ASSERT_EQ(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1), 0);
    kvm_vcpu_events e = events();
    e.exception.pending = 1;
    e.exception.nr = DB_VECTOR;
    e.exception_has_payload = 1;
    e.exception_payload = 0xffffffff00001000 | DR6_BS;
    ASSERT_EQ(set(e), 0);
    inject_pending_events(guest.vmx());
    EXPECT_EQ(guest.area().dr6, DR6_ACTIVE_LOW | DR6_BS);
}

// An entry that didn't take place: the exception was delivered as far as user space can tell.
TEST_F(StateIoctl, InjectedExceptionOutlivesACancelledEntry)
{
    ASSERT_EQ(enable(KVM_CAP_EXCEPTION_PAYLOAD, 1), 0);
    queue_exception(guest.vmx(), DB_VECTOR);
    EXPECT_EQ(events().exception.pending, 1);
    inject_pending_events(guest.vmx());
    cancel_injection(guest.vmx());
    EXPECT_EQ(events().exception.pending, 0);
    EXPECT_EQ(events().exception.injected, 1);
    kvm_regs regs;
    ASSERT_EQ(core_get_regs(guest.vcpu(), &regs), 0);
    ASSERT_EQ(core_set_regs(guest.vcpu(), &regs), 0);
    EXPECT_EQ(guest.exception(), DB_VECTOR);
}

TEST_F(StateIoctl, TripleFaultAsAnEvent)
{
    ASSERT_EQ(enable(KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1), 0);
    kvm_vcpu_events e = events();
    EXPECT_TRUE(e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
    e.triple_fault.pending = 1;
    ASSERT_EQ(set(e), 0);
    EXPECT_TRUE(guest.vmx().triple_fault);
}

// ---- KVM_GET/SET_DEBUGREGS, KVM_SET_GUEST_DEBUG ----

TEST_F(StateIoctl, DebugRegisters)
{
    kvm_debugregs regs{};
    ASSERT_EQ(core_get_debugregs(guest.vcpu(), &regs), 0);
    EXPECT_EQ(regs.dr6, 0xffff0ff0u);
    EXPECT_EQ(regs.dr7, 0x400u);
    regs.db[2] = 0x1234;
    regs.dr7 = 0x420;
    ASSERT_EQ(core_set_debugregs(guest.vcpu(), &regs), 0);
    EXPECT_EQ(guest.get(GUEST_DR7), 0x420u);
    EXPECT_EQ(guest.area().loaded_db[2], 0x1234u);
    EXPECT_EQ(guest.area().switch_db_regs, u32{KVM_DEBUGREG_BP_ENABLED});
    for (const auto spoil :
         {+[](kvm_debugregs &r) { r.flags = 1; }, +[](kvm_debugregs &r) { r.dr6 |= bit64(32); },
          +[](kvm_debugregs &r) { r.dr7 |= bit64(63); }}) {
        kvm_debugregs bad = regs;
        spoil(bad);
        EXPECT_EQ(core_set_debugregs(guest.vcpu(), &bad), -EINVAL);
    }
}

TEST_F(StateIoctl, SingleStepIsHiddenFromRegisters)
{
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP), 0);
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_TF);
    kvm_regs regs;
    ASSERT_EQ(core_get_regs(guest.vcpu(), &regs), 0);
    EXPECT_FALSE(regs.rflags & X86_EFLAGS_TF);
    ASSERT_EQ(core_set_regs(guest.vcpu(), &regs), 0);
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_TF);

    guest.set_rip(0x1000);
    EXPECT_FALSE(exit(EXIT_REASON_EXCEPTION_NMI, DR6_BS, kDebugException).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_DEBUG});
    EXPECT_EQ(guest.run().debug.arch.exception, u32{DB_VECTOR});
    EXPECT_EQ(guest.run().debug.arch.dr6, DR6_ACTIVE_LOW | DR6_BS);
    EXPECT_EQ(guest.exception(), -1);

    ASSERT_EQ(debug(0), 0);
    EXPECT_FALSE(guest.rflags() & X86_EFLAGS_TF);
    EXPECT_TRUE(exit(EXIT_REASON_EXCEPTION_NMI, DR6_BS, kDebugException).resumes());
    EXPECT_EQ(guest.exception(), DB_VECTOR); // the guest's own
}

TEST_F(StateIoctl, UserSpacesBreakpointsTakeTheGuestsPlace)
{
    guest.area().db[0] = 0x1111;
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, 0x2222, 1), 0);
    EXPECT_EQ(guest.area().loaded_db[0], 0x2222u);
    EXPECT_EQ(guest.get(GUEST_DR7), 0x401u);
    kvm_debugregs regs;
    ASSERT_EQ(core_get_debugregs(guest.vcpu(), &regs), 0);
    EXPECT_EQ(regs.db[0], 0x1111u);
    EXPECT_EQ(regs.dr7, 0x400u);
    ASSERT_EQ(debug(0), 0);
    EXPECT_EQ(guest.area().loaded_db[0], 0x1111u);
    EXPECT_EQ(guest.get(GUEST_DR7), 0x400u);
    EXPECT_EQ(guest.area().switch_db_regs, 0u);
}

TEST_F(StateIoctl, MovDrWhileDebugged)
{
    constexpr u64 kFromDr0ToRbx = 0x10 | kRbx << 8, kToDr7FromRax = 7 | kRax << 8;
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP, 0x2222, 1), 0);
    guest.enter_long_mode();
    guest.area().db[0] = 0x1111;
    at_instruction(3);
    EXPECT_TRUE(exit(EXIT_REASON_DR_ACCESS, kFromDr0ToRbx).resumes());
    EXPECT_EQ(guest.reg(kRbx), 0x1111u);
    EXPECT_EQ(guest.rip(), 0x1003u);
    guest.reg(kRax) = 0x455;
    EXPECT_TRUE(exit(EXIT_REASON_DR_ACCESS, kToDr7FromRax).resumes());
    EXPECT_EQ(guest.area().dr7, 0x455u);
    EXPECT_EQ(guest.get(GUEST_DR7), 0x401u); // user space's goes on to count
    guest.reg(kRax) = bit64(40);
    EXPECT_TRUE(exit(EXIT_REASON_DR_ACCESS, kToDr7FromRax).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
}

TEST_F(StateIoctl, SoftwareBreakpoints)
{
    EXPECT_FALSE(guest.get(EXCEPTION_BITMAP) & bit32(BP_VECTOR));
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP), 0);
    EXPECT_TRUE(guest.get(EXCEPTION_BITMAP) & bit32(BP_VECTOR));
    at_instruction(1);
    EXPECT_FALSE(exit(EXIT_REASON_EXCEPTION_NMI, 0, kBreakpoint).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_DEBUG});
    EXPECT_EQ(guest.run().debug.arch.exception, u32{BP_VECTOR});
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_INJECT_BP), 0);
    EXPECT_TRUE(guest.vmx().exception.soft);
    ASSERT_EQ(debug(0), 0);
    EXPECT_FALSE(guest.get(EXCEPTION_BITMAP) & bit32(BP_VECTOR));
}

TEST_F(StateIoctl, GuestDebugRefusals)
{
    EXPECT_EQ(debug(KVM_GUESTDBG_ENABLE | 0x80000000), -EINVAL);
    EXPECT_EQ(debug(KVM_GUESTDBG_INJECT_DB), 0);
    EXPECT_EQ(debug(KVM_GUESTDBG_INJECT_DB), -EBUSY);
    // Without ENABLE nothing else counts.
    EXPECT_EQ(debug(KVM_GUESTDBG_SINGLESTEP), 0);
    EXPECT_FALSE(guest.rflags() & X86_EFLAGS_TF);
}

TEST_F(StateIoctl, BlockedInterrupts)
{
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_IF);
    EXPECT_TRUE(interrupt_allowed(guest.vmx()));
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ), 0);
    ASSERT_EQ(core_nmi(guest.vcpu()), 0);
    inject_pending_events(guest.vmx());
    EXPECT_EQ(guest.get(VM_ENTRY_INTR_INFO_FIELD), 0u);
    // A window would exit before each instruction.
    EXPECT_FALSE(guest.get(CPU_BASED_VM_EXEC_CONTROL) &
                 (CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING));
    ASSERT_EQ(debug(0), 0);
    inject_pending_events(guest.vmx());
    EXPECT_EQ(guest.get(VM_ENTRY_INTR_INFO_FIELD), INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR);
}

// SDM Vol. 3C, 27.3.1.5: with TF in the shadow of STI or MOV SS, VM entry wants the trap pending.
TEST_F(StateIoctl, TrapInAnInterruptShadow)
{
    constexpr u64 kPendingStep = bit64(14);
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_TF);
    guest.set(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_STI);
    EXPECT_TRUE(exit(EXIT_REASON_EXCEPTION_NMI, DR6_BS, kDebugException).resumes());
    EXPECT_EQ(guest.exception(), DB_VECTOR);
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), kPendingStep);
}

// The trap of an instruction that was carried out in the guest's place is the debugger's as well.
TEST_F(StateIoctl, SingleStepLeavesNoTrapBehind)
{
    ASSERT_EQ(debug(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP), 0);
    at_instruction(2);
    skip_emulated_instruction(guest.vmx());
    EXPECT_NE(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
    ASSERT_EQ(debug(0), 0);
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
}

// ---- KVM_GET/SET_MSRS ----

TEST_F(StateIoctl, EveryListedMsrCanBeReadAndWrittenBack)
{
    guest.machine.msr[MSR_IA32_SPEC_CTRL] = 0;
    u32 indices[256];
    const u32 count = core_msr_index_list(false, indices, 256);
    EXPECT_GT(count, 25u);
    for (u32 i = 0; i < count; i++)
        EXPECT_EQ(set_msr_by_host(indices[i], msr_by_host(indices[i])), 1)
            << std::hex << indices[i];
    EXPECT_EQ(core_msr_index_list(false, indices, 0), count);
    const u32 features = core_msr_index_list(true, indices, 256);
    for (u32 i = 0; i < features; i++) {
        kvm_msr_entry entry{};
        entry.index = indices[i];
        EXPECT_EQ(core_get_msrs(nullptr, &entry, 1), 1);
    }
}

TEST_F(StateIoctl, MsrsOfTheHardwareThatIsNotThereAreNotListed)
{
    u32 indices[256];
    const u32 count = core_msr_index_list(false, indices, 256);
    // tigerlake has no MPX, and this machine no IA32_SPEC_CTRL
    EXPECT_EQ(std::count(indices, indices + count, MSR_IA32_BNDCFGS), 0);
    EXPECT_EQ(std::count(indices, indices + count, MSR_IA32_SPEC_CTRL), 0);
    EXPECT_EQ(std::count(indices, indices + count, MSR_TSC_AUX), 1);
}

TEST_F(StateIoctl, TheGuestMayNotWhatTheClientMay)
{
    const struct {
        u32 index;
        u64 value;
    } rows[] = {
        {MSR_IA32_UCODE_REV, 0x500000000},
        {MSR_IA32_ARCH_CAPABILITIES, 1},
        {MSR_PLATFORM_INFO, 0},
        {0x401, bit64(63)},
        {MSR_IA32_MISC_ENABLE, 0},
    };
    for (const auto &row : rows) {
        const u64 before = msr_by_host(row.index);
        (void)guest.wrmsr(row.index, row.value);
        EXPECT_EQ(msr_by_host(row.index), before) << std::hex << row.index;
        EXPECT_EQ(set_msr_by_host(row.index, row.value), 1) << std::hex << row.index;
        EXPECT_EQ(msr_by_host(row.index), row.value) << std::hex << row.index;
    }
    EXPECT_FALSE(guest.vmx().msr_access_by_host);
}

TEST_F(StateIoctl, MsrsStopAtTheFirstThatFails)
{
    kvm_msr_entry entries[3]{};
    entries[0].index = MSR_STAR;
    entries[0].data = 7;
    entries[1].index = 0xdead;
    entries[2].index = MSR_STAR;
    entries[2].data = 8;
    EXPECT_EQ(core_set_msrs(guest.vcpu(), entries, 3), 1);
    EXPECT_EQ(msr_by_host(MSR_STAR), 7u);
    EXPECT_EQ(core_get_msrs(guest.vcpu(), entries, 3), 1);
    EXPECT_EQ(core_get_msrs(nullptr, entries, 3), 0);
}

TEST_F(StateIoctl, ClientsMayWriteFeaturesThatCpuidLacks)
{
    auto entries = guest.supported();
    find(entries, 0x80000001)->edx &= ~(bit32(20) | bit32(27) | bit32(29));
    find(entries, 7)->ecx &= ~bit32(22);
    find(entries, 0xd, 1)->eax = 0;
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    for (const u32 index : {MSR_TSC_AUX, MSR_IA32_XSS, MSR_IA32_ARCH_CAPABILITIES})
        EXPECT_EQ(set_msr_by_host(index, 0), 1) << std::hex << index;
    EXPECT_EQ(set_msr_by_host(MSR_EFER, EFER_LME | EFER_NX), 1);
    EXPECT_EQ(set_msr_by_host(MSR_EFER, bit64(20)), 0);
}

// ---- MSR filters and exits ----

class MsrFilters : public StateIoctl {
  protected:
    int filter(u32 base, u32 count, u32 access, u8 bits, u32 flags = 0)
    {
        kvm_msr_filter f{};
        const u8 *bitmaps[KVM_MSR_FILTER_MAX_RANGES] = {};
        f.flags = flags;
        f.ranges[5].base = base;
        f.ranges[5].nmsrs = count;
        f.ranges[5].flags = access;
        bitmaps[5] = count ? &bits : nullptr;
        const int result = core_set_msr_filter(guest.host().core, &f, bitmaps);
        if (result == 0) {
            EXPECT_TRUE(guest.area().requests & VCPU_REQUEST_MSR_FILTER);
            guest.area().requests = 0;
            msr_filter_changed(guest.vmx());
        }
        return result;
    }
    bool exits(u32 msr, bool write)
    {
        const bool high = msr >= 0xc0000000;
        const u8 *map = static_cast<const u8 *>(guest.vmx().msr_bitmap) + (high ? 1024 : 0) +
                        (write ? 2048 : 0);
        return map[(msr & 0x1fff) / 8] >> (msr & 7) & 1;
    }
    Outcome rdmsr_exit(u32 index)
    {
        guest.reg(kRcx) = index;
        at_instruction(2);
        return exit(EXIT_REASON_MSR_READ);
    }
};

TEST_F(MsrFilters, WhatIsForbiddenExitsAgain)
{
    EXPECT_FALSE(exits(MSR_IA32_SYSENTER_CS, false));
    ASSERT_EQ(filter(MSR_IA32_SYSENTER_CS, 2, KVM_MSR_FILTER_READ, 2), 0);
    EXPECT_TRUE(exits(MSR_IA32_SYSENTER_CS, false));
    EXPECT_FALSE(exits(MSR_IA32_SYSENTER_CS, true));
    EXPECT_FALSE(exits(MSR_IA32_SYSENTER_ESP, false)); // its bit allows
    EXPECT_TRUE(rdmsr_exit(MSR_IA32_SYSENTER_CS).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
    EXPECT_EQ(set_msr_by_host(MSR_IA32_SYSENTER_CS, 5), 1); // the filter is the guest's
    ASSERT_EQ(filter(0, 0, 0, 0), 0);
    EXPECT_FALSE(exits(MSR_IA32_SYSENTER_CS, false));
}

TEST_F(MsrFilters, DefaultDeny)
{
    EXPECT_EQ(filter(0, 0, 0, 0, KVM_MSR_FILTER_DEFAULT_DENY), -EINVAL);
    ASSERT_EQ(filter(MSR_STAR, 1, KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, 1,
                     KVM_MSR_FILTER_DEFAULT_DENY),
              0);
    EXPECT_TRUE(exits(MSR_FS_BASE, true));
    EXPECT_TRUE(rdmsr_exit(MSR_STAR).resumes());
    EXPECT_EQ(guest.exception(), -1);
    EXPECT_TRUE(rdmsr_exit(MSR_LSTAR).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
}

TEST_F(MsrFilters, UserSpaceAnswers)
{
    EXPECT_EQ(enable(KVM_CAP_X86_USER_SPACE_MSR, 8), -EINVAL);
    ASSERT_EQ(enable(KVM_CAP_X86_USER_SPACE_MSR,
                     KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER),
              0);
    EXPECT_FALSE(rdmsr_exit(0xdead).resumes());
    kvm_run &run = guest.run();
    EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_X86_RDMSR});
    EXPECT_EQ(run.msr.reason, u32{KVM_MSR_EXIT_REASON_UNKNOWN});
    EXPECT_EQ(run.msr.index, 0xdeadu);
    run.msr.data = 0x1122334455667788;
    complete_pending_msr(guest.vmx());
    EXPECT_EQ(guest.reg(kRax), 0x55667788u);
    EXPECT_EQ(guest.reg(kRdx), 0x11223344u);
    EXPECT_EQ(guest.rip(), 0x1002u);
    complete_pending_msr(guest.vmx()); // once
    EXPECT_EQ(guest.rip(), 0x1002u);

    EXPECT_FALSE(rdmsr_exit(0xdead).resumes());
    run.msr.error = 1;
    complete_pending_msr(guest.vmx());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
    EXPECT_EQ(guest.rip(), 0x1000u);
    guest.take_exception();

    // One whose value is wrong is not asked for.
    guest.reg(kRcx) = MSR_LSTAR;
    guest.reg(kRdx) = 0x70000000;
    EXPECT_TRUE(exit(EXIT_REASON_MSR_WRITE).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
}

TEST_F(MsrFilters, AnAnswerForAnotherPlaceIsDropped)
{
    ASSERT_EQ(enable(KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN), 0);
    EXPECT_FALSE(rdmsr_exit(0xdead).resumes());
    write_rip(guest.vmx(), 0xfff0);
    guest.run().msr.data = 5;
    guest.reg(kRax) = 1;
    complete_pending_msr(guest.vmx());
    EXPECT_EQ(guest.reg(kRax), 1u);
    EXPECT_EQ(guest.rip(), 0xfff0u);
}

TEST_F(MsrFilters, NoMemory)
{
    guest.machine.allocations_left = 0;
    EXPECT_EQ(filter(MSR_STAR, 1, KVM_MSR_FILTER_READ, 1), -ENOMEM);
    guest.machine.allocations_left = -1;
}

// ---- KVM_GET/SET_XCRS, SREGS2, TRANSLATE ----

TEST_F(StateIoctl, Xcrs)
{
    kvm_xcrs xcrs;
    ASSERT_EQ(core_get_xcrs(guest.vcpu(), &xcrs), 0);
    EXPECT_EQ(xcrs.nr_xcrs, 1u);
    EXPECT_EQ(xcrs.xcrs[0].value, 1u);
    xcrs.xcrs[0].value = 7;
    EXPECT_EQ(core_set_xcrs(guest.vcpu(), &xcrs), 0);
    xcrs.xcrs[0].value = 5; // AVX without SSE
    EXPECT_EQ(core_set_xcrs(guest.vcpu(), &xcrs), -EINVAL);
    xcrs.xcrs[0].value = 7;
    xcrs.nr_xcrs = KVM_MAX_XCRS + 1;
    EXPECT_EQ(core_set_xcrs(guest.vcpu(), &xcrs), -EINVAL);
    xcrs.nr_xcrs = 0;
    EXPECT_EQ(core_set_xcrs(guest.vcpu(), &xcrs), 0);
    xcrs.flags = 1;
    EXPECT_EQ(core_set_xcrs(guest.vcpu(), &xcrs), -EINVAL);
    EXPECT_EQ(guest.vmx().msrs.xcr0, 7u);
}

TEST_F(StateIoctl, Sregs2CarriesPdptrs)
{
    guest.add_ram(0, 0, 0x10000);
    kvm_sregs2 s;
    ASSERT_EQ(core_get_sregs2(guest.vcpu(), &s), 0);
    EXPECT_EQ(s.flags, 0u);
    s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    EXPECT_EQ(core_set_sregs2(guest.vcpu(), &s), -EINVAL); // no PAE paging
    s.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
    s.cr4 = X86_CR4_PAE;
    s.pdptrs[2] = 0x5001;
    ASSERT_EQ(core_set_sregs2(guest.vcpu(), &s), 0);
    EXPECT_EQ(guest.get(GUEST_PDPTR2), 0x5001u);
    ASSERT_EQ(core_get_sregs2(guest.vcpu(), &s), 0);
    EXPECT_EQ(s.flags, u64{KVM_SREGS2_FLAGS_PDPTRS_VALID});
    EXPECT_EQ(s.pdptrs[2], 0x5001u);
    s.flags = 2;
    EXPECT_EQ(core_set_sregs2(guest.vcpu(), &s), -EINVAL);
}

// ---- Machine checks ----

TEST_F(StateIoctl, MachineCheckBanks)
{
    const u64 supported = core_mce_capability();
    for (const u64 bad : {u64{0}, u64{33}, u64{10} | bit64(9), u64{10} | bit64(63)})
        EXPECT_EQ(core_setup_mce(guest.vcpu(), bad), -EINVAL) << bad;
    ASSERT_EQ(core_setup_mce(guest.vcpu(), supported | 10), 0);
    EXPECT_EQ(guest.rdmsr(0x179), supported | 10);
    EXPECT_EQ(guest.rdmsr(0x17b), ~u64{0});
    EXPECT_EQ(guest.rdmsr(0x400 + 4 * 10), std::nullopt);
    EXPECT_TRUE(guest.wrmsr(0x17b, 0));
    EXPECT_FALSE(guest.wrmsr(0x17b, 1));
}

TEST_F(StateIoctl, UncorrectedErrors)
{
    ASSERT_EQ(core_setup_mce(guest.vcpu(), core_mce_capability() | 10), 0);
    kvm_x86_mce mce{};
    mce.status = bit64(63) | bit64(61);
    mce.mcg_status = 5;
    mce.addr = 0x1000;
    EXPECT_EQ(core_set_mce(guest.vcpu(), &mce), 0);
    EXPECT_TRUE(guest.vmx().triple_fault); // CR4.MCE is off
    guest.vmx().triple_fault = false;
    ASSERT_TRUE(set_cr4(guest.vmx(), X86_CR4_MCE));
    EXPECT_EQ(core_set_mce(guest.vcpu(), &mce), 0);
    EXPECT_EQ(guest.exception(), MC_VECTOR);
    EXPECT_EQ(msr_by_host(0x401), mce.status);
    EXPECT_EQ(msr_by_host(0x17a), 5u);
    EXPECT_EQ(core_set_mce(guest.vcpu(), &mce), 0); // another one meanwhile
    EXPECT_TRUE(guest.vmx().triple_fault);
    mce.bank = 10;
    EXPECT_EQ(core_set_mce(guest.vcpu(), &mce), -EINVAL);
    mce.bank = 0;
    mce.status = 1;
    EXPECT_EQ(core_set_mce(guest.vcpu(), &mce), -EINVAL);
}

// ---- RESET and INIT ----

TEST_F(StateIoctl, InitKeepsMsrsAndCacheBits)
{
    guest.enter_long_mode();
    ASSERT_EQ(set_msr_by_host(MSR_STAR, 0x1234), 1);
    ASSERT_EQ(set_msr_by_host(MSR_IA32_SYSENTER_CS, 0x10), 1);
    guest.vmx().msrs.xcr0 = 7;
    guest.vmx().last_vmentry_cpu = 0;
    inject_ud(guest.vmx());
    guest.vmx().nmi_pending = 1;
    reset_guest_state(guest.vmx(), true);
    EXPECT_EQ(guest_cr0(guest.vmx()), u64{X86_CR0_ET}); // CD and NW stay as they were: clear
    EXPECT_EQ(guest.vmx().efer, 0u);
    EXPECT_EQ(guest.rip(), 0xfff0u);
    EXPECT_EQ(guest.sregs().cs.selector, 0xf000);
    EXPECT_EQ(guest.exception(), -1);
    EXPECT_EQ(guest.vmx().nmi_pending, 0);
    EXPECT_EQ(msr_by_host(MSR_STAR), 0x1234u);
    EXPECT_EQ(msr_by_host(MSR_IA32_SYSENTER_CS), 0x10u);
    EXPECT_EQ(guest.vmx().msrs.xcr0, 7u);
    EXPECT_EQ(guest.vmx().last_vmentry_cpu, 0u);
    reset_guest_state(guest.vmx());
    EXPECT_EQ(guest_cr0(guest.vmx()), X86_CR0_ET | X86_CR0_NW | X86_CR0_CD);
}

} // namespace
} // namespace minivmx::test
