// SPDX-License-Identifier: GPL-2.0-only
//
// MINIVMX_SET_INTERCEPTS over the simulated machine: what is refused, which control bits and
// bitmaps follow, what the client is told, and what its answers do.
#include <minivmx/intercept_controls.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

namespace minivmx::test {
namespace {

Parameters quiet()
{
    Parameters params = default_parameters();
    params.report = 0;
    return params;
}

class Intercept : public testing::Test {
  protected:
    explicit Intercept(const char *cpu = "corei7_skylake_x", Parameters params = quiet())
        : guest(sim::cpu(cpu), params), vcpu(guest.create_vcpu())
    {
        guest.machine.on_vmenter = [this](host_vcpu &) { return play(); };
    }

    // One exit each, the last one repeats; `fields` are what the CPU says of it.
    struct Exit {
        u32 reason;
        std::map<u32, u64> fields{};
    };
    u32 play()
    {
        auto &fields = guest.machine.current_vmcs().fields;
        injected.push_back(static_cast<u32>(fields[VM_ENTRY_INTR_INFO_FIELD.encoding]));
        primary.push_back(static_cast<u32>(fields[CPU_BASED_VM_EXEC_CONTROL.encoding]));
        fields[VM_ENTRY_INTR_INFO_FIELD.encoding] &= ~u64{INTR_INFO_VALID};
        fields[IDT_VECTORING_INFO_FIELD.encoding] = 0;
        fields[VM_EXIT_INTR_INFO.encoding] = 0;
        fields[EXIT_QUALIFICATION.encoding] = 0;
        fields[VM_EXIT_INSTRUCTION_LEN.encoding] = 2;
        const Exit exit =
            script.empty() ? Exit{EXIT_REASON_HLT} : script[std::min(entry, script.size() - 1)];
        fields[VM_EXIT_REASON.encoding] = exit.reason;
        for (const auto &[field, value] : exit.fields)
            fields[field] = value;
        entry++;
        return 0;
    }

    // The guest's next exits.
    void exits(std::vector<Exit> next)
    {
        script = std::move(next);
        entry = 0;
    }

    int ask(const minivmx_intercepts &asked, const std::vector<minivmx_port_range> &ports = {},
            const std::vector<minivmx_msr_range> &msrs = {})
    {
        minivmx_intercepts copy = asked;
        if (!ports.empty())
            copy.port_count = static_cast<u32>(ports.size());
        if (!msrs.empty())
            copy.msr_count = static_cast<u32>(msrs.size());
        core_vcpu_load(vcpu.core, 0);
        const int result = core_set_intercepts(vcpu.core, &copy, ports.data(), msrs.data());
        core_vcpu_put(vcpu.core);
        return result;
    }
    int ask_controls(u64 controls)
    {
        minivmx_intercepts asked{};
        asked.controls = controls;
        return ask(asked);
    }
    int ask_exceptions(u32 exceptions)
    {
        minivmx_intercepts asked{};
        asked.exceptions = exceptions;
        return ask(asked);
    }

    const minivmx_exit_intercept &facts() { return *MINIVMX_INTERCEPT_FACTS(vcpu.area.run); }
    minivmx_exit_intercept &answer() { return *MINIVMX_INTERCEPT_FACTS(vcpu.area.run); }
    // Runs until the client is asked.
    void expect_question(u64 control, u32 reason)
    {
        ASSERT_EQ(guest.run(vcpu), 0);
        ASSERT_EQ(vcpu.area.run->exit_reason, u32{MINIVMX_EXIT_INTERCEPT});
        EXPECT_EQ(facts().control, control);
        EXPECT_EQ(facts().exit_reason, reason);
        EXPECT_EQ(facts().answer, u32{MINIVMX_ANSWER_PROCEED});
    }
    void expect_halt()
    {
        ASSERT_EQ(guest.run(vcpu), 0);
        EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_HLT});
    }

    u64 field(u32 encoding) { return guest.field(vcpu, encoding); }
    void set(u32 encoding, u64 value) { guest.vmcs_of(vcpu).fields[encoding] = value; }
    u32 primary_now() { return static_cast<u32>(field(CPU_BASED_VM_EXEC_CONTROL.encoding)); }
    u32 secondary_now() { return static_cast<u32>(field(SECONDARY_VM_EXEC_CONTROL.encoding)); }
    u64 &reg(Gpr gpr) { return vcpu.area.regs[gpr]; }
    u64 rip()
    {
        kvm_regs regs{};
        core_vcpu_load(vcpu.core, 0);
        EXPECT_EQ(core_get_regs(vcpu.core, &regs), 0);
        core_vcpu_put(vcpu.core);
        return regs.rip;
    }
    bool msr_exits(u32 msr, bool write)
    {
        const auto *bits = static_cast<const u8 *>(to_vmx(vcpu.core).msr_bitmap);
        const u32 at = (write ? 2048 : 0) + (msr >> 31 ? 1024 : 0);
        return bits[at + (msr & 0x1fff) / 8] >> (msr & 7) & 1;
    }
    void use_cpuid()
    {
        kvm_cpuid_entry2 basic{}, more{}, xsave{};
        basic.function = 1;
        basic.ecx = bit32(26) | bit32(30); // XSAVE, RDRAND
        more.function = 7;
        more.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        more.ebx = bit32(10) | bit32(18); // INVPCID, RDSEED
        more.ecx = bit32(2) | bit32(5);   // UMIP, WAITPKG
        xsave.function = 0xd;
        xsave.index = 1;
        xsave.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        xsave.eax = bit32(3); // XSAVES
        const kvm_cpuid_entry2 entries[] = {basic, more, xsave};
        core_vcpu_load(vcpu.core, 0);
        ASSERT_EQ(core_set_cpuid2(vcpu.core, entries, 3), 0);
        core_vcpu_put(vcpu.core);
    }

    GuestMachine guest;
    host_vcpu &vcpu;
    std::vector<Exit> script;
    std::vector<u32> injected, primary;
    usize entry = 0;
};

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

// ---- Kinds --------------------------------------------------------------------------------------

TEST_F(Intercept, HaltIsToldAndThenTakesPlace)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_HLT), 0);
    expect_question(MINIVMX_INTERCEPT_HLT, EXIT_REASON_HLT);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_HLT});
    EXPECT_EQ(guest.machine.entries, 1u);
}

TEST_F(Intercept, ControlRegisters)
{
    constexpr u64 kMovToCr3FromRbx = 3 | 0u << 4 | u64{kRbx} << 8;
    constexpr u64 kMovFromCr3ToRsi = 3 | 1u << 4 | u64{kRsi} << 8;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_CR3_LOAD | MINIVMX_INTERCEPT_CR3_STORE), 0);
    reg(kRbx) = 0x5000;
    exits({{EXIT_REASON_CR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovToCr3FromRbx}}},
           {EXIT_REASON_CR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovFromCr3ToRsi}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_CR3_LOAD, EXIT_REASON_CR_ACCESS);
    EXPECT_EQ(facts().number, 3u);
    EXPECT_EQ(facts().value, 0x5000u);
    EXPECT_EQ(facts().reg, kRbx);
    EXPECT_EQ(facts().is_write, 1);
    EXPECT_EQ(facts().size, 4);
    expect_question(MINIVMX_INTERCEPT_CR3_STORE, EXIT_REASON_CR_ACCESS);
    EXPECT_EQ(field(GUEST_CR3.encoding), 0x5000u);
    EXPECT_EQ(facts().reg, kRsi);
    EXPECT_EQ(facts().is_write, 0);
    expect_halt();
    EXPECT_EQ(reg(kRsi), 0x5000u);
    ASSERT_EQ(ask_controls(0), 0);
    core_vcpu_load(vcpu.core, 0);
    kvm_sregs sregs{};
    ASSERT_EQ(core_get_sregs(vcpu.core, &sregs), 0);
    EXPECT_EQ(sregs.cr3, 0x5000u);
}

TEST_F(Intercept, DebugRegistersExitEachTime)
{
    constexpr u64 kMovToDr1FromRax = 1, kMovFromDr1ToRcx = 1 | 16 | u64{kRcx} << 8;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_MOV_DR), 0);
    reg(kRax) = 0xabc;
    exits({{EXIT_REASON_DR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovToDr1FromRax}}},
           {EXIT_REASON_DR_ACCESS, {{EXIT_QUALIFICATION.encoding, kMovFromDr1ToRcx}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_MOV_DR, EXIT_REASON_DR_ACCESS);
    EXPECT_EQ(facts().number, 1u);
    EXPECT_EQ(facts().value, 0xabcu);
    expect_question(MINIVMX_INTERCEPT_MOV_DR, EXIT_REASON_DR_ACCESS);
    EXPECT_EQ(facts().reg, kRcx);
    expect_halt();
    EXPECT_EQ(reg(kRcx), 0xabcu);
    for (const u32 word : primary)
        EXPECT_TRUE(word & CPU_BASED_MOV_DR_EXITING);
}

TEST_F(Intercept, Ports)
{
    constexpr u64 kOutWord = 1 | 0x63ull << 16; // ports 63H and 64H
    constexpr u64 kInByte = 0 | 8 | 0x65ull << 16;
    ASSERT_EQ(ask({}, {{0x64, 0x64, 0}}), 0);
    reg(kRax) = 0x12345678;
    exits({{EXIT_REASON_IO_INSTRUCTION, {{EXIT_QUALIFICATION.encoding, kOutWord}}},
           {EXIT_REASON_IO_INSTRUCTION, {{EXIT_QUALIFICATION.encoding, kInByte}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_IO_INSTRUCTION);
    EXPECT_EQ(facts().number, 0x63u);
    EXPECT_EQ(facts().size, 2);
    EXPECT_EQ(facts().is_write, 1);
    EXPECT_EQ(facts().value, 0x5678u);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_IO}) << "what it is without intercepts";
    EXPECT_EQ(vcpu.area.run->io.port, 0x63);
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_IO});
    EXPECT_EQ(vcpu.area.run->io.port, 0x65);
    expect_halt();
}

TEST_F(Intercept, Msrs)
{
    ASSERT_EQ(ask({}, {}, {{MSR_LSTAR, MSR_LSTAR, MINIVMX_MSR_WRITE, 0}}), 0);
    reg(kRcx) = MSR_LSTAR;
    reg(kRax) = 0x1000;
    reg(kRdx) = 0xffff8000;
    exits({{EXIT_REASON_MSR_WRITE}, {EXIT_REASON_MSR_READ}, {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_MSR_WRITE);
    EXPECT_EQ(facts().number, MSR_LSTAR);
    EXPECT_EQ(facts().value, 0xffff800000001000u);
    EXPECT_EQ(facts().is_write, 1);
    expect_halt();
    EXPECT_EQ(vcpu.area.uret[URET_LSTAR], 0xffff800000001000u);
}

TEST_F(Intercept, RandomNumbers)
{
    use_cpuid();
    constexpr u64 kRdrand16ToRbx = u64{kRbx} << 3, kRdseed64ToRdi = 2u << 11 | u64{kRdi} << 3;
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDRAND | MINIVMX_INTERCEPT_RDSEED), 0);
    reg(kRbx) = 0xffffffffffffffff;
    exits({{EXIT_REASON_RDRAND, {{VMX_INSTRUCTION_INFO.encoding, kRdrand16ToRbx}}},
           {EXIT_REASON_RDSEED, {{VMX_INSTRUCTION_INFO.encoding, kRdseed64ToRdi}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_RDRAND, EXIT_REASON_RDRAND);
    EXPECT_EQ(facts().reg, kRbx);
    EXPECT_EQ(facts().size, 2);
    expect_question(MINIVMX_INTERCEPT_RDSEED, EXIT_REASON_RDSEED);
    EXPECT_EQ(reg(kRbx), 0xffffffffffff0000 | (guest.machine.random_number & 0xffff));
    EXPECT_TRUE(field(GUEST_RFLAGS.encoding) & X86_EFLAGS_CF);
    guest.machine.random_ready = false;
    expect_halt();
    EXPECT_EQ(reg(kRdi), 0u);
    EXPECT_FALSE(field(GUEST_RFLAGS.encoding) & X86_EFLAGS_CF);
}

// Without RDRAND in its CPUID a guest gets #UD, and it isn't RDRAND that the client hears of.
TEST_F(Intercept, RandomNumbersThatTheGuestLacks)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_RDRAND), 0);
    exits({{EXIT_REASON_RDRAND}, {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION | UD_VECTOR);
}

TEST_F(Intercept, InvlpgForgetsTranslations)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_INVLPG), 0);
    exits({{EXIT_REASON_INVLPG, {{EXIT_QUALIFICATION.encoding, 0x7000}}}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_INVLPG, EXIT_REASON_INVLPG);
    EXPECT_EQ(facts().address, 0x7000u);
    const u64 before = guest.machine.invalidations;
    expect_halt();
    EXPECT_EQ(guest.machine.invalidations, before + 1);
}

TEST_F(Intercept, WindowsAreReportedOnce)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_INTERRUPT_WINDOW), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_INTR_WINDOW_EXITING);
    exits({{EXIT_REASON_INTERRUPT_WINDOW}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_INTERRUPT_WINDOW, EXIT_REASON_INTERRUPT_WINDOW);
    EXPECT_EQ(facts().length, 0u);
    EXPECT_FALSE(primary_now() & CPU_BASED_INTR_WINDOW_EXITING);
    expect_halt();
    EXPECT_FALSE(primary.back() & CPU_BASED_INTR_WINDOW_EXITING);
}

// ---- Exceptions ---------------------------------------------------------------------------------

constexpr u32 kHardException = INTR_INFO_VALID | INTR_TYPE_HARD_EXCEPTION;

TEST_F(Intercept, PageFaultProceeds)
{
    ASSERT_EQ(ask_exceptions(bit32(PF_VECTOR)), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, kHardException | INTR_INFO_HAS_ERROR_CODE | PF_VECTOR},
             {VM_EXIT_INTR_ERROR_CODE.encoding, 6},
             {EXIT_QUALIFICATION.encoding, 0xdead000}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(facts().number, u32{PF_VECTOR});
    EXPECT_EQ(facts().value, 6u);
    EXPECT_EQ(facts().address, 0xdead000u);
    EXPECT_EQ(facts().length, 0u);
    EXPECT_EQ(vcpu.area.cr2, 0u) << "not delivered yet";
    expect_halt();
    EXPECT_EQ(vcpu.area.cr2, 0xdead000u);
    EXPECT_EQ(injected[1] & ~INTR_INFO_HAS_ERROR_CODE, kHardException | PF_VECTOR);
}

TEST_F(Intercept, AFaultThatIsSkippedIsTriedAgain)
{
    ASSERT_EQ(ask_exceptions(bit32(GP_VECTOR)), 0);
    const u64 before = rip();
    exits({{EXIT_REASON_EXCEPTION_NMI, {{VM_EXIT_INTR_INFO.encoding, kHardException | GP_VECTOR}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_FALSE(injected[1] & INTR_INFO_VALID);
    EXPECT_EQ(rip(), before + 2);
}

TEST_F(Intercept, BreakpointInstructionReturnsBehindItself)
{
    ASSERT_EQ(ask_exceptions(bit32(BP_VECTOR)), 0);
    const Exit int3{
        EXIT_REASON_EXCEPTION_NMI,
        {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR},
         {VM_EXIT_INSTRUCTION_LEN.encoding, 1}}};
    exits({int3, int3, {EXIT_REASON_HLT}});
    const u64 before = rip();
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(facts().length, 1u);
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    EXPECT_EQ(injected[1], INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR);
    EXPECT_EQ(field(VM_ENTRY_INSTRUCTION_LEN.encoding), 1u);
    answer().answer = MINIVMX_ANSWER_SKIP;
    expect_halt();
    EXPECT_FALSE(injected[2] & INTR_INFO_VALID);
    EXPECT_EQ(rip(), before + 1 + 2);
}

// SDM Vol. 3A, 6.15, table 6-5: as it would have been without the exit in between.
TEST_F(Intercept, AFaultWhileAFaultIsDeliveredIsADoubleFault)
{
    ASSERT_EQ(ask_exceptions(bit32(GP_VECTOR)), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, kHardException | INTR_INFO_HAS_ERROR_CODE | GP_VECTOR},
             {IDT_VECTORING_INFO_FIELD.encoding, kHardException | NP_VECTOR}}},
           {EXIT_REASON_HLT}});
    expect_question(0, EXIT_REASON_EXCEPTION_NMI);
    expect_halt();
    EXPECT_EQ(injected[1] & INTR_INFO_VECTOR_MASK, u32{DF_VECTOR});
}

TEST_F(Intercept, ADebuggersExceptionIsNotTheClients)
{
    ASSERT_EQ(ask_exceptions(bit32(DB_VECTOR) | bit32(BP_VECTOR)), 0);
    kvm_guest_debug debug{};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    core_vcpu_load(vcpu.core, 0);
    ASSERT_EQ(core_set_guest_debug(vcpu.core, &debug), 0);
    EXPECT_TRUE(field(EXCEPTION_BITMAP.encoding) & bit32(BP_VECTOR));
    exits(
        {{EXIT_REASON_EXCEPTION_NMI,
          {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_SOFT_EXCEPTION | BP_VECTOR}}}});
    ASSERT_EQ(guest.run(vcpu), 0);
    EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_DEBUG});
    debug = {};
    ASSERT_EQ(core_set_guest_debug(vcpu.core, &debug), 0);
    EXPECT_TRUE(field(EXCEPTION_BITMAP.encoding) & bit32(BP_VECTOR)) << "the client's remains";
}

// The host's events never are a question.
TEST_F(Intercept, NmisAreTheHosts)
{
    ASSERT_EQ(ask_exceptions(MINIVMX_INTERCEPT_EXCEPTIONS), 0);
    exits({{EXIT_REASON_EXCEPTION_NMI,
            {{VM_EXIT_INTR_INFO.encoding, INTR_INFO_VALID | INTR_TYPE_NMI | NMI_VECTOR}}},
           {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(guest.machine.host_events, std::vector<std::string>{"nmi"});
}

// ---- The monitor trap flag ----------------------------------------------------------------------

class InterceptOnTigerLake : public Intercept {
  protected:
    InterceptOnTigerLake() : Intercept("tigerlake") {}
};

TEST_F(InterceptOnTigerLake, SingleStep)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_SINGLE_STEP), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_MONITOR_TRAP_FLAG);
    exits({{EXIT_REASON_MONITOR_TRAP_FLAG}, {EXIT_REASON_CPUID}, {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_SINGLE_STEP, EXIT_REASON_MONITOR_TRAP_FLAG);
    const u64 before = rip();
    // CPUID is carried out here: the CPU knows of no step.
    expect_question(MINIVMX_INTERCEPT_SINGLE_STEP, EXIT_REASON_MONITOR_TRAP_FLAG);
    EXPECT_EQ(guest.machine.entries, 2u);
    EXPECT_EQ(rip(), before + 2);
    expect_halt();
}

TEST_F(InterceptOnTigerLake, UserWait)
{
    use_cpuid();
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_USER_WAIT), 0);
    EXPECT_TRUE(primary_now() & CPU_BASED_RDTSC_EXITING);
    reg(kRax) = 100;
    set(GUEST_RFLAGS.encoding, X86_EFLAGS_FIXED | X86_EFLAGS_CF | X86_EFLAGS_ZF);
    to_vmx(vcpu.core).state_available = 0;
    exits({{EXIT_REASON_RDTSC},
           {EXIT_REASON_TPAUSE, {{VMX_INSTRUCTION_INFO.encoding, u64{kRbx} << 3}}},
           {EXIT_REASON_UMWAIT, {{VMX_INSTRUCTION_INFO.encoding, u64{kRbx} << 3}}},
           {EXIT_REASON_HLT}});
    expect_question(MINIVMX_INTERCEPT_USER_WAIT, EXIT_REASON_TPAUSE);
    EXPECT_EQ(guest.machine.entries, 2u) << "RDTSC is nobody's question";
    EXPECT_EQ(facts().reg, kRbx);
    reg(kRbx) = 1;
    expect_question(MINIVMX_INTERCEPT_USER_WAIT, EXIT_REASON_UMWAIT);
    EXPECT_EQ(field(GUEST_RFLAGS.encoding), X86_EFLAGS_FIXED);
    reg(kRbx) = 2;
    expect_halt();
    EXPECT_EQ(injected.back() & INTR_INFO_VECTOR_MASK, u32{GP_VECTOR}) << "a reserved bit";
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
