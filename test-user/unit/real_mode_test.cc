// SPDX-License-Identifier: GPL-2.0-only
//
// Real mode on a CPU without "unrestricted guest": what virtual-8086 mode hides, what VM entry
// would refuse, and the way between the modes.
#include "guest.hpp"

#include <minivmx/audit.hpp>
#include <minivmx/real_mode.hpp>
#include <minivmx/run.hpp>
#include <minivmx/segment.hpp>
#include <minivmx/state.hpp>

#include <random>

namespace minivmx::test {
namespace {

constexpr u64 kTssAddress = 0xfffbd000, kIdentityMap = 0xfffbc000;
constexpr u32 kPortBitmap = 0x88; // behind the TSS and the map of interrupts

class RealMode : public testing::Test {
  protected:
    explicit RealMode(bool emulate = true)
        : guest("corei7_haswell_4770", [emulate](sim::Machine &, Parameters &p) {
              p.unrestricted_guest = false;
              p.emulate_invalid_guest_state = emulate;
              p.report = 0;
          })
    {
        EXPECT_EQ(core_set_tss_addr(guest.kvm().host->core, kTssAddress), 0);
        guest.add_ram(0, 0, 0x100000);
    }
    kvm_sregs sregs()
    {
        kvm_sregs s;
        EXPECT_EQ(core_get_sregs(&vmx, &s), 0);
        return s;
    }
    /// As a boot loader leaves it: 64-KiB segments at 16 times their selectors.
    void start_at(u16 cs, u16 ip)
    {
        kvm_sregs s = sregs();
        for (kvm_segment *segment : {&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss}) {
            segment->selector = cs;
            segment->base = u64{cs} << 4;
        }
        EXPECT_EQ(core_set_sregs(&vmx, &s), 0);
        guest.set(GUEST_RSP, 0x8000);
        guest.set_rip(ip);
    }
    void code(u64 gpa, const std::vector<u8> &bytes) { guest.poke_bytes(gpa, bytes); }
    /// What a #GP of virtual-8086 mode leads to.
    Outcome general_protection()
    {
        vmx.idt_vectoring_info = 0;
        return handle_real_mode_exception(vmx, GP_VECTOR, 0);
    }

    Guest guest;
    vcpu_vmx &vmx = guest.vmx();
};

TEST_F(RealMode, ResetIsHiddenAndEmulated)
{
    const kvm_sregs s = sregs();
    EXPECT_EQ(s.cs.selector, 0xf000);
    EXPECT_EQ(s.cs.base, 0xffff0000u);
    EXPECT_EQ(s.cs.type, 11);
    EXPECT_EQ(s.cs.dpl, 0);
    EXPECT_EQ(s.tr.base, 0u);
    EXPECT_EQ(s.tr.limit, 0xffffu);
    EXPECT_EQ(read_rflags(vmx), X86_EFLAGS_FIXED);
    EXPECT_EQ(guest_cpl(vmx), 0);
    EXPECT_TRUE(must_emulate(vmx)) << "CS's base is not 16 times its selector";

    EXPECT_TRUE(guest.get(GUEST_RFLAGS) & X86_EFLAGS_VM);
    EXPECT_EQ(guest.get(GUEST_RFLAGS) & X86_EFLAGS_IOPL, X86_EFLAGS_IOPL);
    EXPECT_TRUE(guest.get(GUEST_CR4) & X86_CR4_VME);
    EXPECT_TRUE(guest.get(GUEST_CR0) & X86_CR0_PE);
    EXPECT_EQ(guest.get(GUEST_TR_BASE), kTssAddress);
    EXPECT_EQ(guest.get(GUEST_TR_AR_BYTES), 0x8bu);
    EXPECT_EQ(guest.get(EXCEPTION_BITMAP) | bit32(PF_VECTOR), 0xffffffffu);
    EXPECT_EQ(guest.get(GUEST_CR3), kIdentityMap);
}

TEST_F(RealMode, OrdinarySegmentsEnterAsVirtual8086Mode)
{
    start_at(0x1000, 0);
    EXPECT_FALSE(must_emulate(vmx));
    for (const Segment segment : {kEs, kCs, kSs, kDs, kFs, kGs}) {
        EXPECT_EQ(guest.get(GUEST_ES_AR_BYTES + segment), 0xf3u);
        EXPECT_EQ(guest.get(GUEST_ES_LIMIT + segment), 0xffffu);
        EXPECT_EQ(guest.get(GUEST_ES_BASE + segment), 0x10000u);
        EXPECT_EQ(segment_rights(vmx, segment), segment == kCs ? 0x9bu : 0x93u);
    }
}

TEST_F(RealMode, WhatTheGuestLoadsByItselfIsSeen)
{
    start_at(0x1000, 0);
    guest.set(GUEST_DS_SELECTOR, 0x2345); // MOV DS, AX
    guest.set(GUEST_DS_BASE, 0x23450);
    EXPECT_EQ(segment_base(vmx, kDs), 0x23450u);
    EXPECT_EQ(sregs().ds.selector, 0x2345);
    EXPECT_EQ(sregs().ds.dpl, 0);
    EXPECT_EQ(segment_rights(vmx, kDs), 0x93u);
}

TEST_F(RealMode, FlagsOfTheGuestAreNotThoseOfTheCpu)
{
    start_at(0x1000, 0);
    write_rflags(vmx, X86_EFLAGS_FIXED | 1u << 12 | X86_EFLAGS_IF); // IOPL 1
    EXPECT_EQ(guest.get(GUEST_RFLAGS),
              X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_IOPL | X86_EFLAGS_VM);
    guest.set(GUEST_RFLAGS, guest.get(GUEST_RFLAGS) | X86_EFLAGS_CF);
    EXPECT_EQ(read_rflags(vmx), X86_EFLAGS_FIXED | X86_EFLAGS_CF | 1u << 12 | X86_EFLAGS_IF);
}

TEST_F(RealMode, BigRealModeIsEmulated)
{
    start_at(0x1000, 0);
    SegmentRegister ds = read_segment_register(vmx, kDs);
    ds.limit = 0xffffffff;
    ds.rights |= AR_G;
    write_segment_register(vmx, kDs, ds);
    EXPECT_TRUE(must_emulate(vmx));
    // MOV AX, [ESI] beyond 64 KiB, then a load of DS, which keeps the limit.
    code(0x10000, {0x67, 0x8b, 0x06, 0x8e, 0xd8});
    guest.poke<u16>(0x50000, 0x1234);
    guest.reg(kRsi) = 0x40000;
    guest.reg(kRax) = 0;
    ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_EQ(guest.reg(kRax), 0x1234u);
    ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_EQ(segment_base(vmx, kDs), 0x12340u);
    EXPECT_EQ(segment_limit(vmx, kDs), 0xffffffffu);
    EXPECT_TRUE(must_emulate(vmx));
}

// MOV CR0 to protected mode, far jump, segments, and the way back.
TEST_F(RealMode, ToProtectedModeAndBack)
{
    constexpr u64 kGdt = 0x500;
    guest.poke<u64>(kGdt + 8, 0x00cf9b000000ffff);
    guest.poke<u64>(kGdt + 16, 0x00cf93000000ffff);
    guest.poke<u64>(kGdt + 24, 0x00009b000000ffff); // 16 bits, 64 KiB
    guest.poke<u64>(kGdt + 32, 0x000093000000ffff);
    guest.set(GUEST_GDTR_BASE, kGdt);
    guest.set(GUEST_GDTR_LIMIT, 39);
    start_at(0, 0x1000);
    guest.reg(kRax) = X86_CR0_PE | X86_CR0_ET;
    code(0x1000, {0x0f, 0x22, 0xc0});                   // MOV CR0, EAX
    code(0x1003, {0xea, 0x00, 0x20, 0x08, 0x00});       // JMP 8:2000
    code(0x2000, {0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0}); // MOV DS, ES, SS
    ASSERT_TRUE(general_protection().resumes());
    EXPECT_FALSE(vmx.vm86_active);
    EXPECT_FALSE(guest.get(GUEST_RFLAGS) & X86_EFLAGS_VM);
    EXPECT_FALSE(guest.get(GUEST_CR4) & X86_CR4_VME);
    EXPECT_EQ(guest.get(GUEST_TR_BASE), 0u);
    EXPECT_EQ(segment_rights(vmx, kSs), 0x93u);
    EXPECT_EQ(read_rip(vmx), 0x1003u);
    ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_EQ(sregs().cs.selector, 8);
    EXPECT_EQ(read_rip(vmx), 0x2000u);
    guest.reg(kRax) = 16;
    for (int i = 0; i < 3; i++)
        ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_FALSE(must_emulate(vmx));

    // Back: 16-bit segments first, so that real mode finds 64 KiB.
    guest.reg(kRax) = 32;
    guest.reg(kRbx) = X86_CR0_ET;
    code(0x2006, {0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0});             // MOV DS, ES, SS
    code(0x200c, {0xea, 0x00, 0x30, 0x00, 0x00, 0x18, 0x00});       // JMP 18:3000
    code(0x3000, {0x0f, 0x22, 0xc3, 0xea, 0x00, 0x40, 0x00, 0x00}); // MOV CR0, EBX; JMP 0:4000
    code(0x4000, {0x8e, 0xd9, 0x8e, 0xc1, 0x8e, 0xd1});             // MOV DS, ES, SS = CX
    guest.reg(kRcx) = 0;
    for (int i = 0; i < 5; i++)
        ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_TRUE(vmx.vm86_active);
    EXPECT_TRUE(must_emulate(vmx)) << "CS is still protected mode's";
    EXPECT_EQ(sregs().cs.selector, 0x18);
    for (int i = 0; i < 4; i++)
        ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_FALSE(must_emulate(vmx));
    EXPECT_EQ(sregs().cs.base, 0u);
    EXPECT_EQ(read_rip(vmx), 0x4006u);
}

TEST_F(RealMode, EventsGoThroughTheInterruptTable)
{
    start_at(0x1000, 0x20);
    guest.poke<u32>(0x20 * 4, 0x20000042);
    write_rflags(vmx, X86_EFLAGS_FIXED | X86_EFLAGS_IF);
    ASSERT_EQ(core_interrupt(&vmx, 0x20), 0);
    inject_pending_events(vmx);
    EXPECT_EQ(guest.get(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID, 0u);
    EXPECT_FALSE(vmx.interrupt.pending);
    EXPECT_EQ(sregs().cs.selector, 0x2000);
    EXPECT_EQ(read_rip(vmx), 0x42u);
    EXPECT_EQ(guest.peek<u16>(0x10000 + 0x7ffa), 0x20);
    EXPECT_EQ(guest.peek<u16>(0x10000 + 0x7ffc), 0x1000);
    EXPECT_EQ(guest.peek<u16>(0x10000 + 0x7ffe), X86_EFLAGS_FIXED | X86_EFLAGS_IF);
    EXPECT_FALSE(read_rflags(vmx) & X86_EFLAGS_IF);
}

// INT n of virtual-8086 mode goes through the table at 0, that of real mode wherever the IDTR says.
TEST_F(RealMode, AnotherInterruptTableIsEmulated)
{
    code(0x10000, {0x0f, 0x01, 0x1e, 0x00, 0x02}); // LIDT [200]
    code(0x10005, {0xcd, 0x21});
    guest.poke<u16>(0x10200, 0x3ff);
    guest.poke<u32>(0x10202, 0x600);
    guest.poke<u32>(0x600 + 0x21 * 4, 0x20000077);
    start_at(0x1000, 0);
    EXPECT_FALSE(must_emulate(vmx));
    ASSERT_TRUE(general_protection().resumes());
    EXPECT_TRUE(must_emulate(vmx));
    ASSERT_TRUE(emulate_instruction(vmx).resumes());
    EXPECT_EQ(read_rip(vmx), 0x77u);
    EXPECT_EQ(segment_selector(vmx, kCs), 0x2000);
}

// A single-step trap comes before the interrupt that waits.
TEST_F(RealMode, TrapsComeBeforeInterrupts)
{
    guest.poke<u32>(DB_VECTOR * 4, 0x30000010);
    start_at(0x1000, 0x20);
    write_rflags(vmx, X86_EFLAGS_FIXED | X86_EFLAGS_TF | X86_EFLAGS_IF);
    finish_instruction(vmx, 2);
    ASSERT_TRUE(deliver_pending_traps(vmx).resumes());
    EXPECT_EQ(guest.get(GUEST_PENDING_DBG_EXCEPTIONS), 0u);
    ASSERT_EQ(core_interrupt(&vmx, 0x20), 0);
    inject_pending_events(vmx);
    EXPECT_EQ(read_rip(vmx), 0x10u);
    EXPECT_EQ(guest.peek<u16>(0x10000 + 0x7ffa), 0x22);
    EXPECT_TRUE(guest.area().dr6 & DR6_BS);
    EXPECT_TRUE(vmx.interrupt.pending);
}

TEST_F(RealMode, BreakpointReturnsBehindTheInstruction)
{
    guest.poke<u32>(BP_VECTOR * 4, 0x30000010);
    guest.set(VM_EXIT_INSTRUCTION_LEN, 1);
    guest.set(VM_EXIT_INTR_INFO, INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR);
    start_at(0x1000, 0x20);
    vmx.exit_reason = EXIT_REASON_EXCEPTION_NMI;
    vmx.idt_vectoring_info = 0;
    ASSERT_TRUE(handle_exception_nmi(vmx).resumes());
    inject_pending_events(vmx);
    EXPECT_EQ(read_rip(vmx), 0x10u);
    EXPECT_EQ(guest.peek<u16>(0x10000 + 0x7ffa), 0x21);
}

TEST_F(RealMode, AnEventWithoutMemoryIsToldAndATripleFaultShutsDown)
{
    start_at(0x1000, 0);
    SegmentRegister ss = read_segment_register(vmx, kSs);
    ss.base = 0x200000; // nothing there
    write_segment_register(vmx, kSs, ss);
    inject_ud(vmx);
    inject_pending_events(vmx);
    EXPECT_TRUE(vmx.undeliverable & INTR_INFO_VALID);
    vmx.undeliverable = 0;

    vmx.exception = {};
    vmcs_write(GUEST_IDTR_LIMIT, 0);
    inject_ud(vmx);
    inject_pending_events(vmx);
    EXPECT_TRUE(vmx.triple_fault);
    vmx.triple_fault = false;
}

TEST_F(RealMode, LoadingANullSegmentMakesItUsable)
{
    start_at(0x1000, 0);
    kvm_segment none{};
    none.unusable = 1;
    write_segment(vmx, kFs, none);
    EXPECT_TRUE(must_emulate(vmx));
    load_real_mode_segment(vmx, kFs, 0x77);
    EXPECT_EQ(segment_rights(vmx, kFs), 0x93u);
    EXPECT_EQ(segment_base(vmx, kFs), 0x770u);
}

// ---- Private pages ----

TEST_F(RealMode, TheCpuFindsIdentityMapAndTaskState)
{
    const u32 *map = static_cast<const u32 *>(private_page(guest.kvm(), kIdentityMap >> 12));
    ASSERT_NE(map, nullptr);
    EXPECT_EQ(map[0], 0xe7u);
    EXPECT_EQ(map[1023], 0xffc000e7u);
    u8 tss[3 * 4096];
    for (u32 i = 0; i < 3; i++) {
        const void *page = private_page(guest.kvm(), (kTssAddress >> 12) + i);
        ASSERT_NE(page, nullptr);
        std::memcpy(tss + 4096 * i, page, 4096);
    }
    u16 map_base;
    std::memcpy(&map_base, tss + 0x66, 2);
    EXPECT_EQ(map_base, kPortBitmap);
    for (u32 i = kPortBitmap; i < kRealModeTssLimit; i++)
        ASSERT_EQ(tss[i], 0) << i;
    EXPECT_EQ(tss[kRealModeTssLimit], 0xff);
    EXPECT_EQ(guest.get(GUEST_TR_LIMIT), kRealModeTssLimit);

    // They are mapped like memory, and no slot may hide them.
    ASSERT_TRUE(guest.ept_violation(kTssAddress, kEptViolationRead).resumes());
    unsigned level;
    EXPECT_NE(ept_lookup(guest.kvm().ept, kTssAddress >> 12, level), 0u);
    const u64 hva = guest.machine.add_user_memory(4096);
    EXPECT_EQ(guest.set_region(5, kTssAddress + 0x2000, 4096, hva), -EEXIST);
    EXPECT_EQ(guest.set_region(5, kIdentityMap, 4096, hva), -EEXIST);
    EXPECT_EQ(guest.set_region(5, kTssAddress + 0x3000, 4096, hva), 0);
    EXPECT_EQ(core_set_tss_addr(guest.kvm().host->core, 0xd0000), -EEXIST) << "once only";
}

TEST(PrivatePages, ASlotIsInTheWay)
{
    Guest guest("corei7_haswell_4770",
                [](sim::Machine &, Parameters &p) { p.unrestricted_guest = false; });
    guest.add_ram(0, 0xd0000, 0x10000);
    EXPECT_EQ(core_set_tss_addr(guest.host().core, 0xce000), -EEXIST);
    EXPECT_EQ(core_set_tss_addr(guest.host().core, 0xcd800), -EINVAL);
    EXPECT_EQ(core_set_tss_addr(guest.host().core, 0xcd000), 0);
    EXPECT_EQ(guest.kvm().tss_addr, 0xcd000u);
}

TEST(PrivatePages, WithoutATaskStateAllOfRealModeIsEmulated)
{
    Guest guest("corei7_haswell_4770",
                [](sim::Machine &, Parameters &p) { p.unrestricted_guest = false; });
    load_real_mode_segment(guest.vmx(), kCs, 0);
    EXPECT_TRUE(must_emulate(guest.vmx()));
    EXPECT_EQ(core_set_tss_addr(guest.host().core, kTssAddress), 0);
    EXPECT_FALSE(must_emulate(guest.vmx()));
    EXPECT_EQ(guest.get(GUEST_TR_BASE), kTssAddress);
}

// ---- emulate_invalid_guest_state=0 ----

class Forced : public RealMode {
  protected:
    Forced() : RealMode(false) {}
};

TEST_F(Forced, SegmentsAreBentInsteadOfEmulated)
{
    EXPECT_FALSE(must_emulate(vmx));
    SegmentRegister ds = read_segment_register(vmx, kDs);
    ds.base = 0x12345;
    ds.selector = 0x99;
    ds.limit = 0xffffffff;
    ds.rights |= AR_G;
    write_segment_register(vmx, kDs, ds);
    EXPECT_FALSE(must_emulate(vmx));
    EXPECT_EQ(guest.get(GUEST_DS_SELECTOR), 0x1234u);
    EXPECT_EQ(guest.get(GUEST_DS_BASE), 0x12340u);
    EXPECT_EQ(guest.get(GUEST_DS_LIMIT), 0xffffu);
    EXPECT_EQ(guest.get(GUEST_DS_AR_BYTES), 0xf3u);
}

// ---- Validity ----

std::string violations_of_segments()
{
    std::string found;
    AuditSink sink;
    sink.context = &found;
    sink.report = [](void *context, const AuditFinding &finding) {
        const u32 field = finding.check->field;
        const bool segment =
            (field >= GUEST_ES_SELECTOR.encoding && field <= GUEST_TR_SELECTOR.encoding) ||
            (field >= GUEST_ES_LIMIT.encoding && field <= GUEST_TR_LIMIT.encoding) ||
            (field >= GUEST_ES_AR_BYTES.encoding && field <= GUEST_TR_AR_BYTES.encoding) ||
            (field >= GUEST_ES_BASE.encoding && field <= GUEST_TR_BASE.encoding);
        if (segment && finding.verdict == AuditVerdict::kViolated)
            *static_cast<std::string *>(context) += std::string(finding.check->name) + " ";
    };
    audit_vmcs(audit_current_vmcs(), sink);
    return found;
}

/// A segment of the kinds that guests have: bits that no guest can set are as VM entry wants them.
SegmentRegister random_segment(std::mt19937_64 &random, Segment which, bool virtual_8086)
{
    SegmentRegister segment;
    const bool often = random() % 8 != 0;
    const u32 dpl = random() % 2 ? 0 : random() % 4;
    segment.selector = static_cast<u16>(often ? 8 * (random() % 4) + dpl : random() % 0x10000);
    segment.rights = (random() % 2 ? 3 : static_cast<u32>(random() % 16)) | dpl << AR_DPL_SHIFT;
    if (which == kCs && often)
        segment.rights |= 8;
    if (which == kTr && often)
        segment.rights = random() % 2 ? 11 : 3;
    if (which == kLdtr && often)
        segment.rights = 2;
    segment.rights |= which < kLdtr && often ? AR_S : 0;
    segment.rights |= often || random() % 2 ? AR_PRESENT : AR_UNUSABLE;
    if (which == kTr && often)
        segment.selector &= ~4;
    segment.limit = random() % 4 ? 0xffff : 0x1234;
    segment.base = random() % 4 ? u64{segment.selector} << 4 : random() % 0x100000;
    if (virtual_8086 && which < kLdtr && random() % 32) {
        segment.rights = 0xf3;
        segment.limit = 0xffff;
        segment.base = u64{segment.selector} << 4;
    }
    return segment;
}

// What is found valid is what the audit of a VM entry, which has all of the architecture's checks
// one by one, finds nothing wrong with.
TEST_F(RealMode, ValidIsWhatVmEntryTakes)
{
    start_at(0, 0);
    kvm_sregs s = sregs();
    s.cr0 |= X86_CR0_PE;
    ASSERT_EQ(core_set_sregs(&vmx, &s), 0);
    ASSERT_FALSE(vmx.vm86_active);
    std::mt19937_64 random(1);
    u32 valid = 0;
    for (int trial = 0; trial < 2000; trial++) {
        const bool virtual_8086 = trial % 4 == 0;
        write_rflags(vmx, X86_EFLAGS_FIXED | (virtual_8086 ? X86_EFLAGS_VM : 0));
        const u32 cpl = random() % 3 ? 0 : random() % 4;
        for (u32 i = kEs; i <= kTr; i++) {
            SegmentRegister segment = random_segment(random, static_cast<Segment>(i), virtual_8086);
            if (!virtual_8086 && (i == kCs || i == kSs) && random() % 8) {
                segment.selector = static_cast<u16>((segment.selector & ~3) | cpl);
                segment.rights = (segment.rights & ~AR_DPL_MASK) | cpl << AR_DPL_SHIFT;
                segment.rights |= random() % 8 ? 3 : 0;
            }
            write_segment_register(vmx, static_cast<Segment>(i), segment);
        }
        const bool found_valid = guest_state_valid(vmx);
        const std::string violated = violations_of_segments();
        ASSERT_EQ(found_valid, violated.empty()) << trial << ": " << violated;
        valid += found_valid;
    }
    EXPECT_GT(valid, 50u);
}

} // namespace
} // namespace minivmx::test
