// SPDX-License-Identifier: GPL-2.0-only
//
// Far JMP, CALL, RET and IRET as the emulator carries them out: results and every fault. SDM Vol.
// 2A and 2B, their pages.
#include "segmentation_fixture.hpp"

namespace minivmx::test {
namespace {

class Far : public SegmentationTest {
  protected:
    static std::vector<u8> pointer(u8 opcode, u32 offset, u16 selector)
    {
        return {opcode,
                static_cast<u8>(offset),
                static_cast<u8>(offset >> 8),
                static_cast<u8>(offset >> 16),
                static_cast<u8>(offset >> 24),
                static_cast<u8>(selector),
                static_cast<u8>(selector >> 8)};
    }
    static std::vector<u8> jump(u16 selector, u32 offset = kTarget)
    {
        return pointer(0xea, offset, selector);
    }
    static std::vector<u8> call(u16 selector, u32 offset = kTarget)
    {
        return pointer(0x9a, offset, selector);
    }
    // A far pointer in memory, for code that has none in instructions: JMP or CALL [RBX].
    Outcome through_memory(u8 extension, u16 selector, u32 offset = kTarget)
    {
        guest.poke<u32>(kData, offset);
        guest.poke<u16>(kData + 4, selector);
        guest.reg(kRbx) = kData;
        return run({0xff, static_cast<u8>(extension << 3 | 3)});
    }
};

// ---- Jumps ------------------------------------------------------------------

TEST_F(Far, JumpInRealMode)
{
    real_mode();
    expect_at(run({0xea, 0x34, 0x12, 0x00, 0xf0}), 0xf000, 0x1234);
    EXPECT_EQ(guest.get(GUEST_CS_BASE), 0xf0000u);
    EXPECT_EQ(guest.get(GUEST_CS_LIMIT), 0xffffu);
    real_mode();
    expect_fault(run({0x66, 0xea, 0x00, 0x00, 0x01, 0x00, 0x00, 0xf0}), GP_VECTOR); // beyond 64 KiB
    EXPECT_EQ(guest.get(GUEST_CS_BASE), 0u);
}

// From real mode's segments into protected mode's: what each boot loader does.
TEST_F(Far, JumpAfterPeWasSet)
{
    real_mode();
    guest.set_control(X86_CR0_PE | X86_CR0_ET, 0, 0, 0);
    expect_at(run({0x66, 0xea, 0x00, 0xa0, 0x00, 0x00, 0x08, 0x00}), kCode0, kTarget);
    EXPECT_EQ(rights(kCs), 0xc09bu);
    EXPECT_EQ(guest.get(GUEST_CS_LIMIT), 0xffffffffu);
    EXPECT_TRUE(accessed(kCode0));
}

TEST_F(Far, JumpToCode)
{
    expect_at(run(jump(kConforming)), kConforming, kTarget);
    protected_mode();
    expect_at(run(jump(kCode16, 0x1234)), kCode16, 0x1234);
    EXPECT_EQ(rights(kCs), 0x9bu);
    user_mode();
    expect_at(run(jump(kConforming)), kConforming | 3, kTarget);
    EXPECT_EQ(guest_cpl(guest.vmx()), 3);
}

TEST_F(Far, JumpFaults)
{
    expect_fault(run(jump(0)), GP_VECTOR);
    expect_fault(run(jump(kLast)), GP_VECTOR, kLast);
    expect_fault(run(jump(kData0)), GP_VECTOR, kData0);
    expect_fault(run(jump(kCode0 | 1)), GP_VECTOR, kCode0);
    expect_fault(run(jump(kCode3)), GP_VECTOR, kCode3 & ~3u);
    expect_fault(run(jump(kAbsentCode)), NP_VECTOR, kAbsentCode);
    expect_fault(run(jump(kCode16, 0x10000)), GP_VECTOR);
    expect_fault(run(jump(kLocalTable)), GP_VECTOR, kLocalTable);
    EXPECT_FALSE(accessed(kCode16));
    user_mode();
    expect_fault(run(jump(kCode0 | 3)), GP_VECTOR, kCode0);
}

TEST_F(Far, JumpThroughGate)
{
    expect_at(run(jump(kGate, 0xdead)), kCode0, kTarget);
    EXPECT_EQ(rsp(), kStackTop);
    expect_fault(run(jump(kAbsentGate)), NP_VECTOR, kAbsentGate);
    user_mode();
    expect_fault(run(jump(kGate)), GP_VECTOR, kCode0);  // a jump can't change the level
    describe(kAbsentGate, gate(kCode0, kTarget, 0x0c)); // DPL 0
    expect_fault(run(jump(kAbsentGate)), GP_VECTOR, kAbsentGate);
    describe(kGate, gate(0, kTarget, 0xec));
    expect_fault(run(jump(kGate)), GP_VECTOR);
    describe(kGate, gate(kData0, kTarget, 0xec));
    expect_fault(run(jump(kGate)), GP_VECTOR, kData0);
}

TEST_F(Far, JumpIn64BitMode)
{
    long_mode();
    expect_at(through_memory(5, kCode64), kCode64, kTarget);
    EXPECT_EQ(rights(kCs), 0xa09bu);
    long_mode();
    expect_at(through_memory(5, kCode0), kCode0, kTarget); // compatibility mode
    long_mode();
    describe(kCode64, 0x00ef9a000000ffff); // both L and D
    expect_fault(through_memory(5, kCode64), GP_VECTOR, kCode64);
    expect_fault(through_memory(5, kTask), GP_VECTOR, kTask);
    expect_fault(run({0xea, 0, 0, 0, 0, 0, 0}), UD_VECTOR);
    guest.poke<u64>(kData, 0x800000000000);
    guest.poke<u16>(kData + 8, kCode64);
    describe(kCode64, 0x00af9a000000ffff);
    expect_fault(run({0x48, 0xff, 0x2b}), GP_VECTOR); // not canonical
}

// ---- Calls ------------------------------------------------------------------

TEST_F(Far, CallInRealMode)
{
    real_mode();
    guest.set(GUEST_CS_SELECTOR, 0x0123);
    expect_at(run({0x9a, 0x34, 0x12, 0x00, 0xf0}), 0xf000, 0x1234);
    EXPECT_EQ(rsp(), kStackTop - 4);
    EXPECT_EQ(stacked<u16>(0), kCode + 5);
    EXPECT_EQ(stacked<u16>(1), 0x0123);
}

TEST_F(Far, CallToTheSameLevel)
{
    expect_at(run(call(kCode16, 0x1234)), kCode16, 0x1234);
    EXPECT_EQ(rsp(), kStackTop - 8);
    EXPECT_EQ(stacked<u32>(0), kCode + 7);
    EXPECT_EQ(stacked<u32>(1), kCode0);
    protected_mode();
    expect_at(run(call(kGate16)), kCode0, kTarget);
    EXPECT_EQ(rsp(), kStackTop - 4);
    EXPECT_EQ(stacked<u16>(0), kCode + 7);
}

TEST_F(Far, CallFaults)
{
    expect_fault(run(call(kData0)), GP_VECTOR, kData0);
    guest.set(GUEST_SS_LIMIT, kStackTop - 6); // room for one word
    expect_fault(run(call(kCode0)), SS_VECTOR);
    EXPECT_EQ(rsp(), kStackTop);
    EXPECT_FALSE(accessed(kCode0));
}

TEST_F(Far, CallToAnInnerLevelCopiesParameters)
{
    user_mode();
    push<u32>(0x1111);
    push<u32>(0x2222);
    expect_at(run(call(kGate)), kCode0, kTarget);
    EXPECT_EQ(guest_cpl(guest.vmx()), 0);
    EXPECT_EQ(selector(kSs), kData0);
    EXPECT_EQ(rsp(), kInnerTop - 24);
    const u32 expected[] = {kCode + 7, kCode3, 0x2222, 0x1111, kStackTop - 8, kData3};
    for (u32 i = 0; i < 6; i++)
        EXPECT_EQ(stacked<u32>(i), expected[i]) << i;
}

TEST_F(Far, InnerStackFaults)
{
    user_mode();
    guest.poke<u16>(kTss + 8, 0);
    expect_fault(run(call(kGate)), TS_VECTOR, 0);
    guest.poke<u16>(kTss + 8, kData1);
    expect_fault(run(call(kGate)), TS_VECTOR, kData1);
    guest.poke<u16>(kTss + 8, kReadOnly);
    expect_fault(run(call(kGate)), TS_VECTOR, kReadOnly);
    guest.poke<u16>(kTss + 8, kAbsentData);
    expect_fault(run(call(kGate)), SS_VECTOR, kAbsentData);
    guest.poke<u16>(kTss + 8, kLast);
    expect_fault(run(call(kGate)), TS_VECTOR, kLast);
    guest.poke<u16>(kTss + 8, kData0);
    describe(kData0, 0x004092000000ffff);
    guest.poke<u32>(kTss + 4, 8); // room for two words
    expect_fault(run(call(kGate)), SS_VECTOR, kData0);
    guest.set(GUEST_TR_LIMIT, 8);
    expect_fault(run(call(kGate)), TS_VECTOR, kTask);
    EXPECT_EQ(rsp(), kStackTop);
    EXPECT_EQ(guest_cpl(guest.vmx()), 3);
}

TEST_F(Far, CallGateOfIa32e)
{
    long_mode();
    describe(kGate, gate(kCode64, kTarget, 0xec, 2));
    guest.poke<u64>(kGdt + kGate16, 0); // its upper half
    guest.set_segment(kCs, 0, 0xffffffff, 0xa0fb);
    guest.set_segment(kSs, 0, 0xffffffff, 0xc0f3);
    select(0x1b, kData3);
    expect_at(through_memory(3, kGate), kCode64, kTarget);
    EXPECT_EQ(selector(kSs), 0u);
    EXPECT_TRUE(rights(kSs) & AR_UNUSABLE);
    EXPECT_EQ(rsp(), kInnerTop - 32);
    const u64 expected[] = {kCode + 2, 0x1b, kStackTop, kData3};
    for (u32 i = 0; i < 4; i++)
        EXPECT_EQ(stacked<u64>(i), expected[i]) << i;
    long_mode();
    describe(kGate, gate(kCode0, kTarget, 0xec));
    expect_fault(through_memory(3, kGate), GP_VECTOR, kCode0); // not to 32-bit code
    guest.poke<u64>(kGdt + kGate16, bit64(40));
    expect_fault(through_memory(3, kGate), GP_VECTOR, kGate);
}

// ---- Returns ----------------------------------------------------------------

TEST_F(Far, ReturnInRealMode)
{
    real_mode();
    push<u16>(0xf000);
    push<u16>(0x1234);
    expect_at(run({0xca, 0x10, 0x00}), 0xf000, 0x1234);
    EXPECT_EQ(rsp(), kStackTop + 16);
}

TEST_F(Far, ReturnToTheSameLevel)
{
    push<u32>(kCode16);
    push<u32>(0x1234);
    expect_at(run({0xcb}), kCode16, 0x1234);
    EXPECT_EQ(rsp(), kStackTop);
}

TEST_F(Far, ReturnToAnOuterLevel)
{
    guest.set_segment(kFs, 0, 0xffffffff, 0xc0f3); // DPL 3 stays
    guest.set_segment(kGs, 0, 0xffff, 0x9f);       // so does conforming code
    push<u32>(kData3);
    push<u32>(0x6000);
    push<u32>(0xaaaa); // a parameter
    push<u32>(kCode3);
    push<u32>(kTarget);
    expect_at(run({0xca, 0x04, 0x00}), kCode3, kTarget);
    EXPECT_EQ(guest_cpl(guest.vmx()), 3);
    EXPECT_EQ(selector(kSs), kData3);
    EXPECT_EQ(rsp(), 0x6004u);
    EXPECT_TRUE(rights(kDs) & AR_UNUSABLE);
    EXPECT_EQ(selector(kDs), 0u);
    EXPECT_TRUE(rights(kEs) & AR_UNUSABLE);
    EXPECT_FALSE(rights(kFs) & AR_UNUSABLE);
    EXPECT_FALSE(rights(kGs) & AR_UNUSABLE);
}

TEST_F(Far, ReturnFaults)
{
    auto go = [&](u16 code, u32 offset = kTarget, u16 stack = kData3) {
        set_rsp(kStackTop);
        push<u32>(stack);
        push<u32>(0x6000);
        push<u32>(code);
        push<u32>(offset);
        return run({0xcb});
    };
    expect_fault(go(0), GP_VECTOR);
    expect_fault(go(kLast), GP_VECTOR, kLast);
    expect_fault(go(kData0), GP_VECTOR, kData0);
    expect_fault(go(kCode0 | 3), GP_VECTOR, kCode0);
    expect_fault(go(kAbsentCode), NP_VECTOR, kAbsentCode);
    expect_fault(go(kCode16, 0x12345), GP_VECTOR);
    expect_fault(go(kCode3, kTarget, 0), GP_VECTOR);
    expect_fault(go(kCode3, kTarget, kData0 | 3), GP_VECTOR, kData0);
    expect_fault(go(kCode3, kTarget, kData3 & ~3u), GP_VECTOR, kData3 & ~3u);
    EXPECT_EQ(rsp(), kStackTop - 16);
    user_mode();
    expect_fault(go(kCode0), GP_VECTOR, kCode0); // inward
}

// ---- IRET -------------------------------------------------------------------

TEST_F(Far, InterruptReturnInRealMode)
{
    real_mode();
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_AC);
    push<u16>(0x7ed7);
    push<u16>(0xf000);
    push<u16>(0x1234);
    expect_at(run({0xcf}), 0xf000, 0x1234);
    EXPECT_EQ(guest.rflags(), 0x7ed7u | X86_EFLAGS_AC);
    EXPECT_EQ(rsp(), kStackTop);
}

TEST_F(Far, InterruptReturnUnblocksNmis)
{
    set_nmis_masked(guest.vmx(), true);
    push<u32>(2);
    push<u32>(kCode0);
    push<u32>(kTarget);
    expect_at(run({0xcf}), kCode0, kTarget);
    EXPECT_FALSE(nmis_masked(guest.vmx()));
}

// TF as it was when the instruction began decides over a trap behind it.
TEST_F(Far, InterruptReturnSetsTf)
{
    push<u32>(2 | X86_EFLAGS_TF);
    push<u32>(kCode0);
    push<u32>(kTarget);
    expect_at(run({0xcf}), kCode0, kTarget);
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_TF);
    EXPECT_FALSE(guest.get(GUEST_PENDING_DBG_EXCEPTIONS));
}

TEST_F(Far, InterruptReturnRespectsPrivilege)
{
    user_mode(); // IOPL 0
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_IF);
    push<u32>(2 | X86_EFLAGS_IOPL | X86_EFLAGS_AC | X86_EFLAGS_VIF | X86_EFLAGS_VM);
    push<u32>(kCode3);
    push<u32>(kTarget);
    expect_at(run({0xcf}), kCode3, kTarget);
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_AC);
}

TEST_F(Far, InterruptReturnToAnOuterLevel)
{
    push<u32>(kData3);
    push<u32>(0x6000);
    push<u32>(2 | X86_EFLAGS_IF | X86_EFLAGS_IOPL);
    push<u32>(kCode3);
    push<u32>(kTarget);
    expect_at(run({0xcf}), kCode3, kTarget);
    EXPECT_EQ(guest.rflags(), 2 | X86_EFLAGS_IF | X86_EFLAGS_IOPL);
    EXPECT_EQ(rsp(), 0x6000u);
    EXPECT_TRUE(rights(kDs) & AR_UNUSABLE);
}

TEST_F(Far, InterruptReturnToVirtual8086Mode)
{
    for (const u32 value : {0x6666u, 0x5555u, 0x4444u, 0x3333u, 0x2222u, 0x1000u})
        push<u32>(value); // GS, FS, DS, ES, SS, ESP
    push<u32>(2 | X86_EFLAGS_VM | X86_EFLAGS_IOPL);
    push<u32>(0xf000);
    push<u32>(0x1234);
    expect_at(run({0xcf}), 0xf000, 0x1234);
    EXPECT_EQ(guest.rflags(), 2 | X86_EFLAGS_VM | X86_EFLAGS_IOPL);
    EXPECT_EQ(guest_cpl(guest.vmx()), 3);
    EXPECT_EQ(rsp(), 0x1000u);
    const u64 expected[] = {0x3333, 0xf000, 0x2222, 0x4444, 0x5555, 0x6666};
    for (u32 i = 0; i < 6; i++) {
        EXPECT_EQ(selector(static_cast<Segment>(i)), expected[i]);
        EXPECT_EQ(guest.get(GUEST_ES_BASE + i), expected[i] << 4);
        EXPECT_EQ(rights(static_cast<Segment>(i)), 0xf3u);
    }
}

TEST_F(Far, InterruptReturnInVirtual8086Mode)
{
    auto frame = [&](u16 flags) {
        push<u16>(flags);
        push<u16>(0xf000);
        push<u16>(0x1234);
    };
    vm86(X86_EFLAGS_IOPL);
    frame(2);
    expect_at(run({0xcf}), 0xf000, 0x1234);
    EXPECT_EQ(guest.rflags(), 2 | X86_EFLAGS_VM | X86_EFLAGS_IOPL) << "IOPL is not the program's";
    vm86(0);
    frame(2 | X86_EFLAGS_IF);
    expect_fault(run({0xcf}), GP_VECTOR);
    guest.set(GUEST_CR4, X86_CR4_VME);
    expect_at(run({0xcf}), 0xf000, 0x1234);
    EXPECT_EQ(guest.rflags(), 2 | X86_EFLAGS_VM | X86_EFLAGS_VIF);
    vm86(X86_EFLAGS_VIP);
    guest.set(GUEST_CR4, X86_CR4_VME);
    frame(2 | X86_EFLAGS_IF);
    expect_fault(run({0xcf}), GP_VECTOR);
}

TEST_F(Far, InterruptReturnIn64BitMode)
{
    long_mode();
    for (const u64 value : {u64{kData0}, u64{0x6000}, u64{2}, u64{kCode64}, kTarget})
        push<u64>(value);
    expect_at(run({0x48, 0xcf}), kCode64, kTarget); // IRETQ pops the stack always
    EXPECT_EQ(rsp(), 0x6000u);
    EXPECT_EQ(selector(kSs), kData0);
    long_mode();
    for (const u64 value : {u64{0}, u64{0x6000}, u64{2}, u64{kCode64}, kTarget})
        push<u64>(value);
    expect_at(run({0x48, 0xcf}), kCode64, kTarget);
    EXPECT_TRUE(rights(kSs) & AR_UNUSABLE);
    long_mode();
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_NT);
    expect_fault(run({0x48, 0xcf}), GP_VECTOR); // there are no nested tasks
}

// ---- Tasks ------------------------------------------------------------------

class FarToTask : public Far {
  protected:
    FarToTask()
    {
        guest.poke<u32>(0x4000 + 0x20, kTarget);
        guest.poke<u32>(0x4000 + 0x24, 2);
        guest.poke<u32>(0x4000 + 0x38, 0x6000);
        for (u32 i = 0; i < 6; i++)
            guest.poke<u32>(0x4000 + 0x48 + 4 * i, i == kCs ? kCode0 : kData0);
    }
    bool busy(u16 task) { return (descriptor(task) >> 41 & 1) != 0; }
};

TEST_F(FarToTask, Jump)
{
    expect_at(run(jump(kOtherTask)), kCode0, kTarget);
    EXPECT_EQ(guest.get(GUEST_TR_SELECTOR), kOtherTask);
    EXPECT_EQ(guest.peek<u32>(kTss + 0x20), kCode + 7);
    EXPECT_TRUE(busy(kOtherTask));
    EXPECT_FALSE(busy(kTask));
}

TEST_F(FarToTask, CallThroughGateAndReturn)
{
    user_mode();
    expect_at(run(call(kTaskGate | 3)), kCode0, kTarget);
    EXPECT_EQ(guest.peek<u16>(0x4000), kTask); // the back link
    EXPECT_TRUE(guest.rflags() & X86_EFLAGS_NT);
    EXPECT_TRUE(busy(kTask));
    expect_at(run({0xcf}), kCode3, kCode + 7);
    EXPECT_EQ(guest.get(GUEST_TR_SELECTOR), kTask);
    EXPECT_FALSE(busy(kOtherTask));
}

TEST_F(FarToTask, Faults)
{
    expect_fault(run(jump(kTask)), GP_VECTOR, kTask); // busy
    describe(kOtherTask, system(0x4000, 0x67, 0x09));
    expect_fault(run(jump(kOtherTask)), NP_VECTOR, kOtherTask);
    expect_fault(run(jump(kTaskGate)), NP_VECTOR, kOtherTask);
    describe(kOtherTask, system(0x4000, 0x66, 0x89));
    expect_fault(run(jump(kOtherTask)), TS_VECTOR, kOtherTask);
    user_mode();
    expect_fault(run(jump(kOtherTask)), GP_VECTOR, kOtherTask); // its DPL is 0
}

} // namespace
} // namespace minivmx::test
