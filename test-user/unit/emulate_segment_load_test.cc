// SPDX-License-Identifier: GPL-2.0-only
//
// Loads of segment registers, and questions about selectors, as the emulator carries them out:
// results and every fault. SDM Vol. 2: MOV, POP, LDS, ARPL, LAR, LSL, VERR.
#include "segmentation_fixture.hpp"

namespace minivmx::test {
namespace {

class SegmentLoad : public SegmentationTest {
  protected:
    // MOV segment, AX.
    Outcome load(Segment segment, u16 value)
    {
        guest.reg(kRax) = value;
        return run({0x8e, static_cast<u8>(0xc0 | segment << 3)});
    }
};

TEST_F(SegmentLoad, RealModeKeepsLimitsAndRights)
{
    real_mode();
    guest.set_segment(kDs, 0, 0xffffffff, 0xc093); // big real mode
    expect_next(load(kDs, 0x1234));
    EXPECT_EQ(selector(kDs), 0x1234u);
    EXPECT_EQ(guest.get(GUEST_DS_BASE), 0x12340u);
    EXPECT_EQ(guest.get(GUEST_DS_LIMIT), 0xffffffffu);
    EXPECT_EQ(rights(kDs), 0xc093u);
}

TEST_F(SegmentLoad, Virtual8086Mode)
{
    vm86(0);
    expect_next(load(kEs, 0x2345));
    EXPECT_EQ(guest.get(GUEST_ES_BASE), 0x23450u);
    EXPECT_EQ(guest.get(GUEST_ES_LIMIT), 0xffffu);
    EXPECT_EQ(rights(kEs), 0xf3u);
}

TEST_F(SegmentLoad, DataSegment)
{
    describe(kData0, 0x12cf920034560fff);
    expect_next(load(kFs, kData0));
    EXPECT_EQ(guest.get(GUEST_FS_BASE), 0x12003456u);
    EXPECT_EQ(guest.get(GUEST_FS_LIMIT), 0xf0ffffffu);
    EXPECT_EQ(rights(kFs), 0xc093u);
    EXPECT_TRUE(accessed(kData0));
    expect_next(load(kGs, kReadOnly));
    expect_next(load(kDs, kCode0)); // readable code
    expect_next(load(kEs, 0x04));
    EXPECT_TRUE(guest.peek<u8>(kLdt + 5) & 1);
}

TEST_F(SegmentLoad, DataFaults)
{
    expect_fault(load(kDs, kExecuteOnly), GP_VECTOR, kExecuteOnly);
    expect_fault(load(kDs, kTask), GP_VECTOR, kTask);
    expect_fault(load(kDs, kAbsentData), NP_VECTOR, kAbsentData);
    expect_fault(load(kDs, kLast), GP_VECTOR, kLast);
    expect_fault(load(kDs, 0x14), GP_VECTOR, 0x14); // beyond the LDT
    expect_fault(load(kDs, kData0 | 3), GP_VECTOR, kData0);
    EXPECT_EQ(selector(kDs), kData0);
    EXPECT_FALSE(accessed(kExecuteOnly));
    user_mode();
    expect_fault(load(kDs, kData0), GP_VECTOR, kData0);
    expect_next(load(kDs, kConforming)); // whatever the privilege
    guest.set(GUEST_LDTR_AR_BYTES, AR_UNUSABLE);
    expect_fault(load(kDs, 0x04), GP_VECTOR, 0x04);
}

TEST_F(SegmentLoad, NullSelectors)
{
    expect_next(load(kDs, 3));
    EXPECT_EQ(selector(kDs), 3u);
    EXPECT_TRUE(rights(kDs) & AR_UNUSABLE);
    expect_fault(load(kSs, 0), GP_VECTOR, 0);
    long_mode();
    expect_next(load(kSs, 0)); // below CPL 3 64-bit code needs no stack segment
    EXPECT_TRUE(rights(kSs) & AR_UNUSABLE);
    long_mode();
    expect_fault(load(kSs, 1), GP_VECTOR, 0);
}

TEST_F(SegmentLoad, StackSegment)
{
    expect_next(load(kSs, kData0));
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), u64{GUEST_INTR_STATE_MOV_SS});
    expect_fault(load(kSs, kReadOnly), GP_VECTOR, kReadOnly);
    expect_fault(load(kSs, kCode0), GP_VECTOR, kCode0);
    expect_fault(load(kSs, kData0 | 1), GP_VECTOR, kData0);
    expect_fault(load(kSs, kData3), GP_VECTOR, kData3 & ~3u);
    expect_fault(load(kSs, kAbsentData), SS_VECTOR, kAbsentData);
}

TEST_F(SegmentLoad, Pop)
{
    push<u32>(0xffff0000u | kData0);
    expect_next(run({0x1f})); // POP DS
    EXPECT_EQ(rsp(), kStackTop);
    EXPECT_EQ(selector(kDs), kData0);
    EXPECT_FALSE(guest.get(GUEST_INTERRUPTIBILITY_INFO));
    push<u16>(kData0);
    expect_next(run({0x66, 0x17})); // POP SS, 16 bits
    EXPECT_EQ(rsp(), kStackTop);
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), u64{GUEST_INTR_STATE_MOV_SS});
    push<u32>(kLast);
    expect_fault(run({0x07}), GP_VECTOR, kLast);
    EXPECT_EQ(rsp(), kStackTop - 4);
}

TEST_F(SegmentLoad, FarPointers)
{
    guest.poke<u32>(kData, 0x11223344);
    guest.poke<u16>(kData + 4, kData0);
    guest.reg(kRbx) = kData;
    expect_next(run({0xc4, 0x0b})); // LES ECX, [EBX]
    EXPECT_EQ(guest.reg(kRcx), 0x11223344u);
    EXPECT_EQ(selector(kEs), kData0);
    expect_next(run({0x0f, 0xb2, 0x23})); // LSS ESP, [EBX]
    EXPECT_EQ(rsp(), 0x11223344u);
    EXPECT_FALSE(guest.get(GUEST_INTERRUPTIBILITY_INFO));
    guest.poke<u16>(kData + 2, kAbsentData);
    guest.reg(kRcx) = 0x5555;
    expect_fault(run({0x66, 0xc5, 0x0b}), NP_VECTOR, kAbsentData); // LDS CX, [EBX]
    EXPECT_EQ(guest.reg(kRcx), 0x5555u) << "the register goes with the segment";
}

TEST_F(SegmentLoad, Lar)
{
    guest.reg(kRcx) = kData3;
    expect_next(run({0x0f, 0x02, 0xc1})); // LAR EAX, ECX
    EXPECT_EQ(guest.reg(kRax), 0x00cff200u);
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_ZF);
    for (const u16 unknown : {u16{0}, kLast, u16{kData0 | 3}}) {
        guest.reg(kRcx) = unknown;
        expect_next(run({0x0f, 0x02, 0xc1}));
        EXPECT_FALSE(guest.rflags() & X86_EFLAGS_ZF) << unknown;
        EXPECT_EQ(guest.reg(kRax), 0x00cff200u);
    }
    guest.reg(kRcx) = kGate;
    expect_next(run({0x0f, 0x02, 0xc1}));
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_ZF);
}

TEST_F(SegmentLoad, Lsl)
{
    guest.reg(kRcx) = kData0;
    expect_next(run({0x0f, 0x03, 0xc1}));
    EXPECT_EQ(guest.reg(kRax), 0xffffffffu);
    guest.reg(kRcx) = kTask;
    expect_next(run({0x0f, 0x03, 0xc1}));
    EXPECT_EQ(guest.reg(kRax), 0x67u);
    guest.reg(kRcx) = kGate; // has none
    expect_next(run({0x0f, 0x03, 0xc1}));
    EXPECT_FALSE(guest.rflags() & X86_EFLAGS_ZF);
}

TEST_F(SegmentLoad, Verify)
{
    struct {
        u16 selector;
        bool readable, writable;
    } const cases[] = {{kData0, true, true},      {kReadOnly, true, false},
                       {kCode0, true, false},     {kExecuteOnly, false, false},
                       {kTask, false, false},     {0, false, false},
                       {kData0 | 3, false, false}};
    for (const auto &c : cases) {
        guest.reg(kRax) = c.selector;
        expect_next(run({0x0f, 0x00, 0xe0})); // VERR AX
        EXPECT_EQ((guest.rflags() & X86_EFLAGS_ZF) != 0, c.readable) << c.selector;
        expect_next(run({0x0f, 0x00, 0xe8})); // VERW AX
        EXPECT_EQ((guest.rflags() & X86_EFLAGS_ZF) != 0, c.writable) << c.selector;
    }
    real_mode();
    expect_fault(run({0x0f, 0x00, 0xe0}), UD_VECTOR);
}

TEST_F(SegmentLoad, Arpl)
{
    guest.reg(kRax) = kData0;
    guest.reg(kRcx) = 3;
    expect_next(run({0x63, 0xc8})); // ARPL AX, CX
    EXPECT_EQ(guest.reg(kRax), kData0 | 3u);
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_ZF);
    guest.reg(kRcx) = 2;
    expect_next(run({0x63, 0xc8}));
    EXPECT_EQ(guest.reg(kRax), kData0 | 3u);
    EXPECT_FALSE(guest.rflags() & X86_EFLAGS_ZF);
    real_mode();
    expect_fault(run({0x63, 0xc8}), UD_VECTOR);
}

TEST_F(SegmentLoad, SegmentBases)
{
    long_mode();
    expect_fault(run({0xf3, 0x48, 0x0f, 0xae, 0xc0}), UD_VECTOR); // RDFSBASE RAX: CR4.FSGSBASE is 0
    guest.set(GUEST_CR4, X86_CR4_PAE | X86_CR4_FSGSBASE);
    guest.set(GUEST_GS_BASE, 0xffff800012345678);
    expect_next(run({0xf3, 0x48, 0x0f, 0xae, 0xc8})); // RDGSBASE RAX
    EXPECT_EQ(guest.reg(kRax), 0xffff800012345678u);
    expect_next(run({0xf3, 0x48, 0x0f, 0xae, 0xd0})); // WRFSBASE RAX
    EXPECT_EQ(guest.get(GUEST_FS_BASE), 0xffff800012345678u);
    guest.reg(kRax) = 0x8000000000000000;
    expect_fault(run({0xf3, 0x48, 0x0f, 0xae, 0xd0}), GP_VECTOR);
    expect_next(run({0x0f, 0x01, 0xf8})); // SWAPGS
    EXPECT_EQ(guest.get(GUEST_GS_BASE), 0u);
    expect_next(run({0x0f, 0x01, 0xf8}));
    EXPECT_EQ(guest.get(GUEST_GS_BASE), 0xffff800012345678u);
}

} // namespace
} // namespace minivmx::test
