// SPDX-License-Identifier: GPL-2.0-only
#include "state_support.hpp"

#include <set>

#include <minivmx/control_shadow.hpp>

namespace minivmx::test {
namespace {

// ---- Reset ----

TEST(Reset, GeneralRegisters)
{
    StateGuest guest;
    kvm_regs regs;
    ASSERT_EQ(core_get_regs(guest.vcpu(), &regs), 0);
    EXPECT_EQ(regs.rip, 0xfff0u);
    EXPECT_EQ(regs.rflags, 2u);
    EXPECT_EQ(regs.rdx, 0x600u);
    EXPECT_EQ(regs.rax | regs.rbx | regs.rcx | regs.rsi | regs.rdi | regs.rsp | regs.rbp, 0u);
    EXPECT_EQ(regs.r8 | regs.r9 | regs.r10 | regs.r11 | regs.r12 | regs.r13 | regs.r14 | regs.r15,
              0u);
}

TEST(Reset, SegmentsAndTables)
{
    StateGuest guest;
    const kvm_sregs s = guest.sregs();
    EXPECT_EQ(s.cs.selector, 0xf000);
    EXPECT_EQ(s.cs.base, 0xffff0000u);
    EXPECT_EQ(s.cs.type, 0xb);
    for (const kvm_segment *segment : {&s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
        EXPECT_EQ(segment->selector, 0);
        EXPECT_EQ(segment->base, 0u);
        EXPECT_EQ(segment->type, 3);
    }
    for (const kvm_segment *segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
        EXPECT_EQ(segment->limit, 0xffffu);
        EXPECT_EQ(segment->s, 1);
        EXPECT_EQ(segment->present, 1);
        EXPECT_EQ(segment->dpl, 0);
        EXPECT_EQ(segment->unusable, 0);
        EXPECT_EQ(segment->g | segment->db | segment->l | segment->avl, 0);
    }
    EXPECT_EQ(s.tr.type, 0xb);
    EXPECT_EQ(s.tr.limit, 0xffffu);
    EXPECT_EQ(s.ldt.type, 2);
    EXPECT_EQ(s.ldt.limit, 0xffffu);
    EXPECT_EQ(s.gdt.limit, 0xffff);
    EXPECT_EQ(s.idt.limit, 0xffff);
    EXPECT_EQ(s.gdt.base | s.idt.base, 0u);
    EXPECT_EQ(s.cr0, 0x60000010u);
    EXPECT_EQ(s.cr2 | s.cr3 | s.cr4 | s.cr8 | s.efer, 0u);
    EXPECT_EQ(s.apic_base, 0xfee00900u);
    EXPECT_EQ(s.interrupt_bitmap[0] | s.interrupt_bitmap[1] | s.interrupt_bitmap[2] |
                  s.interrupt_bitmap[3],
              0u);
}

TEST(Reset, DebugRegistersAndActivity)
{
    StateGuest guest;
    EXPECT_EQ(guest.area().dr6, 0xffff0ff0u);
    EXPECT_EQ(guest.area().dr7, 0x400u);
    EXPECT_EQ(guest.get(GUEST_DR7), 0x400u);
    EXPECT_EQ(guest.area().switch_db_regs, 0u);
    EXPECT_EQ(guest.get(GUEST_ACTIVITY_STATE), 0u);
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), 0u);
    EXPECT_EQ(guest.vmx().msrs.xcr0, 1u);
    EXPECT_EQ(guest.vmx().last_vmentry_cpu, kNoCpu);
}

// ---- KVM_GET_REGS, KVM_SET_REGS ----

TEST(Regs, EveryRegisterHasItsPlace)
{
    StateGuest guest;
    kvm_regs set{};
    u64 *const words = reinterpret_cast<u64 *>(&set);
    for (unsigned i = 0; i < sizeof(set) / 8; i++)
        words[i] = 0x1111111111111111u * (i % 14 + 1);
    set.rflags = 0x202;
    ASSERT_EQ(core_set_regs(guest.vcpu(), &set), 0);
    kvm_regs got;
    ASSERT_EQ(core_get_regs(guest.vcpu(), &got), 0);
    EXPECT_EQ(std::memcmp(&set, &got, sizeof(set)), 0);
    EXPECT_EQ(guest.reg(kRax), set.rax);
    EXPECT_EQ(guest.reg(kRcx), set.rcx);
    EXPECT_EQ(guest.reg(kRdx), set.rdx);
    EXPECT_EQ(guest.reg(kRbx), set.rbx);
    EXPECT_EQ(guest.reg(kRbp), set.rbp);
    EXPECT_EQ(guest.reg(kRsi), set.rsi);
    EXPECT_EQ(guest.reg(kRdi), set.rdi);
    EXPECT_EQ(guest.reg(kR15), set.r15);
    EXPECT_EQ(read_rsp(guest.vmx()), set.rsp);
    EXPECT_EQ(guest.vmx().state_dirty, u32{kStateRip} | kStateRsp);
    EXPECT_EQ(guest.get(GUEST_RFLAGS), 0x202u);
}

TEST(Regs, Bit1OfTheFlagsIsAlwaysSet)
{
    StateGuest guest;
    kvm_regs regs{};
    ASSERT_EQ(core_set_regs(guest.vcpu(), &regs), 0);
    EXPECT_EQ(guest.get(GUEST_RFLAGS), 2u);
}

TEST(Regs, SettingThemForgetsAPendingException)
{
    StateGuest guest;
    const kvm_regs regs{};
    inject_gp(guest.vmx());
    ASSERT_EQ(core_set_regs(guest.vcpu(), &regs), 0);
    EXPECT_FALSE(guest.vmx().exception.pending);
    // One whose delivery had begun belongs to the past: it goes on.
    guest.vmx().exception.pending = guest.vmx().exception.reinject = true;
    ASSERT_EQ(core_set_regs(guest.vcpu(), &regs), 0);
    EXPECT_TRUE(guest.vmx().exception.pending);
}

TEST(Regs, AreReadFromTheVmcsOnceAnExit)
{
    StateGuest guest;
    guest.set(GUEST_RIP, 0x1234);
    guest.set(GUEST_RSP, 0x5678);
    guest.set(GUEST_RFLAGS, 0x246);
    guest.machine.vmreads = 0;
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(read_rip(guest.vmx()), 0x1234u);
        EXPECT_EQ(read_gpr(guest.vmx(), kRsp), 0x5678u);
        EXPECT_EQ(read_rflags(guest.vmx()), 0x246u);
    }
    EXPECT_EQ(guest.machine.vmreads, 3u);
}

// ---- Segments ----

TEST(SegmentFormat, AccessRightsBothWays)
{
    for (u32 rights = 0; rights < 0x20000; rights++) {
        if (rights & 0xf00) // reserved
            continue;
        kvm_segment segment{};
        set_access_rights(segment, rights);
        EXPECT_EQ(segment.present, (rights & AR_UNUSABLE) == 0);
        const u32 expected = (rights & ~AR_PRESENT) | (rights & AR_UNUSABLE ? 0 : AR_PRESENT);
        ASSERT_EQ(segment_access_rights(segment), expected) << std::hex << rights;
    }
}

TEST(SegmentFormat, NotPresentIsUnusable)
{
    kvm_segment segment{};
    segment.type = 3;
    segment.s = 1;
    EXPECT_EQ(segment_access_rights(segment), 0x10013u);
    segment.present = 1;
    EXPECT_EQ(segment_access_rights(segment), 0x93u);
    segment.unusable = 1;
    EXPECT_EQ(segment_access_rights(segment), 0x10093u);
}

TEST(SegmentFormat, OnlyTheirBitsCount)
{
    kvm_segment segment{};
    std::memset(&segment, 0xff, sizeof(segment));
    EXPECT_EQ(segment_access_rights(segment), 0x1f0ffu);
}

TEST(SegmentFormat, AccessedIsSetWhereRealModeRunsDirectly)
{
    kvm_segment segment{};
    segment.type = 2;
    segment.s = segment.present = 1;
    {
        StateGuest guest;
        write_segment(guest.vmx(), kDs, segment);
        EXPECT_EQ(guest.get(GUEST_DS_AR_BYTES), 0x93u);
        write_segment(guest.vmx(), kLdtr, segment);
        EXPECT_EQ(guest.get(GUEST_LDTR_AR_BYTES), 0x92u);
    }
    StateGuest guest("corei5_lynnfield_750");
    write_segment(guest.vmx(), kDs, segment);
    EXPECT_EQ(segment_rights(guest.vmx(), kDs), 0x92u);
}

// ---- KVM_GET_SREGS, KVM_SET_SREGS ----

class Sregs : public ::testing::Test {
  protected:
    StateGuest guest;
    vcpu_vmx &vmx = guest.vmx();
    kvm_sregs long_mode()
    {
        kvm_sregs s = guest.sregs();
        s.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET;
        s.cr3 = 0x1000;
        s.cr4 = X86_CR4_PAE;
        s.efer = EFER_LME | EFER_LMA;
        s.cs.l = 1;
        return s;
    }
    /// -EINVAL, and nothing is changed.
    void refused(const kvm_sregs &s)
    {
        const kvm_sregs before = guest.sregs();
        const size_t writes = guest.machine.vmwrites.size();
        EXPECT_EQ(guest.set_sregs(s), -EINVAL);
        EXPECT_EQ(guest.machine.vmwrites.size(), writes);
        const kvm_sregs after = guest.sregs();
        EXPECT_EQ(std::memcmp(&before, &after, sizeof(after)), 0);
    }
};

TEST_F(Sregs, RoundTrip)
{
    kvm_sregs s = long_mode();
    s.gdt = {0x1000, 0x7f, {}};
    s.idt = {0xffffffff81000000, 0xfff, {}};
    s.cr2 = 0xdeadbeef000;
    s.cr4 |= X86_CR4_PGE | X86_CR4_OSFXSR;
    s.cr8 = 5;
    s.efer |= EFER_NX | EFER_SCE;
    s.apic_base = 0xfee01800;
    s.fs.base = 0x7f0000000000;
    s.gs.base = 0xffff888000000000;
    s.tr = {0x2000, 0x67, 0x40, 11, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    s.ldt = {};
    s.ldt.unusable = 1;
    s.ss.dpl = 3;
    s.cs.selector = 0x33;
    s.cs.dpl = 3;
    s.cs.g = 1;
    s.cs.limit = 0xffffffff;
    s.interrupt_bitmap[1] = bit64(5);
    ASSERT_EQ(guest.set_sregs(s), 0);
    const kvm_sregs got = guest.sregs();
    EXPECT_EQ(std::memcmp(&s, &got, sizeof(s)), 0);
    EXPECT_TRUE(vmx.interrupt.pending);
    EXPECT_EQ(vmx.interrupt.vector, 69);
    EXPECT_EQ(guest_cpl(vmx), 3u);
    EXPECT_TRUE(is_64_bit_code(vmx));
    EXPECT_TRUE(vm_entry_controls_get(vmx.vmcs01) & VM_ENTRY_IA32E_MODE);
    EXPECT_EQ(guest.area().cr2, 0xdeadbeef000u);
    EXPECT_NE(vmx.stale_translations, StaleTranslations::kNone);
}

TEST_F(Sregs, LongModeNeedsPaeAndLma)
{
    kvm_sregs s = long_mode();
    s.cr4 = 0;
    refused(s);
    s = long_mode();
    s.efer = EFER_LME;
    refused(s);
    s = long_mode();
    s.cr3 = bit64(36); // MAXPHYADDR without CPUID is 36
    refused(s);
    EXPECT_EQ(guest.set_sregs(long_mode()), 0);
}

TEST_F(Sregs, NoLmaAnd64BitCodeOutsideLongMode)
{
    kvm_sregs s = guest.sregs();
    s.efer = EFER_LMA;
    refused(s);
    s = guest.sregs();
    s.efer = EFER_LMA | EFER_LME;
    refused(s);
    s = guest.sregs();
    s.cs.l = 1;
    refused(s);
    s = guest.sregs();
    s.efer = EFER_LME; // waiting for paging is fine
    EXPECT_EQ(guest.set_sregs(s), 0);
}

TEST_F(Sregs, ControlRegistersNoCpuHas)
{
    for (const u64 cr0 :
         {bit64(32), X86_CR0_NW, X86_CR0_PG | X86_CR0_ET, X86_CR0_PE | X86_CR0_NW}) {
        kvm_sregs s = guest.sregs();
        s.cr0 = cr0;
        refused(s);
    }
    for (const u64 bit :
         {X86_CR4_VMXE, X86_CR4_PKE, X86_CR4_LA57, X86_CR4_CET, bit64(15), bit64(63)}) {
        kvm_sregs s = guest.sregs();
        s.cr4 = bit;
        refused(s);
    }
}

TEST_F(Sregs, Cr4OfTheGuestsCpuid)
{
    kvm_sregs s = guest.sregs();
    s.cr4 = X86_CR4_SMEP;
    EXPECT_EQ(guest.set_sregs(s), 0) << "no CPUID yet: what the CPU has";
    s.cr4 = 0;
    EXPECT_EQ(guest.set_sregs(s), 0);
    auto entries = guest.supported();
    find(entries, 7)->ebx &= ~bit32(7);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    s.cr4 = X86_CR4_SMEP;
    refused(s);
}

TEST_F(Sregs, ApicBase)
{
    for (const u64 base :
         {u64{0xfee00901}, u64{0xfee00a00}, bit64(36) | 0xfee00900, u64{0xfee00400}}) {
        kvm_sregs s = guest.sregs();
        s.apic_base = base;
        refused(s);
    }
    kvm_sregs s = guest.sregs();
    s.apic_base = 0xfee00d00;
    refused(s); // x2APIC without its CPUID bit
    auto entries = guest.supported();
    find(entries, 1)->ecx |= bit32(21);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    EXPECT_EQ(guest.set_sregs(s), 0);
    s.apic_base = 0xfee00900; // a client may do what the guest may not
    EXPECT_EQ(guest.set_sregs(s), 0);
}

TEST_F(Sregs, Cr8OutOfRangeIsIgnored)
{
    kvm_sregs s = guest.sregs();
    s.cr8 = 7;
    EXPECT_EQ(guest.set_sregs(s), 0);
    s.cr8 = 16;
    EXPECT_EQ(guest.set_sregs(s), 0);
    EXPECT_EQ(guest.sregs().cr8, 7u);
}

TEST_F(Sregs, LowestInterruptOfTheBitmap)
{
    kvm_sregs s = guest.sregs();
    ASSERT_EQ(guest.set_sregs(s), 0);
    EXPECT_FALSE(vmx.interrupt.pending);
    s.interrupt_bitmap[3] = bit64(63);
    ASSERT_EQ(guest.set_sregs(s), 0);
    EXPECT_EQ(vmx.interrupt.vector, 255);
    s.interrupt_bitmap[0] = bit64(33);
    ASSERT_EQ(guest.set_sregs(s), 0);
    EXPECT_EQ(vmx.interrupt.vector, 33);
    vmx.interrupt.soft = true; // INT n is not a pending interrupt
    EXPECT_EQ(guest.sregs().interrupt_bitmap[0], 0u);
}

TEST_F(Sregs, ReservedBitsThatVmEntryWillRefuseAreKept)
{
    // KVM accepts them too; the failed entry tells what is wrong.
    kvm_sregs s = guest.sregs();
    s.efer = bit64(9);
    s.cr0 |= bit64(6);
    EXPECT_EQ(guest.set_sregs(s), 0);
    EXPECT_EQ(guest.sregs().efer, bit64(9));
    EXPECT_EQ(guest.sregs().cr0, 0x60000050u);
}

TEST_F(Sregs, PaeLoadsTheDirectoryPointers)
{
    guest.add_ram(0, 0, 0x10000);
    guest.poke<u64>(0x1000, 0x2001);
    kvm_sregs s = guest.sregs();
    s.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET;
    s.cr3 = 0x1000;
    s.cr4 = X86_CR4_PAE;
    EXPECT_EQ(guest.set_sregs(s), 0);
    EXPECT_EQ(guest.get(GUEST_PDPTR0), 0x2001u);
    // Bad ones leave the old ones in place.
    guest.poke<u64>(0x1000, 0x3003);
    EXPECT_EQ(guest.set_sregs(s), 0);
    EXPECT_EQ(guest.get(GUEST_PDPTR0), 0x2001u);
}

// ---- Going behind an instruction ----

TEST(Skip, MovesRipAndEndsTheInterruptShadow)
{
    StateGuest guest;
    guest.set(GUEST_INTERRUPTIBILITY_INFO, 0xf);
    guest.instruction(0x7c00, 2);
    skip_emulated_instruction(guest.vmx());
    EXPECT_EQ(guest.rip(), 0x7c02u);
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), 0xcu);
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
}

TEST(Skip, EipWrapsOutside64BitCode)
{
    StateGuest guest;
    guest.instruction(0xfffffffe, 3);
    skip_emulated_instruction(guest.vmx());
    EXPECT_EQ(guest.rip(), 1u);
    guest.enter_long_mode();
    guest.instruction(0xfffffffe, 3);
    skip_emulated_instruction(guest.vmx());
    EXPECT_EQ(guest.rip(), 0x100000001u);
    guest.instruction(0xffffffff7ffffffe, 3); // bit 31 the other way
    skip_emulated_instruction(guest.vmx());
    EXPECT_EQ(guest.rip(), 0xffffffff80000001u);
}

TEST(Skip, SingleStepTrapsAfterAnEmulatedInstruction)
{
    StateGuest guest;
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_TF | X86_EFLAGS_RF);
    guest.instruction(0x7c00, 2);
    skip_emulated_instruction(guest.vmx());
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), bit64(14));
    EXPECT_EQ(guest.get(GUEST_RFLAGS), X86_EFLAGS_FIXED | X86_EFLAGS_TF);
    guest.set(GUEST_PENDING_DBG_EXCEPTIONS, 0);
    guest.instruction(0x7c00, 1);
    step_over_instruction(guest.vmx());
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
    EXPECT_EQ(guest.rip(), 0x7c01u);
}

// ---- KVM_CHECK_EXTENSION, KVM_ENABLE_CAP ----

TEST(Extensions, VcpuIdsAreLimitedOnce)
{
    StateGuest guest; // its vCPU was created without asking
    core_vm *vm = guest.host().core;
    auto enable = [vm](u64 count, u32 flags = 0) {
        kvm_enable_cap cap{};
        cap.cap = KVM_CAP_MAX_VCPU_ID;
        cap.flags = flags;
        cap.args[0] = count;
        return core_vm_enable_cap(vm, &cap);
    };
    EXPECT_EQ(enable(8, 1), -EINVAL);
    EXPECT_EQ(enable(4097), -EINVAL);
    EXPECT_EQ(enable(u64{1} << 32), -EINVAL);
    EXPECT_EQ(enable(0), 0) << "says nothing";
    EXPECT_EQ(enable(8), 0);
    EXPECT_EQ(enable(8), 0);
    EXPECT_EQ(enable(9), -EINVAL);
    EXPECT_EQ(enable(0), -EINVAL);
    EXPECT_EQ(core_check_vcpu_id(vm, 7), 0);
    EXPECT_EQ(core_check_vcpu_id(vm, 8), -EINVAL);

    guest.kvm().max_vcpu_ids = 0; // as in another VM
    EXPECT_EQ(core_check_vcpu_id(vm, 4095), 0) << "and so it is decided";
    EXPECT_EQ(enable(8), -EINVAL);
    EXPECT_EQ(enable(4096), 0);
}

TEST(Extensions, WhatIsHere)
{
    StateGuest guest;
    const std::map<u64, int> values = {
        {KVM_CAP_NR_VCPUS, 1},
        {KVM_CAP_MAX_VCPUS, 1024},
        {KVM_CAP_MAX_VCPU_ID, 4096},
        {KVM_CAP_NR_MEMSLOTS, 32764},
        {KVM_CAP_X86_DISABLE_EXITS, 0xf},
        {KVM_CAP_COALESCED_MMIO, 2},
        {KVM_CAP_IRQ_ROUTING, 4096},
        {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3},
        {KVM_CAP_MCE, 32},
        {KVM_CAP_XSAVE2, 4096},
        {KVM_CAP_ADJUST_CLOCK, 0xe},
        {KVM_CAP_SYNC_REGS, 7},
        {KVM_CAP_X2APIC_API, 3},
        {KVM_CAP_SET_GUEST_DEBUG2, 0x1f0003},
    };
    // Those that tell only that something is there.
    const std::set<u64> flags = {KVM_CAP_HLT,
                                 KVM_CAP_USER_MEMORY,
                                 KVM_CAP_SET_TSS_ADDR,
                                 KVM_CAP_EXT_CPUID,
                                 KVM_CAP_SYNC_MMU,
                                 KVM_CAP_DESTROY_MEMORY_REGION_WORKS,
                                 KVM_CAP_USER_NMI,
                                 KVM_CAP_JOIN_MEMORY_REGIONS_WORKS,
                                 KVM_CAP_SET_IDENTITY_MAP_ADDR,
                                 KVM_CAP_INTERNAL_ERROR_DATA,
                                 KVM_CAP_READONLY_MEM,
                                 KVM_CAP_ENABLE_CAP,
                                 KVM_CAP_ENABLE_CAP_VM,
                                 KVM_CAP_CHECK_EXTENSION_VM,
                                 KVM_CAP_IMMEDIATE_EXIT,
                                 KVM_CAP_LAST_CPU,
                                 KVM_CAP_IRQCHIP,
                                 KVM_CAP_SPLIT_IRQCHIP,
                                 KVM_CAP_IRQ_INJECT_STATUS,
                                 KVM_CAP_IRQFD,
                                 KVM_CAP_IRQFD_RESAMPLE,
                                 KVM_CAP_SIGNAL_MSI,
                                 KVM_CAP_PIT,
                                 KVM_CAP_PIT2,
                                 KVM_CAP_PIT_STATE2,
                                 KVM_CAP_REINJECT_CONTROL,
                                 KVM_CAP_IOEVENTFD,
                                 KVM_CAP_IOEVENTFD_NO_LENGTH,
                                 KVM_CAP_IOEVENTFD_ANY_LENGTH,
                                 KVM_CAP_COALESCED_PIO,
                                 KVM_CAP_MP_STATE,
                                 KVM_CAP_VAPIC,
                                 KVM_CAP_TSC_DEADLINE_TIMER,
                                 KVM_CAP_NOP_IO_DELAY,
                                 KVM_CAP_SET_BOOT_CPU_ID,
                                 KVM_CAP_EXT_EMUL_CPUID,
                                 KVM_CAP_GET_MSR_FEATURES,
                                 KVM_CAP_MSR_PLATFORM_INFO,
                                 KVM_CAP_X86_USER_SPACE_MSR,
                                 KVM_CAP_X86_MSR_FILTER,
                                 KVM_CAP_SREGS2,
                                 KVM_CAP_DEBUGREGS,
                                 KVM_CAP_VCPU_EVENTS,
                                 KVM_CAP_EXCEPTION_PAYLOAD,
                                 KVM_CAP_X86_TRIPLE_FAULT_EVENT,
                                 KVM_CAP_XSAVE,
                                 KVM_CAP_XCRS,
                                 KVM_CAP_SET_GUEST_DEBUG,
                                 KVM_CAP_X86_ROBUST_SINGLESTEP,
                                 KVM_CAP_CLOCKSOURCE,
                                 KVM_CAP_KVMCLOCK_CTRL,
                                 KVM_CAP_GET_TSC_KHZ,
                                 KVM_CAP_TSC_CONTROL,
                                 KVM_CAP_VM_TSC_CONTROL,
                                 KVM_CAP_MMU_SHADOW_CACHE_CONTROL};
    std::map<u64, int> here = values;
    for (const u64 flag : flags)
        here[flag] = 1;
    for (u64 extension = 0; extension < 300; extension++) {
        const auto found = here.find(extension);
        const int expected = found == here.end() ? 0 : found->second;
        EXPECT_EQ(core_check_extension(nullptr, extension), expected) << extension;
        EXPECT_EQ(core_check_extension(guest.host().core, extension), expected) << extension;
    }
    EXPECT_EQ(core_check_extension(nullptr, ~u64{0}), 0);
    EXPECT_EQ(core_check_extension(nullptr, u64{1} << 32 | KVM_CAP_HLT), 0);
}

TEST(Extensions, DisablingExits)
{
    StateGuest guest;
    auto enable = [&](u32 cap, u64 arg, u32 flags = 0) {
        kvm_enable_cap request{};
        request.cap = cap;
        request.flags = flags;
        request.args[0] = arg;
        return core_vm_enable_cap(guest.host().core, &request);
    };
    const kvm_vm &kvm = guest.kvm();
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS, 0), 0);
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS, 0x10), -EINVAL);
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS, u64{1} << 63 | 2), -EINVAL);
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS, 2, 1), -EINVAL);
    EXPECT_EQ(enable(KVM_CAP_USER_MEMORY, 0), -EINVAL);
    EXPECT_EQ(enable(0xffffffff, 0), -EINVAL);
    EXPECT_FALSE(kvm.mwait_in_guest || kvm.hlt_in_guest || kvm.pause_in_guest ||
                 kvm.cstate_in_guest);
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT), 0);
    EXPECT_TRUE(kvm.hlt_in_guest);
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS,
                     KVM_X86_DISABLE_EXITS_PAUSE | KVM_X86_DISABLE_EXITS_MWAIT),
              0);
    EXPECT_TRUE(kvm.hlt_in_guest && kvm.pause_in_guest && kvm.mwait_in_guest);
    EXPECT_FALSE(kvm.cstate_in_guest);
    EXPECT_EQ(enable(KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_CSTATE), 0);
    EXPECT_TRUE(kvm.cstate_in_guest);
}

TEST(Extensions, MwaitIsAcceptedButNotDoneWithoutATimerThatGoesOn)
{
    StateGuest guest("corei7_haswell_4770", [](sim::Machine &machine, Parameters &) {
        machine.host_info.has_arat = false;
    });
    EXPECT_EQ(core_check_extension(nullptr, KVM_CAP_X86_DISABLE_EXITS), 0xe);
    kvm_enable_cap request{};
    request.cap = KVM_CAP_X86_DISABLE_EXITS;
    request.args[0] = 0xf;
    const size_t lines = guest.machine.log.size();
    EXPECT_EQ(core_vm_enable_cap(guest.host().core, &request), 0);
    EXPECT_FALSE(guest.kvm().mwait_in_guest);
    EXPECT_TRUE(guest.kvm().hlt_in_guest);
    ASSERT_EQ(guest.machine.log.size(), lines + 1);
    EXPECT_NE(guest.machine.log.back().text.find("MWAIT"), std::string::npos);
}

TEST(Extensions, CountsOnlineCpus)
{
    StateGuest guest;
    guest.machine.cpus.resize(3);
    guest.machine.cpus[1].online = false;
    EXPECT_EQ(core_check_extension(nullptr, KVM_CAP_NR_VCPUS), 2);
    guest.machine.cpus.resize(1);
}

} // namespace
} // namespace minivmx::test
