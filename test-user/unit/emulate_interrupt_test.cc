// SPDX-License-Identifier: GPL-2.0-only
//
// Events delivered by software, and INT n, INT3, INTO and ICEBP as emulated instructions: through
// the vectors of real mode and the gates of every other one. SDM Vol. 2A, INT n; Vol. 3A, 6.12 to
// 6.14.
#include <minivmx/event_delivery.hpp>

#include "segmentation_fixture.hpp"

namespace minivmx::test {
namespace {

class Interrupts : public SegmentationTest {
  protected:
    static constexpr u8 kVector = 0x21;

    void set_gate(u8 vector, u64 raw) { guest.poke<u64>(kIdt + 8 * vector, raw); }
    void set_long_gate(u8 vector, u64 raw) { guest.poke<u64>(kIdt + 16 * vector, raw); }
    Outcome interrupt(u8 vector = kVector) { return run({0xcd, vector}); }
    Delivered deliver(const GuestEvent &event)
    {
        guest.set_rip(kCode);
        const Delivered delivered = deliver_event(guest.vmx(), event);
        write_registers();
        return delivered;
    }
    static constexpr GuestEvent external(u8 vector)
    {
        return {.type = INTR_TYPE_EXT_INTR,
                .vector = vector,
                .has_error_code = false,
                .error_code = 0,
                .instruction_length = 0};
    }
    void expect_stack(const std::vector<u32> &expected)
    {
        for (u32 i = 0; i < expected.size(); i++)
            EXPECT_EQ(stacked<u32>(i), expected[i]) << i;
    }
    static constexpr u32 gate_error(u8 vector, u32 external = 0)
    {
        return u32{vector} << 3 | 2 | external;
    }
};

// ---- Real mode --------------------------------------------------------------

TEST_F(Interrupts, RealMode)
{
    real_mode();
    guest.set(GUEST_CS_SELECTOR, 0x0100);
    guest.set(GUEST_CS_BASE, 0x1000);
    guest.set(GUEST_RFLAGS, 0x10ed7 & ~X86_EFLAGS_TF);
    guest.poke<u16>(4 * kVector, 0x1234);
    guest.poke<u16>(4 * kVector + 2, 0xf000);
    guest.poke_bytes(0xa000, {0xcd, kVector});
    guest.set_rip(0x9000);
    ASSERT_TRUE(emulate_instruction(guest.vmx()).resumes());
    write_registers();
    EXPECT_EQ(guest.get(GUEST_CS_SELECTOR), 0xf000u);
    EXPECT_EQ(guest.get(GUEST_CS_BASE), 0xf0000u);
    EXPECT_EQ(guest.rip(), 0x1234u);
    EXPECT_EQ(rsp(), kStackTop - 6);
    EXPECT_EQ(stacked<u16>(0), 0x9002);
    EXPECT_EQ(stacked<u16>(1), 0x0100);
    EXPECT_EQ(stacked<u16>(2), 0x0ed7 & ~X86_EFLAGS_TF);
    EXPECT_EQ(guest.rflags(), 0x0cd7u & ~X86_EFLAGS_TF);
}

TEST_F(Interrupts, ExternalInterruptOfRealMode)
{
    real_mode();
    guest.set(GUEST_INTERRUPTIBILITY_INFO, GUEST_INTR_STATE_STI);
    guest.poke<u32>(4 * kVector, 0xf0001234);
    ASSERT_EQ(deliver(external(kVector)), Delivered::kYes);
    EXPECT_EQ(stacked<u16>(0), kCode);
    EXPECT_EQ(guest.get(GUEST_INTERRUPTIBILITY_INFO), 0u);
}

TEST_F(Interrupts, RealModeWrapsItsStack)
{
    real_mode();
    set_rsp(0xabcd0002);
    guest.poke<u32>(4 * kVector, 0xf0001234);
    ASSERT_EQ(deliver(external(kVector)), Delivered::kYes);
    EXPECT_EQ(rsp(), 0xabcdfffcu);
    EXPECT_EQ(guest.peek<u16>(0xfffc), kCode);
}

TEST_F(Interrupts, FaultsOfRealMode)
{
    real_mode();
    guest.set(GUEST_IDTR_LIMIT, 4 * kVector + 2);
    expect_fault(interrupt(), GP_VECTOR);
    guest.set(GUEST_IDTR_LIMIT, 0x3ff);
    guest.set(GUEST_SS_LIMIT, kStackTop - 4);
    expect_fault(interrupt(), SS_VECTOR);
    EXPECT_EQ(rsp(), kStackTop);
}

// A fault while an exception is delivered makes a double fault, and one then ends it all.
TEST_F(Interrupts, FaultsWhileAnExceptionIsDelivered)
{
    real_mode();
    guest.set(GUEST_IDTR_LIMIT, 0);
    queue_exception(guest.vmx(), GP_VECTOR, 0);
    GuestEvent event = external(GP_VECTOR);
    event.type = INTR_TYPE_HARD_EXCEPTION;
    ASSERT_EQ(deliver(event), Delivered::kFaulted);
    EXPECT_EQ(guest.vmx().exception.vector, u8{DF_VECTOR});
    event.vector = DF_VECTOR;
    ASSERT_EQ(deliver(event), Delivered::kFaulted);
    EXPECT_FALSE(guest.vmx().exception.pending);
    EXPECT_TRUE(guest.vmx().triple_fault);
}

TEST_F(Interrupts, VectorsOutsideOfMemory)
{
    real_mode();
    guest.set(GUEST_IDTR_BASE, 0x100000);
    EXPECT_EQ(deliver(external(kVector)), Delivered::kNotMemory);
    EXPECT_EQ(guest.rip(), kCode);
    EXPECT_FALSE(guest.vmx().exception.pending);
}

// ---- Protected mode ---------------------------------------------------------

TEST_F(Interrupts, ToTheSameLevel)
{
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_NT);
    set_gate(kVector, gate(kCode0, kTarget, 0x8e));
    expect_at(interrupt(), kCode0, kTarget);
    expect_stack({kCode + 2, kCode0, 2 | X86_EFLAGS_IF | X86_EFLAGS_NT});
    EXPECT_EQ(rsp(), kStackTop - 12);
    EXPECT_EQ(guest.rflags(), u64{X86_EFLAGS_FIXED});
}

TEST_F(Interrupts, TrapGatesLeaveIf)
{
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_RF);
    set_gate(kVector, gate(kCode0, kTarget, 0x8f));
    expect_at(interrupt(), kCode0, kTarget);
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_FIXED | X86_EFLAGS_IF);
}

TEST_F(Interrupts, SixteenBitGates)
{
    set_gate(kVector, gate(kCode0, 0x5555a000, 0x86));
    expect_at(interrupt(), kCode0, kTarget);
    EXPECT_EQ(rsp(), kStackTop - 6);
    EXPECT_EQ(stacked<u16>(0), kCode + 2);
    EXPECT_EQ(stacked<u16>(1), kCode0);
}

TEST_F(Interrupts, ToAnInnerLevelWithAnErrorCode)
{
    user_mode();
    set_gate(PF_VECTOR, gate(kCode0, kTarget, 0x8e));
    GuestEvent event = external(PF_VECTOR);
    event.type = INTR_TYPE_HARD_EXCEPTION;
    event.has_error_code = true;
    event.error_code = 7;
    ASSERT_EQ(deliver(event), Delivered::kYes);
    EXPECT_EQ(guest_cpl(guest.vmx()), 0);
    EXPECT_EQ(rsp(), kInnerTop - 24);
    expect_stack({7, kCode, kCode3, 2, kStackTop, kData3});
    EXPECT_EQ(selector(kSs), kData0);
    EXPECT_EQ(selector(kDs), kData3) << "data segments stay";
}

TEST_F(Interrupts, GateFaults)
{
    set_gate(kVector, gate(kCode0, kTarget, 0x0e));
    expect_fault(interrupt(), NP_VECTOR, gate_error(kVector));
    set_gate(kVector, gate(kCode0, kTarget, 0x8c)); // a call gate
    expect_fault(interrupt(), GP_VECTOR, gate_error(kVector));
    set_gate(kVector, gate(0, kTarget, 0x8e));
    expect_fault(interrupt(), GP_VECTOR);
    set_gate(kVector, gate(kData0, kTarget, 0x8e));
    expect_fault(interrupt(), GP_VECTOR, kData0);
    set_gate(kVector, gate(kCode3, kTarget, 0x8e)); // outward
    expect_fault(interrupt(), GP_VECTOR, kCode3 & ~3u);
    set_gate(kVector, gate(kAbsentCode, kTarget, 0x8e));
    expect_fault(interrupt(), NP_VECTOR, kAbsentCode);
    set_gate(kVector, gate(kCode16, 0x12345, 0x8e));
    expect_fault(interrupt(), GP_VECTOR);
    guest.set(GUEST_IDTR_LIMIT, 8 * kVector + 6);
    expect_fault(interrupt(), GP_VECTOR, gate_error(kVector));
    EXPECT_EQ(rsp(), kStackTop);
}

// EXT in error codes, and the privilege of gates, are about who asked.
TEST_F(Interrupts, ExternalOnes)
{
    user_mode();
    set_gate(kVector, gate(kCode0, kTarget, 0x8e)); // DPL 0
    expect_fault(interrupt(), GP_VECTOR, gate_error(kVector));
    ASSERT_EQ(deliver(external(kVector)), Delivered::kYes);
    user_mode();
    set_gate(kVector, gate(kAbsentCode, kTarget, 0x8e));
    ASSERT_EQ(deliver(external(kVector)), Delivered::kFaulted);
    EXPECT_EQ(guest.take_exception().error_code, kAbsentCode | 1u);
    set_gate(kVector, 0);
    ASSERT_EQ(deliver(external(kVector)), Delivered::kFaulted);
    EXPECT_EQ(guest.take_exception().error_code, gate_error(kVector, 1));
}

TEST_F(Interrupts, AnNmiBlocksNmis)
{
    set_gate(2, gate(kCode0, kTarget, 0x8e));
    GuestEvent event = external(2);
    event.type = INTR_TYPE_NMI;
    ASSERT_EQ(deliver(event), Delivered::kYes);
    EXPECT_TRUE(nmis_masked(guest.vmx()));
}

TEST_F(Interrupts, TaskGate)
{
    guest.poke<u32>(0x4000 + 0x20, kTarget);
    guest.poke<u32>(0x4000 + 0x24, 2);
    guest.poke<u32>(0x4000 + 0x38, 0x6000);
    for (u32 i = 0; i < 6; i++)
        guest.poke<u32>(0x4000 + 0x48 + 4 * i, i == kCs ? kCode0 : kData0);
    set_gate(GP_VECTOR, u64{kOtherTask} << 16 | u64{0x85} << 40);
    queue_exception(guest.vmx(), GP_VECTOR, 0x18);
    GuestEvent event = external(GP_VECTOR);
    event.type = INTR_TYPE_HARD_EXCEPTION;
    event.has_error_code = true;
    event.error_code = 0x18;
    ASSERT_EQ(deliver(event), Delivered::kYes);
    EXPECT_FALSE(guest.vmx().exception.pending);
    EXPECT_EQ(guest.rip(), kTarget);
    EXPECT_EQ(rsp(), 0x6000u - 4);
    EXPECT_EQ(stacked<u32>(0), 0x18u);
    EXPECT_EQ(guest.peek<u32>(kTss + 0x20), kCode); // a fault goes back to its instruction
}

// ---- INT3, INTO, ICEBP ------------------------------------------------------

TEST_F(Interrupts, Breakpoint)
{
    user_mode();
    set_gate(BP_VECTOR, gate(kCode0, kTarget, 0xee));
    expect_at(run({0xcc}), kCode0, kTarget);
    expect_stack({kCode + 1, kCode3, 2, kStackTop, kData3});
    user_mode();
    guest.vmx().debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    EXPECT_FALSE(run({0xcc}).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_DEBUG});
    EXPECT_EQ(guest.run().debug.arch.exception, u32{BP_VECTOR});
}

TEST_F(Interrupts, Overflow)
{
    set_gate(OF_VECTOR, gate(kCode0, kTarget, 0x8e));
    expect_next(run({0xce}));
    guest.set(GUEST_RFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_OF);
    expect_at(run({0xce}), kCode0, kTarget);
    long_mode();
    expect_fault(run({0xce}), UD_VECTOR);
}

TEST_F(Interrupts, Icebp)
{
    EXPECT_TRUE(run({0xf1}).resumes());
    EXPECT_EQ(guest.rip(), kCode + 1);
    EXPECT_EQ(guest.take_exception().vector, u8{DB_VECTOR});
}

// ---- Virtual-8086 mode ------------------------------------------------------

TEST_F(Interrupts, OutOfVirtual8086Mode)
{
    vm86(X86_EFLAGS_IOPL);
    const u16 selectors[] = {0x1111, 0, 0x2222, 0x3333, 0x4444, 0x5555};
    for (u32 i = 0; i < 6; i++)
        guest.set(GUEST_ES_SELECTOR + i, selectors[i]);
    guest.set(GUEST_SS_BASE, 0x22220);
    set_rsp(0x1000);
    set_gate(kVector, gate(kCode0, kTarget, 0xee));
    expect_at(interrupt(), kCode0, kTarget);
    EXPECT_EQ(rsp(), kInnerTop - 36);
    expect_stack({kCode + 2, 0, 2 | X86_EFLAGS_VM | X86_EFLAGS_IOPL, 0x1000, 0x2222, 0x1111, 0x3333,
                  0x4444, 0x5555});
    EXPECT_EQ(guest.rflags(), X86_EFLAGS_FIXED | X86_EFLAGS_IOPL);
    for (const Segment segment : {kEs, kDs, kFs, kGs})
        EXPECT_TRUE(rights(segment) & AR_UNUSABLE);
    vm86(X86_EFLAGS_IOPL);
    set_gate(kVector, gate(kConforming, kTarget, 0xee));
    expect_fault(interrupt(), GP_VECTOR, kConforming);
}

TEST_F(Interrupts, IoplOfVirtual8086Mode)
{
    vm86(0);
    set_gate(kVector, gate(kCode0, kTarget, 0xee));
    set_gate(BP_VECTOR, gate(kCode0, kTarget, 0xee));
    expect_fault(interrupt(), GP_VECTOR);
    expect_at(run({0xcc}), kCode0, kTarget); // INT3 doesn't ask
}

TEST_F(Interrupts, RedirectionOfVirtual8086Mode)
{
    guest.poke<u16>(kTss + 0x66, 0x88); // the map is in front of the I/O map
    vm86(X86_EFLAGS_VIF);
    guest.set(GUEST_CR4, X86_CR4_VME);
    guest.poke<u32>(4 * kVector, 0xf0001234);
    expect_at(interrupt(), 0xf000, 0x1234);
    EXPECT_EQ(stacked<u16>(2), 2 | X86_EFLAGS_IF | X86_EFLAGS_IOPL);
    EXPECT_EQ(guest.rflags(), u64{X86_EFLAGS_FIXED | X86_EFLAGS_VM});
    guest.poke<u8>(kTss + 0x88 - 32 + kVector / 8, 1 << kVector % 8);
    vm86(0);
    guest.set(GUEST_CR4, X86_CR4_VME);
    expect_fault(interrupt(), GP_VECTOR);
}

// ---- IA-32e mode ------------------------------------------------------------

TEST_F(Interrupts, In64BitMode)
{
    long_mode();
    set_rsp(kStackTop - 8); // gets aligned
    set_long_gate(kVector, gate(kCode64, kTarget, 0x8e));
    expect_at(interrupt(), kCode64, kTarget);
    EXPECT_EQ(rsp(), kStackTop - 16 - 40);
    const u64 expected[] = {kCode + 2, kCode64, 2, kStackTop - 8, kData0};
    for (u32 i = 0; i < 5; i++)
        EXPECT_EQ(stacked<u64>(i), expected[i]) << i;
    EXPECT_EQ(selector(kSs), kData0);
    expect_at(run({0x48, 0xcf}), kCode64, kCode + 2); // and back
    EXPECT_EQ(rsp(), kStackTop - 8);
}

TEST_F(Interrupts, InterruptStackTable)
{
    long_mode();
    set_long_gate(kVector, gate(kCode64, kTarget, 0x8e, 1));
    expect_at(interrupt(), kCode64, kTarget);
    EXPECT_EQ(rsp(), kInnerTop - 0x800 - 40);
    EXPECT_EQ(selector(kSs), kData0);
    guest.set(GUEST_TR_LIMIT, 0x2a);
    expect_fault(interrupt(), TS_VECTOR, kTask);
}

TEST_F(Interrupts, InwardIn64BitMode)
{
    long_mode();
    guest.set_segment(kCs, 0, 0xffffffff, 0xa0fb);
    guest.set_segment(kSs, 0, 0xffffffff, 0xc0f3);
    select(0x1b, kData3);
    set_long_gate(kVector, gate(kCode64, kTarget, 0xee));
    expect_at(interrupt(), kCode64, kTarget);
    EXPECT_EQ(rsp(), kInnerTop - 40);
    EXPECT_EQ(selector(kSs), 0u);
    EXPECT_TRUE(rights(kSs) & AR_UNUSABLE);
}

TEST_F(Interrupts, GateFaultsOf64BitMode)
{
    long_mode();
    set_long_gate(kVector, gate(kCode64, kTarget, 0x85)); // no task gates
    expect_fault(interrupt(), GP_VECTOR, gate_error(kVector));
    set_long_gate(kVector, gate(kCode64, kTarget, 0x86)); // nor 16-bit ones
    expect_fault(interrupt(), GP_VECTOR, gate_error(kVector));
    set_long_gate(kVector, gate(kCode0, kTarget, 0x8e));
    expect_fault(interrupt(), GP_VECTOR, kCode0);
    guest.set(GUEST_IDTR_LIMIT, 16 * kVector + 14);
    expect_fault(interrupt(), GP_VECTOR, gate_error(kVector));
}

} // namespace
} // namespace minivmx::test
