// SPDX-License-Identifier: GPL-2.0-only
//
// Task switches: SDM Vol. 3A, 8.3. What is saved and loaded, and how events bring them about.
#include "task_fixture.hpp"

namespace minivmx::test {
namespace {

// ---- What is saved and loaded -----------------------------------------------

TEST_F(TaskSwitchTest, JmpLeavesTheOldTaskForGood)
{
    guest.set(GUEST_RFLAGS, 0x4a87); // NT is set, and stays
    guest.poke<u32>(kTss, 0xdeadbeef);
    guest.poke<u32>(kTss + 0x48, 0xaaaaaaaa);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();

    EXPECT_EQ(guest.peek<u32>(kTss + 0x20), 0x9000u + kInstructionLength);
    EXPECT_EQ(guest.peek<u32>(kTss + 0x24), 0x4a87u);
    for (u32 i = 0; i < 8; i++)
        EXPECT_EQ(guest.peek<u32>(kTss + 0x28 + 4 * i), 0x11111111u * (i + 1)) << i;
    EXPECT_EQ(guest.peek<u32>(kTss + 0x48), 0xaaaa0010u) << "the upper half isn't the CPU's";
    EXPECT_EQ(guest.peek<u16>(kTss + 0x4c), kCode0);
    EXPECT_EQ(guest.peek<u32>(kTss), 0xdeadbeefu) << "no link";

    EXPECT_EQ(guest.rip(), 0x5000u);
    EXPECT_EQ(guest.rflags(), 0x202u);
    for (u8 i = 0; i < 8; i++)
        EXPECT_EQ(read_gpr(guest.vmx(), i), i == kRsp ? kStackTop : 0xa0u + i);
    EXPECT_EQ(guest.peek<u16>(kTss2), 0u) << "nor here";
    EXPECT_EQ(access(kOld), 0x89) << "available again";
    EXPECT_EQ(access(kNew), 0x8b) << "busy";
    EXPECT_EQ(guest.get(GUEST_TR_SELECTOR), kNew);
    EXPECT_EQ(guest.get(GUEST_TR_BASE), kTss2);
    EXPECT_EQ(guest.get(GUEST_TR_LIMIT), 0x67u);
    EXPECT_EQ(guest.get(GUEST_TR_AR_BYTES), 0x8bu);
    EXPECT_TRUE(guest_cr0(guest.vmx()) & X86_CR0_TS);
    EXPECT_EQ(guest.vmx().area->dr7, 0x7ffu & ~0x155u) << "local breakpoints go";
    EXPECT_EQ(guest.get(GUEST_CS_SELECTOR), kCode0);
    EXPECT_EQ(rights(kCs), 0xc09bu);
    EXPECT_EQ(rights(kSs), 0xc093u);
    EXPECT_EQ(guest.get(GUEST_FS_LIMIT), 0xffffffffu);
    EXPECT_TRUE(rights(kLdtr) & AR_UNUSABLE);
    EXPECT_EQ(access(kCode0), 0x9b) << "accessed";
}

TEST_F(TaskSwitchTest, CallNestsAndIretReturns)
{
    EXPECT_TRUE(switch_to(kCall, kNew).resumes());
    EXPECT_EQ(guest.peek<u16>(kTss2), kOld) << "the link";
    EXPECT_EQ(guest.rflags(), 0x4202u) << "NT";
    EXPECT_EQ(access(kOld), 0x8b);
    EXPECT_EQ(access(kNew), 0x8b);
    EXPECT_EQ(guest.peek<u32>(kTss + 0x24), 2u);

    EXPECT_TRUE(switch_to(kIret, kOld).resumes());
    expect_no_fault();
    EXPECT_EQ(guest.rip(), 0x9000u + kInstructionLength);
    EXPECT_EQ(read_gpr(guest.vmx(), kRdi), 0x88888888u);
    EXPECT_EQ(guest.rflags(), 2u);
    EXPECT_EQ(guest.peek<u32>(kTss2 + 0x24), 0x202u) << "NT isn't saved by IRET";
    EXPECT_EQ(guest.peek<u32>(kTss2 + 0x20), 0x5000u + kInstructionLength);
    EXPECT_EQ(access(kOld), 0x8b);
    EXPECT_EQ(access(kNew), 0x89);
    EXPECT_EQ(guest.get(GUEST_TR_SELECTOR), kOld);
}

TEST_F(TaskSwitchTest, SixteenBitTasks)
{
    guest.set(GUEST_FS_SELECTOR, kData3);
    EXPECT_TRUE(switch_to(kCall, kNew286).resumes());
    expect_no_fault();
    EXPECT_EQ(guest.peek<u16>(kTss286), kOld);
    EXPECT_EQ(guest.rip(), 0x6000u);
    EXPECT_EQ(guest.rflags(), 0x4246u);
    EXPECT_EQ(read_gpr(guest.vmx(), kRbx), 0xb3u);
    EXPECT_EQ(guest.get(GUEST_TR_AR_BYTES), 0x83u);
    EXPECT_EQ(guest.get(GUEST_FS_SELECTOR), kData3) << "it has none";
    EXPECT_EQ(guest.peek<u32>(kTss + 0x20), 0x9000u + kInstructionLength)
        << "the old task is saved by its own kind";

    write_gpr(guest.vmx(), kRbx, 0x12345678);
    guest.set_rip(0x16001);
    EXPECT_TRUE(switch_to(kIret, kOld).resumes());
    expect_no_fault();
    EXPECT_EQ(guest.peek<u16>(kTss286 + 0x0e), 0x6001 + kInstructionLength);
    EXPECT_EQ(guest.peek<u16>(kTss286 + 0x10), 0x246);
    EXPECT_EQ(guest.peek<u16>(kTss286 + 0x18), 0x5678);
    EXPECT_EQ(guest.peek<u16>(kTss286 + 0x22), kData0);
    EXPECT_EQ(guest.peek<u16>(kTss286 + 0x2a), 0) << "the LDT isn't saved";
    EXPECT_EQ(guest.rip(), 0x9000u + kInstructionLength);
}

TEST_F(TaskSwitchTest, SegmentsOfTheLdtAndOfUserMode)
{
    guest.poke<u16>(kTss2 + 0x60, kLdtSelector);
    set_selector(kDs, 0x0c);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
    EXPECT_EQ(rights(kDs), 0xc093u);
    EXPECT_EQ(guest.peek<u8>(kLdt + 8 + 5), 0x93) << "accessed";
    EXPECT_EQ(guest.get(GUEST_LDTR_BASE), kLdt);
    EXPECT_EQ(guest.get(GUEST_LDTR_LIMIT), 0xfu);
    EXPECT_EQ(rights(kLdtr), 0x82u);

    set_access(kOld, 0x89);
    for (u32 i = 0; i < 6; i++)
        guest.poke<u16>(kTss + 0x48 + 4 * i, i == kCs ? kCode3 : kData3);
    guest.poke<u16>(kTss + 0x48 + 4 * kGs, 0);
    guest.poke<u32>(kTss + 0x20, 0x7000);
    EXPECT_TRUE(switch_to(kJmp, kOld).resumes());
    expect_no_fault();
    EXPECT_EQ(guest_cpl(guest.vmx()), 3);
    EXPECT_EQ(rights(kCs), 0xc0fbu);
    EXPECT_EQ(rights(kSs), 0xc0f3u);
    EXPECT_TRUE(rights(kGs) & AR_UNUSABLE);
}

TEST_F(TaskSwitchTest, Virtual8086Mode)
{
    guest.poke<u32>(kTss2 + 0x24, 0x23202); // VM, IOPL 3
    for (u32 i = 0; i < 6; i++)
        set_selector(static_cast<Segment>(i), static_cast<u16>(0x1000 + i));
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
    for (u32 i = 0; i < 6; i++) {
        EXPECT_EQ(guest.get(GUEST_ES_BASE + i), 0x10000u + 16 * i);
        EXPECT_EQ(guest.get(GUEST_ES_LIMIT + i), 0xffffu);
        EXPECT_EQ(guest.get(GUEST_ES_AR_BYTES + i), 0xf3u);
    }
    EXPECT_EQ(guest.rflags(), 0x23202u);
}

TEST_F(TaskSwitchTest, TrapBitOfTheNewTask)
{
    guest.poke<u16>(kTss2 + 0x64, 1);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    const ExceptionQueue e = guest.take_exception();
    EXPECT_TRUE(e.pending);
    EXPECT_EQ(e.vector, DB_VECTOR);
    EXPECT_EQ(guest.vmx().area->dr6, DR6_ACTIVE_LOW | DR6_BT);
    EXPECT_EQ(guest.rip(), 0x5000u) << "before its first instruction";
}

TEST_F(TaskSwitchTest, UserSpacesSingleStepIsNotTheGuests)
{
    guest.vmx().debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    guest.set(GUEST_RFLAGS, 0x102);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    EXPECT_EQ(guest.peek<u32>(kTss + 0x24), 2u);
    EXPECT_EQ(guest.rflags(), 0x302u);
    guest.vmx().debug.control = 0;
}

TEST_F(TaskSwitchTest, ATaskWithoutDescriptorHasNoBusyBit)
{
    set_task_register(0, kTss, 0x67, 0x8b);
    guest.poke<u64>(kGdt, 0xffffffffffffffff);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
    EXPECT_EQ(guest.peek<u64>(kGdt), 0xffffffffffffffffu);
    EXPECT_EQ(guest.peek<u32>(kTss + 0x28), 0x11111111u);
}

// ---- Events -----------------------------------------------------------------

TEST_F(TaskSwitchTest, AnExceptionBringsItsErrorCode)
{
    guest.poke<u32>(kStackTop - 4, 0xffffffff);
    EXPECT_TRUE(switch_to(kGate, kNew,
                          vectoring(INTR_TYPE_HARD_EXCEPTION, GP_VECTOR) | INTR_INFO_HAS_ERROR_CODE,
                          0x1234)
                    .resumes());
    expect_no_fault();
    EXPECT_EQ(guest.peek<u32>(kTss + 0x20), 0x9000u) << "the faulting instruction";
    EXPECT_EQ(read_rsp(guest.vmx()), kStackTop - 4);
    EXPECT_EQ(guest.peek<u32>(kStackTop - 4), 0x1234u);
    EXPECT_EQ(guest.peek<u16>(kTss2), kOld);
    EXPECT_EQ(guest.rflags(), 0x4202u);
}

TEST_F(TaskSwitchTest, AnErrorCodeOnA16BitStack)
{
    guest.poke<u64>(kGdt + kData0, 0x000092000000ffff);
    guest.poke<u16>(kTss286 + 0x1a, 0);
    guest.poke<u32>(0xfffc, 0xffffffff);
    EXPECT_TRUE(switch_to(kGate, kNew286,
                          vectoring(INTR_TYPE_HARD_EXCEPTION, TS_VECTOR) | INTR_INFO_HAS_ERROR_CODE,
                          0x4321)
                    .resumes());
    expect_no_fault();
    EXPECT_EQ(read_rsp(guest.vmx()), 0xfffeu) << "SP wraps";
    EXPECT_EQ(guest.peek<u32>(0xfffc), 0x4321ffffu);
}

TEST_F(TaskSwitchTest, WhereEventsReturnTo)
{
    struct {
        u32 information;
        u32 eip;
    } const rows[] = {
        {vectoring(INTR_TYPE_EXT_INTR, 0x30), 0x9000},
        {vectoring(INTR_TYPE_NMI, NMI_VECTOR), 0x9000},
        {vectoring(INTR_TYPE_HARD_EXCEPTION, UD_VECTOR), 0x9000},
        {vectoring(INTR_TYPE_SOFT_INTR, 0x80), 0x9000 + kInstructionLength},
        {vectoring(INTR_TYPE_SOFT_EXCEPTION, BP_VECTOR), 0x9000 + kInstructionLength},
        {vectoring(INTR_TYPE_PRIV_SW_EXCEPTION, DB_VECTOR), 0x9000 + kInstructionLength},
    };
    for (const auto &row : rows) {
        set_access(kNew, 0x89);
        guest.set_rip(0x9000);
        set_task_register(kOld, kTss, 0x67, 0x8b);
        EXPECT_TRUE(switch_to(kGate, kNew, row.information).resumes());
        EXPECT_EQ(guest.peek<u32>(kTss + 0x20), row.eip) << std::hex << row.information;
        expect_no_fault();
        EXPECT_FALSE(guest.vmx().interrupt.pending);
        EXPECT_FALSE(guest.vmx().nmi_injected);
        const bool nmi = (row.information & INTR_INFO_TYPE_MASK) == INTR_TYPE_NMI;
        EXPECT_EQ(nmis_masked(guest.vmx()), nmi);
        set_nmis_masked(guest.vmx(), false);
    }
}

TEST_F(TaskSwitchTest, FaultsOfADeliveryTellSo)
{
    set_selector(kDs, kBeyond);
    // Outside of the program: EXT.
    EXPECT_TRUE(switch_to(kGate, kNew, vectoring(INTR_TYPE_EXT_INTR, 0x30)).resumes());
    expect_fault(TS_VECTOR, kBeyond | 1);
    EXPECT_FALSE(guest.vmx().interrupt.pending) << "not once more in the fault's handler";

    set_access(kNew, 0x89);
    EXPECT_TRUE(switch_to(kGate, kNew, vectoring(INTR_TYPE_SOFT_INTR, 0x80)).resumes());
    expect_fault(TS_VECTOR, kBeyond);
    set_access(kNew, 0x8b);
    EXPECT_TRUE(switch_to(kGate, kNew, vectoring(INTR_TYPE_NMI, NMI_VECTOR)).resumes());
    expect_fault(GP_VECTOR, kNew | 1);
    EXPECT_TRUE(nmis_masked(guest.vmx()));
    EXPECT_FALSE(guest.vmx().nmi_injected);
}

TEST_F(TaskSwitchTest, AFaultWhileAFaultIsDelivered)
{
    set_selector(kDs, kBeyond);
    EXPECT_TRUE(switch_to(kGate, kNew,
                          vectoring(INTR_TYPE_HARD_EXCEPTION, NP_VECTOR) | INTR_INFO_HAS_ERROR_CODE,
                          8)
                    .resumes());
    expect_fault(DF_VECTOR, 0);

    set_access(kNew, 0x89);
    EXPECT_TRUE(switch_to(kGate, kNew, vectoring(INTR_TYPE_HARD_EXCEPTION, UD_VECTOR)).resumes());
    expect_fault(TS_VECTOR, kBeyond | 1);

    set_access(kNew, 0x89);
    EXPECT_TRUE(switch_to(kGate, kNew,
                          vectoring(INTR_TYPE_HARD_EXCEPTION, DF_VECTOR) | INTR_INFO_HAS_ERROR_CODE)
                    .resumes());
    EXPECT_TRUE(guest.vmx().triple_fault);
    guest.vmx().triple_fault = false;
}

TEST_F(TaskSwitchTest, NoRoomForTheErrorCode)
{
    guest.poke<u64>(kGdt + kData0, kDataRights & ~0x000f00000000ffffull); // 4 KiB
    EXPECT_TRUE(switch_to(kGate, kNew,
                          vectoring(INTR_TYPE_HARD_EXCEPTION, AC_VECTOR) | INTR_INFO_HAS_ERROR_CODE)
                    .resumes());
    expect_fault(SS_VECTOR, 1);
    EXPECT_TRUE(in_new_task());
    EXPECT_EQ(read_rsp(guest.vmx()), kStackTop);
}

} // namespace
} // namespace minivmx::test
