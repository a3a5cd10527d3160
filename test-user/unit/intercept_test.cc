// SPDX-License-Identifier: GPL-2.0-only
//
// MINIVMX_SET_INTERCEPTS over the simulated machine: what is refused, which control bits and
// bitmaps follow, and what the client's answers do.
#include "intercept_fixture.hpp"

namespace minivmx::test {
namespace {

// ---- Requests -----------------------------------------------------------------------------------

TEST_F(Intercept, MalformedRequestsChangeNothing)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    const auto before = guest.vmcs_of(vcpu).fields;

    minivmx_intercepts asked{};
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_ALL + 1), -EINVAL);
    EXPECT_EQ(ask_controls(~u64{0}), -EINVAL);
    for (const u32 vector : {2u, 9u, 15u, 18u, 22u, 31u})
        EXPECT_EQ(ask_exceptions(bit32(vector)), -EINVAL) << vector;
    asked.pad = 1;
    EXPECT_EQ(ask(asked), -EINVAL);
    asked.pad = 0;
    asked.reserved[3] = 1;
    EXPECT_EQ(ask(asked), -EINVAL);
    asked.reserved[3] = 0;
    asked.port_count = MINIVMX_MAX_INTERCEPT_RANGES + 1;
    EXPECT_EQ(ask(asked), -EINVAL);
    asked.port_count = 0;
    asked.msr_count = ~0u;
    EXPECT_EQ(ask(asked), -EINVAL);

    EXPECT_EQ(ask({}, {{2, 1, 0}}), -EINVAL) << "backwards";
    EXPECT_EQ(ask({}, {{1, 1, 7}}), -EINVAL) << "pad";
    EXPECT_EQ(ask({}, {{0x60, 0x64, 0}, {0x64, 0x70, 0}}), -EINVAL) << "overlap";
    EXPECT_EQ(ask({}, {}, {{0x10, 0xf, MINIVMX_MSR_READ, 0}}), -EINVAL) << "backwards";
    EXPECT_EQ(ask({}, {}, {{0x10, 0x10, 0, 0}}), -EINVAL) << "neither reads nor writes";
    EXPECT_EQ(ask({}, {}, {{0x10, 0x10, 4, 0}}), -EINVAL) << "an unknown flag";
    EXPECT_EQ(ask({}, {}, {{0x10, 0x10, MINIVMX_MSR_READ, 1}}), -EINVAL) << "pad";
    EXPECT_EQ(ask({}, {}, {{0x10, 0x20, MINIVMX_MSR_READ, 0}, {0x20, 0x30, 3, 0}}), -EINVAL)
        << "overlap";

    EXPECT_EQ(guest.vmcs_of(vcpu).fields, before);
    exits({{EXIT_REASON_RDTSC}});
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
}

TEST_F(Intercept, RangesForOtherAccessesMayOverlap)
{
    EXPECT_EQ(ask({}, {}, {{0x10, 0x20, MINIVMX_MSR_READ, 0}, {0x20, 0x30, MINIVMX_MSR_WRITE, 0}}),
              0);
}

TEST_F(Intercept, AsManyRangesAsThereIsRoomFor)
{
    std::vector<minivmx_port_range> ports;
    for (u16 i = 0; i < MINIVMX_MAX_INTERCEPT_RANGES; i++)
        ports.push_back({static_cast<u16>(2 * i), static_cast<u16>(2 * i), 0});
    EXPECT_EQ(ask({}, ports), 0);
}

TEST_F(Intercept, ControlsThatTheCpuLacksAreRefused)
{
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_SINGLE_STEP), -EOPNOTSUPP);
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_USER_WAIT), -EOPNOTSUPP);
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_HLT | MINIVMX_INTERCEPT_SINGLE_STEP), -EOPNOTSUPP);
    exits({{EXIT_REASON_HLT}});
    expect_halt();
}

class InterceptOnPenryn : public Intercept {
  protected:
    InterceptOnPenryn() : Intercept("core2_penryn_t9600") {}
};

TEST_F(InterceptOnPenryn, OldCpusHaveFewerControls)
{
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_RDRAND), -EOPNOTSUPP);
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE), -EOPNOTSUPP);
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC | MINIVMX_INTERCEPT_WBINVD), 0);
}

class InterceptWithoutVnmi : public Intercept {
  protected:
    static Parameters without_vnmi()
    {
        Parameters params = quiet();
        params.vnmi = false;
        return params;
    }
    InterceptWithoutVnmi() : Intercept("corei7_skylake_x", without_vnmi()) {}
};

// SDM Vol. 3C, 27.2.1.1: VM entry refuses NMI-window exiting without virtual NMIs.
TEST_F(InterceptWithoutVnmi, HasNoNmiWindow)
{
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_NMI_WINDOW), -EOPNOTSUPP);
    EXPECT_EQ(ask_controls(MINIVMX_INTERCEPT_INTERRUPT_WINDOW), 0);
}

// ---- Control words and bitmaps ------------------------------------------------------------------

TEST_F(Intercept, EachControlMovesItsBitAndBack)
{
    const u32 primary = primary_now(), secondary = secondary_now();
    for (const InterceptControl &row : kInterceptControls) {
        if (row.effect != InterceptEffect::kSets || !can_intercept(hardware, row.intercept))
            continue;
        ASSERT_EQ(ask_controls(row.intercept), 0) << std::hex << row.intercept;
        const u32 word = row.field == ControlField::kPrimary ? primary_now() : secondary_now();
        EXPECT_EQ(word & row.bits, row.bits) << std::hex << row.intercept;
        ASSERT_EQ(ask_controls(0), 0);
        EXPECT_EQ(primary_now(), primary);
        EXPECT_EQ(secondary_now(), secondary);
    }
}

// Never fewer exits: the words only gain bits, but for the one that turns an instruction off.
TEST_F(Intercept, NoRequestTakesAnExitAway)
{
    const u32 primary = primary_now(), secondary = secondary_now();
    const u64 bitmap = field(EXCEPTION_BITMAP.encoding);
    for (unsigned bit = 0; bit < 23; bit++) {
        if (ask_controls(bit64(bit)) == -EOPNOTSUPP)
            continue;
        EXPECT_EQ(primary & ~primary_now(), 0u) << bit;
        EXPECT_EQ(secondary & ~secondary_now() & ~SECONDARY_EXEC_XSAVES, 0u) << bit;
        EXPECT_EQ(field(EXCEPTION_BITMAP.encoding), bitmap);
    }
    ASSERT_EQ(ask_exceptions(bit32(GP_VECTOR)), 0);
    EXPECT_EQ(field(EXCEPTION_BITMAP.encoding), bitmap | bit32(GP_VECTOR));
}

TEST_F(Intercept, TheExplanationSaysWhoAsked)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    struct Seen {
        std::vector<RuleEvent> events;
        static void record(void *context, const RuleEvent &event)
        {
            static_cast<Seen *>(context)->events.push_back(event);
        }
    } seen;
    const RuleSink sink{&Seen::record, &seen};
    const u32 word = vmx_exec_control(hardware, vcpu_control_inputs(to_vmx(vcpu.core)), &sink);
    EXPECT_EQ(word, primary_now());
    ASSERT_FALSE(seen.events.empty());
    EXPECT_EQ(seen.events.back().rule, Rule::kIntercepted);
    EXPECT_EQ(seen.events.back().bits, CPU_BASED_RDTSC_EXITING);
}

TEST_F(Intercept, SurvivesANewCpuid)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDRAND), 0);
    use_cpuid();
    EXPECT_TRUE(secondary_now() & SECONDARY_EXEC_RDRAND_EXITING);
    ASSERT_EQ(ask_controls(0), 0);
    EXPECT_FALSE(secondary_now() & SECONDARY_EXEC_RDRAND_EXITING);
}

TEST_F(Intercept, PortsTurnTheIoBitmapsOnAndLoseNoExit)
{
    ASSERT_EQ(ask({}, {{0x60, 0x64, 0}}), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_USE_IO_BITMAPS);
    const auto *page = static_cast<const u8 *>(host_phys_page(field(IO_BITMAP_A.encoding)));
    EXPECT_EQ(field(IO_BITMAP_B.encoding), field(IO_BITMAP_A.encoding));
    for (usize i = 0; i < kPageSize; i++)
        ASSERT_EQ(page[i], 0xff) << "port " << 8 * i << " would be the guest's";
    ASSERT_EQ(ask_controls(0), 0);
    EXPECT_FALSE(primary_now() & CPU_BASED_USE_IO_BITMAPS);
}

TEST_F(Intercept, MsrBitmapFollows)
{
    EXPECT_FALSE(msr_exits(MSR_FS_BASE, false));
    ASSERT_EQ(ask({}, {}, {{MSR_FS_BASE, MSR_GS_BASE, MINIVMX_MSR_READ, 0}}), 0);
    EXPECT_TRUE(msr_exits(MSR_FS_BASE, false));
    EXPECT_TRUE(msr_exits(MSR_GS_BASE, false));
    EXPECT_FALSE(msr_exits(MSR_FS_BASE, true));
    EXPECT_FALSE(msr_exits(MSR_KERNEL_GS_BASE, false));
    // The VM's filter changes and makes the bitmap anew.
    host_request_all(&guest.vm, VCPU_REQUEST_MSR_FILTER);
    exits({{EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_TRUE(msr_exits(MSR_FS_BASE, false));
    ASSERT_EQ(ask_controls(0), 0);
    EXPECT_FALSE(msr_exits(MSR_FS_BASE, false));
}

TEST_F(Intercept, ControlRegisterBitsChangeHandsWithTheirValues)
{
    set(GUEST_CR0.encoding, field(GUEST_CR0.encoding) | X86_CR0_TS); // by the guest itself
    to_vmx(vcpu.core).state_available = 0;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_CR0_WRITE | MINIVMX_INTERCEPT_CR4_WRITE), 0);
    EXPECT_EQ(field(CR0_GUEST_HOST_MASK.encoding), ~u64{0});
    EXPECT_EQ(field(CR4_GUEST_HOST_MASK.encoding), ~u64{0});
    EXPECT_TRUE(field(CR0_READ_SHADOW.encoding) & X86_CR0_TS);
    ASSERT_EQ(ask_controls(0), 0);
    EXPECT_FALSE(field(CR0_GUEST_HOST_MASK.encoding) & X86_CR0_TS);
    EXPECT_TRUE(field(GUEST_CR0.encoding) & X86_CR0_TS);
}

// ---- Answers ------------------------------------------------------------------------------------

TEST_F(Intercept, RdtscProceeds)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    EXPECT_EQ(facts().length, 2u);
    EXPECT_EQ(rip(), before) << "it has not taken place";
    const u64 told = facts().value;
    expect_halt();
    EXPECT_EQ(rip(), before + 2 + 2);
    EXPECT_GE(reg(kRax) | reg(kRdx) << 32, told);
    EXPECT_LT((reg(kRax) | reg(kRdx) << 32) - told, 1000u);
}

TEST_F(Intercept, RdtscpGivesTheProcessorId)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    vcpu.area.uret[URET_TSC_AUX] = 5;
    exits({{EXIT_REASON_RDTSCP}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSCP);
    expect_halt();
    EXPECT_EQ(reg(kRcx), 5u);
}

TEST_F(Intercept, SkippingLeavesTheRegisters)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    reg(kRax) = 77;
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_EQ(reg(kRax), 77u);
    EXPECT_EQ(rip(), before + 2 + 2);
}

TEST_F(Intercept, AnExceptionComesInItsPlace)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    answer().answer = MINIVMX_ANSWER_INJECT;
    answer().vector = GP_VECTOR;
    expect_halt();
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | GP_VECTOR);
    EXPECT_EQ(rip(), before + 2) << "only HLT's two bytes";
}

TEST_F(Intercept, AnInjectedPageFaultSetsCr2)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    answer().answer = MINIVMX_ANSWER_INJECT;
    answer().vector = PF_VECTOR;
    answer().error_code = 4;
    answer().payload = 0x1234;
    expect_halt();
    EXPECT_EQ(vcpu.area.cr2, 0x1234u);
}

TEST_F(Intercept, BadAnswersAreRefusedAndAskedAgain)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    answer().answer = 3;
    EXPECT_EQ(guest.run(vcpu), -EINVAL);
    answer().answer = MINIVMX_ANSWER_INJECT;
    for (const u32 vector : {2u, 18u, 32u, 0x80000000u}) {
        answer().vector = vector;
        EXPECT_EQ(guest.run(vcpu), -EINVAL) << vector;
    }
    answer().vector = GP_VECTOR;
    answer().error_code = 0x10000;
    EXPECT_EQ(guest.run(vcpu), -EINVAL);
    answer().vector = UD_VECTOR;
    answer().error_code = 1;
    EXPECT_EQ(guest.run(vcpu), -EINVAL) << "#UD has none";
    EXPECT_EQ(guest.machine.entries, 1u);
    answer().answer = MINIVMX_ANSWER_PROCEED;
    expect_halt();
}

TEST_F(Intercept, TheAnswerCountsAlsoWithImmediateExit)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    answer().answer = MINIVMX_ANSWER_SKIP;
    vcpu.area.run->immediate_exit = 1;
    EXPECT_EQ(guest.run(vcpu), -EINTR);
    kvm_regs regs{};
    core_vcpu_load(vcpu.core, 0);
    ASSERT_EQ(core_get_regs(vcpu.core, &regs), 0);
    EXPECT_EQ(regs.rip, before + 2);
    vcpu.area.run->immediate_exit = 0;
    expect_halt();
}

TEST_F(Intercept, AClientThatMovesRipHasAnswered)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    kvm_regs regs{};
    core_vcpu_load(vcpu.core, 0);
    ASSERT_EQ(core_get_regs(vcpu.core, &regs), 0);
    regs.rip = 0x4000;
    regs.rax = 9;
    ASSERT_EQ(core_set_regs(vcpu.core, &regs), 0);
    expect_halt();
    EXPECT_EQ(rip(), 0x4002u);
    EXPECT_EQ(reg(kRax), 9u);
}

// Other intercepts, or none, while the client owes an answer.
TEST_F(Intercept, TheQuestionOutlivesTheRequest)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDTSC), 0);
    exits({{EXIT_REASON_RDTSC}, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(MINIVMX_INTERCEPT_RDTSC, EXIT_REASON_RDTSC);
    ASSERT_EQ(ask_controls(0), 0);
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_EQ(rip(), before + 2 + 2);
}

TEST_F(Intercept, WhatWasNotAskedForIsNotTold)
{
    ASSERT_EQ(ask({}, {{0x70, 0x71, 0}}), 0);
    exits({{EXIT_REASON_CPUID}, {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(guest.machine.entries, 2u);
}

// ---- Cost ---------------------------------------------------------------------------------------

// A vCPU without intercepts reads and writes no field more.
TEST_F(Intercept, NoRequestCostsNothing)
{
    exits({{EXIT_REASON_CPUID}, {EXIT_REASON_HLT}});
    expect_halt();
    guest.machine.vmwrites.clear();
    const u64 before = guest.machine.vmreads;
    exits({{EXIT_REASON_CPUID}, {EXIT_REASON_HLT}});
    expect_halt();
    const u64 reads = guest.machine.vmreads - before;
    const usize writes = guest.machine.vmwrites.size();
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDPMC), 0);
    ASSERT_EQ(ask_controls(0), 0);
    guest.machine.vmwrites.clear();
    const u64 again = guest.machine.vmreads;
    exits({{EXIT_REASON_CPUID}, {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(guest.machine.vmreads - again, reads);
    EXPECT_EQ(guest.machine.vmwrites.size(), writes);
}

} // namespace
} // namespace minivmx::test
