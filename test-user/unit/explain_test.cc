// SPDX-License-Identifier: GPL-2.0-only
//
// The steps behind control words: what is told must be what acted, on every shipped CPU and for
// every kind of vCPU.
#include <minivmx/control_shadow.hpp>
#include <minivmx/explain.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace minivmx {
namespace {

using test::combination;
using test::CpuProfile;
using test::GuestMachine;
using test::Lines;
using test::Loaded;
using test::profile;
using test::set_up;
using test::shipped_profiles;

constexpr ControlField field_at(unsigned i)
{
    return static_cast<ControlField>(i);
}

VcpuControlInputs inputs_of(u32 bits)
{
    VcpuControlInputs in{};
    bool *const members[] = {&in.debugreg_wont_exit,
                             &in.need_tpr_shadow,
                             &in.virtualize_apic_accesses,
                             &in.xapic_mode,
                             &in.x2apic_mode,
                             &in.apicv_active,
                             &in.mwait_in_guest,
                             &in.hlt_in_guest,
                             &in.pause_in_guest,
                             &in.has_vpid,
                             &in.dirty_logging,
                             &in.xsaves,
                             &in.rdtscp,
                             &in.rdpid,
                             &in.invpcid,
                             &in.rdrand,
                             &in.rdseed,
                             &in.waitpkg};
    for (bool *member : members) {
        *member = (bits & 1) != 0;
        bits >>= 1;
    }
    if (bits & 1)
        in.intercepts = MINIVMX_INTERCEPT_ALL;
    return in;
}

u64 replay(Span<const RuleEvent> events)
{
    u64 word = 0;
    for (const RuleEvent &event : events) {
        EXPECT_EQ(word & event.bits, event.set ? 0u : event.bits) << "a step that changes nothing";
        word ^= event.bits;
    }
    return word;
}

/// Steps and bits of one word must agree with what the word's own function makes.
void expect_consistent(const Hardware &hw, ControlField field, const VcpuControlInputs &in)
{
    const WordHistory word(hw, field, in);
    ASSERT_EQ(word.value(), vcpu_control_word(hw, field, in));
    ASSERT_EQ(word.negotiated(), hw.config.control(field));
    ASSERT_EQ(replay(word.events()), word.value());
    for (const ControlBit &row : control_bits_of(field)) {
        const BitHistory bit = history_of(hw, word, row);
        ASSERT_EQ(bit.on, (word.value() & row.mask()) != 0) << row.slug;
        ASSERT_LT(bit.count, BitHistory::kMaxSteps) << row.slug;
        bool on = false;
        for (const BitStep &step : bit.taken()) {
            ASSERT_NE(step.set, on) << row.slug;
            ASSERT_NE(step_where(field, step), nullptr);
            on = step.set;
        }
        ASSERT_EQ(on, bit.on) << row.slug;
        ASSERT_EQ(why_untouched(hw, bit) != nullptr, bit.count == 0) << row.slug;
    }
}

class Explained : public testing::TestWithParam<CpuProfile> {};

TEST_P(Explained, StepsMakeTheWordOfEveryVcpu)
{
    std::mt19937 random(1);
    for (unsigned number = 0; number < 128; number++) {
        const Loaded s = set_up(GetParam().host(), combination(number));
        ASSERT_EQ(s.code, 0) << s.why;
        for (const u32 bits : {0u, ~0u, static_cast<u32>(random()), static_cast<u32>(random())})
            for (unsigned i = 0; i < kControlFieldCount; i++)
                expect_consistent(s.hardware, field_at(i), inputs_of(bits));
    }
}

INSTANTIATE_TEST_SUITE_P(Cpus, Explained, testing::ValuesIn(shipped_profiles()),
                         [](const auto &info) {
                             std::string name = info.param.name;
                             for (char &c : name)
                                 c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                             return name;
                         });

std::string bit_lines(const Loaded &s, const char *slug, const VcpuControlInputs &in)
{
    const ControlBit &row = *find_control(slug);
    const WordHistory word(s.hardware, row.field, in);
    Lines lines;
    print_bit_history(s.hardware, history_of(s.hardware, word, row), lines.sink());
    return lines.text();
}

TEST(Explain, ABitIsAChainFromTheMsrToTheVcpu)
{
    Parameters no_ept = default_parameters();
    no_ept.ept = false;
    VcpuControlInputs in{};
    in.has_vpid = true;
    EXPECT_EQ(bit_lines(set_up(profile("IvyBridge").host(), no_ept), "cr3-load-exiting", in),
              " 15 on  cr3-load-exiting\n"
              "      0/1 IA32_VMX_TRUE_PROCBASED_CTLS\n"
              "      on  required: minivmx can't do without it (adjust_vmx_controls)\n"
              "      off ept-cr3-invlpg: with EPT the guest owns its page tables: CR3 and INVLPG "
              "need not leave the guest (setup_vmcs_config)\n"
              "      on  parameter: ept=0 (vmx_exec_control)\n");
    // Without EPT nothing took the exit away in the first place.
    EXPECT_EQ(bit_lines(set_up(profile("Conroe").host()), "cr3-load-exiting", in),
              " 15 on  cr3-load-exiting\n"
              "      1   IA32_VMX_PROCBASED_CTLS\n"
              "      on  required: minivmx can't do without it (adjust_vmx_controls)\n");
    EXPECT_EQ(bit_lines(set_up(profile("Conroe").host()), "enable-ept", in),
              "  1 off enable-ept\n"
              "      0   IA32_VMX_PROCBASED_CTLS2\n"
              "      -   not on this CPU\n");
}

TEST(Explain, AParameterThatTheHardwareTurnedOffSaysWhy)
{
    HostDesc host = profile("IvyBridge").host();
    // EPT without write-back paging structures is of no use: the parameter comes out off.
    host.msr.set(MSR_IA32_VMX_EPT_VPID_CAP, host.msr[MSR_IA32_VMX_EPT_VPID_CAP] & ~bit64(14));
    const std::string lines = bit_lines(set_up(host), "enable-ept", VcpuControlInputs{});
    EXPECT_TRUE(test::contains(lines, "off parameter: ept=0, since this CPU's EPT tables can't be "
                                      "in write-back memory (vmx_secondary_exec_control)"))
        << lines;
}

TEST(Explain, TheParameterIsTheReasonWhereTheVcpuFollowsIt)
{
    const auto last_step = [](const char *slug, auto change) {
        Parameters params = default_parameters();
        change(params);
        const Loaded s = set_up(profile("ICX").host(), params);
        const ControlBit &row = *find_control(slug);
        // What such a vCPU really has: no PAUSE exits without a gap, no logging without PML.
        VcpuControlInputs in{};
        in.has_vpid = true;
        in.pause_in_guest = s.hardware.params.ple_gap == 0;
        const WordHistory word(s.hardware, row.field, in);
        const BitHistory bit = history_of(s.hardware, word, row);
        return bit.steps[bit.count - 1];
    };
    const BitStep ple = last_step("pause-loop-exiting", [](Parameters &p) { p.ple_gap = 0; });
    EXPECT_EQ(ple.rule, Rule::kParameter);
    EXPECT_EQ(ple.parameter, Parameter::kPleGap);
    const BitStep pml = last_step("enable-pml", [](Parameters &p) { p.pml = false; });
    EXPECT_EQ(pml.parameter, Parameter::kPml);
    const BitStep vid =
        last_step("virtual-interrupt-delivery", [](Parameters &p) { p.enable_apicv = false; });
    EXPECT_EQ(vid.parameter, Parameter::kApicv);
}

TEST(Explain, WhatWasSwitchedSinceIsTheLastStep)
{
    const Loaded s = set_up(profile("IvyBridge").host());
    WordHistory word(s.hardware, ControlField::kPrimary, VcpuControlInputs{});
    const unsigned before = static_cast<unsigned>(word.events().size());
    word.observe(word.value());
    EXPECT_EQ(word.events().size(), before);
    word.observe((word.value() | CPU_BASED_INTR_WINDOW_EXITING) & ~CPU_BASED_HLT_EXITING);
    ASSERT_EQ(word.events().size(), before + 2);
    EXPECT_EQ(word.stage_of(before - 1), Stage::kCreation);
    EXPECT_EQ(word.stage_of(before), Stage::kRunning);
    const BitHistory bit = history_of(s.hardware, word, *find_control("interrupt-window-exiting"));
    EXPECT_TRUE(bit.on);
    EXPECT_EQ(bit.steps[bit.count - 1].rule, Rule::kToggledAtRunTime);
    EXPECT_STREQ(step_where(ControlField::kPrimary, bit.steps[bit.count - 1]), "KVM_RUN");
}

TEST(Explain, AWordWhoseMsrIsNotAmongTheValuesIsUnknown)
{
    const Loaded s = set_up(profile("MeteorLake_07").host());
    ASSERT_TRUE(word_is_unknown(s.hardware.host.msr, ControlField::kTertiary));
    EXPECT_FALSE(word_is_unknown(s.hardware.host.msr, ControlField::kSecondary));
    EXPECT_EQ(standing_of(s.hardware, *find_control("enable-hlat")), Standing::kUnknown);
    EXPECT_TRUE(test::contains(bit_lines(s, "ipi-virtualization", VcpuControlInputs{}),
                               "off not-allowed: unknown: the capability MSR is not among"));
    EXPECT_TRUE(
        test::contains(bit_lines(s, "enable-hlat", VcpuControlInputs{}), "-   unknown: the"));
    // A CPU that can't activate the word does not have it.
    EXPECT_FALSE(word_is_unknown(profile("Conroe").host().msr, ControlField::kSecondary));
}

TEST(Explain, AControlsStandingIsOneWord)
{
    const Loaded ivy = set_up(profile("IvyBridge").host());
    const auto standing = [&](const char *slug) {
        return std::string(standing_name(standing_of(ivy.hardware, *find_control(slug))));
    };
    EXPECT_EQ(standing("cr3-load-exiting"), "required");
    EXPECT_EQ(standing("enable-ept"), "used");
    EXPECT_EQ(standing("enable-pml"), "absent");
    EXPECT_EQ(standing("entry-entry-to-smm"), "available");
}

TEST(Explain, EachStageAndStandingHasAName)
{
    EXPECT_STREQ(stage_name(Stage::kNegotiation), "negotiation");
    EXPECT_STREQ(stage_name(Stage::kCreation), "vcpu");
    EXPECT_STREQ(stage_name(Stage::kRunning), "running");
    EXPECT_STREQ(standing_name(Standing::kAvailable), "available");
    EXPECT_STREQ(standing_name(Standing::kUnknown), "unknown");
}

// ---- A living vCPU -----------------------------------------------------------------------------

struct Answer {
    minivmx_controls controls{};
    std::vector<minivmx_control_step> steps;
    int result = 0;
};

Answer get_controls(host_vcpu &vcpu, u32 room = 512)
{
    Answer answer;
    answer.steps.resize(room);
    answer.controls.count = room;
    answer.result = core_get_controls(vcpu.core, &answer.controls, answer.steps.data());
    if (answer.result == 0)
        answer.steps.resize(answer.controls.count);
    return answer;
}

TEST(GetControls, StepsFromZeroGiveTheWordsOfTheVmcs)
{
    for (const CpuProfile &cpu : shipped_profiles()) {
        GuestMachine guest(cpu.host());
        host_vcpu &vcpu = guest.create_vcpu();
        const Answer answer = get_controls(vcpu);
        ASSERT_EQ(answer.result, 0);
        u64 words[MINIVMX_WORDS] = {};
        u64 negotiated[MINIVMX_WORDS] = {};
        for (const minivmx_control_step &step : answer.steps) {
            ASSERT_LT(step.word, MINIVMX_WORDS);
            words[step.word] =
                step.set ? words[step.word] | step.bits : words[step.word] & ~step.bits;
            if (step.stage == MINIVMX_STAGE_NEGOTIATION)
                negotiated[step.word] = words[step.word];
            EXPECT_NE(std::strlen(step.rule), 0u);
            EXPECT_NE(std::strlen(step.function), 0u);
            EXPECT_GT(std::strlen(step.reason), 4u);
            EXPECT_FALSE(std::string(step.rule).ends_with("...")) << step.rule;
            EXPECT_FALSE(std::string(step.function).ends_with("...")) << step.function;
            EXPECT_FALSE(std::string(step.reason).ends_with("...")) << step.reason;
        }
        for (unsigned i = 0; i < kControlFieldCount; i++) {
            const ControlWordInfo &info = control_word_info(field_at(i));
            EXPECT_EQ(words[i], answer.controls.words[i]) << cpu.name << " " << info.slug;
            EXPECT_EQ(negotiated[i], answer.controls.negotiated[i]) << cpu.name << info.slug;
            EXPECT_EQ(answer.controls.words[i], guest.field(vcpu, info.vmcs_field))
                << cpu.name << " " << info.slug;
            const AllowedSettings allowed = true_allowed_settings(cpu.msr, field_at(i));
            EXPECT_EQ(answer.controls.allowed0[i], allowed.allowed0);
            EXPECT_EQ(answer.controls.allowed1[i], allowed.allowed1);
        }
    }
}

TEST(GetControls, TooLittleRoomSaysHowMuchThereShouldBe)
{
    GuestMachine guest(profile("IvyBridge").host());
    host_vcpu &vcpu = guest.create_vcpu();
    const u32 all = get_controls(vcpu).controls.count;
    const Answer none = get_controls(vcpu, 0);
    EXPECT_EQ(none.result, -E2BIG);
    EXPECT_EQ(none.controls.count, all);
    EXPECT_EQ(get_controls(vcpu, all - 1).result, -E2BIG);
    EXPECT_EQ(get_controls(vcpu, all).result, 0);
}

TEST(GetControls, WhatTheGuestsStateSwitchedIsTold)
{
    GuestMachine guest(profile("IvyBridge").host());
    host_vcpu &vcpu = guest.create_vcpu();
    vcpu_vmx &vmx = to_vmx(vcpu.core);
    {
        const LoadedVmcsGuard loaded(vmx);
        exec_controls_setbit<CPU_BASED_INTR_WINDOW_EXITING>(vmx.vmcs01);
    }
    const Answer answer = get_controls(vcpu);
    EXPECT_TRUE(answer.controls.words[MINIVMX_WORD_PRIMARY] & CPU_BASED_INTR_WINDOW_EXITING);
    unsigned told = 0;
    for (const minivmx_control_step &step : answer.steps)
        if (step.stage == MINIVMX_STAGE_RUNNING && step.word == MINIVMX_WORD_PRIMARY &&
            step.bits == CPU_BASED_INTR_WINDOW_EXITING && step.set &&
            std::string(step.rule) == "toggled-at-run-time")
            told++;
    EXPECT_EQ(told, 1u);
}

TEST(PrintControls, EachBitOfEachWordHasALine)
{
    GuestMachine guest(profile("ICX").host());
    host_vcpu &vcpu = guest.create_vcpu();
    std::vector<std::string> lines;
    core_vcpu_print_controls(
        vcpu.core,
        [](void *context, const char *line) {
            static_cast<std::vector<std::string> *>(context)->emplace_back(line);
        },
        &lines);
    usize bits = 0, words = 0, freedoms = 0;
    for (const std::string &line : lines) {
        words += line[0] != ' ';
        bits += line[0] == ' ' && line[5] != ' ';
        freedoms += line.compare(0, 8, "      0 ") == 0 || line.compare(0, 8, "      1 ") == 0 ||
                    line.compare(0, 8, "      0/") == 0;
        EXPECT_LT(line.size(), 200u);
        EXPECT_FALSE(line.ends_with("...")) << line;
    }
    EXPECT_EQ(words, kControlFieldCount);
    EXPECT_EQ(bits, all_control_bits().size());
    EXPECT_EQ(freedoms, all_control_bits().size());
}

} // namespace
} // namespace minivmx
