// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx explain`, `diff` and `cpus` without their command lines.
#include <control_search.hpp>
#include <cpu_list.hpp>
#include <cpu_search.hpp>
#include <explain_diff.hpp>
#include <explain_json.hpp>
#include <explain_text.hpp>
#include <msr_file.hpp>
#include <nearest.hpp>
#include <vcpu_controls.hpp>
#include <what_if.hpp>

#include <minivmx/irqchip.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/report.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "support.hpp"
#include "tool_support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;
using profiles::shipped_profiles;
using test::contains;
using test::GuestMachine;

Question ask(const std::string &cpu)
{
    Question question;
    question.source = cpu;
    question.host = test::profile(cpu).host();
    return question;
}

// ---- The library -------------------------------------------------------------------------------

TEST(ToolExplain, KeepsWhatTheCoreDecides)
{
    for (const CpuProfile &cpu : shipped_profiles()) {
        Question question = ask(cpu.name);
        question.vcpu.irqchip = true;
        question.vcpu.rdtscp = true;
        const Explanation answer = explain(question);
        ASSERT_TRUE(answer.usable) << cpu.name << answer.error;
        ASSERT_EQ(answer.words.size(), kControlFieldCount);
        const VcpuControlInputs in = control_inputs(answer.hardware, question.vcpu);
        for (unsigned i = 0; i < kControlFieldCount; i++) {
            const ExplainedWord &word = answer.words[i];
            const ControlField field = static_cast<ControlField>(i);
            EXPECT_EQ(word.info->field, field);
            EXPECT_EQ(word.value, vcpu_control_word(answer.hardware, field, in)) << cpu.name;
            EXPECT_EQ(word.negotiated, answer.hardware.config.control(field)) << cpu.name;
            for (const ExplainedBit &bit : word.bits) {
                EXPECT_EQ(bit.on, (word.value & bit.row->mask()) != 0);
                EXPECT_NE(bit.steps.empty(), bit.untouched.empty()) << bit.row->slug;
                EXPECT_FALSE(bit.short_reason().empty()) << bit.row->slug;
                EXPECT_EQ(&answer.bit(*bit.row), &bit);
            }
        }
    }
}

TEST(ToolExplain, ACpuThatTheModuleRefusesIsExplainedAsFarAsItCame)
{
    Question question = ask("IvyBridge");
    test::forbid(question.host, ControlField::kExit, VM_EXIT_HOST_ADDR_SPACE_SIZE);
    const Explanation answer = explain(question);
    EXPECT_FALSE(answer.usable);
    EXPECT_TRUE(contains(answer.error, "Host address-space size"));
    const ExplainedBit &missing = answer.bit(*find_control("exit-host-address-space-size"));
    EXPECT_FALSE(missing.on);
    ASSERT_EQ(missing.steps.size(), 2u);
    EXPECT_EQ(missing.steps[1].rule, "not-allowed");
    // Primary controls are negotiated before; entry controls never were.
    EXPECT_TRUE(answer.bit(*find_control("hlt-exiting")).on);
    EXPECT_EQ(answer.word(ControlField::kEntry).value, 0u);
    EXPECT_TRUE(contains(subject_text(answer), "The module would not load there: "));
}

/// The same vCPU, made by the module's own code.
VcpuControlInputs real_inputs(const CpuProfile &cpu, const VcpuChoice &choice)
{
    Parameters params = default_parameters();
    params.report = 0;
    GuestMachine guest(cpu.host(), params);
    if (choice.irqchip && core_create_irqchip(guest.vm.core) != 0)
        throw std::runtime_error("no irqchip");
    kvm_enable_cap exits{};
    exits.cap = KVM_CAP_X86_DISABLE_EXITS;
    exits.args[0] = choice.pause ? KVM_X86_DISABLE_EXITS_PAUSE : 0u;
    kvm_vm &kvm = to_kvm(guest.vm.core);
    kvm.hlt_in_guest = choice.hlt;
    kvm.mwait_in_guest = choice.mwait;
    if (choice.pause && core_vm_enable_cap(guest.vm.core, &exits) != 0)
        throw std::runtime_error("no KVM_CAP_X86_DISABLE_EXITS");
    host_vcpu &vcpu = guest.create_vcpu();
    return vcpu_control_inputs(to_vmx(vcpu.core));
}

TEST(ToolExplain, AVcpuOnPaperIsTheOneThatTheModuleMakes)
{
    for (const CpuProfile &cpu : shipped_profiles()) {
        for (const unsigned bits : {0u, 1u, 2u, 4u, 8u, 15u}) {
            VcpuChoice choice;
            choice.irqchip = (bits & 1) != 0;
            choice.hlt = (bits & 2) != 0;
            choice.mwait = (bits & 4) != 0;
            choice.pause = (bits & 8) != 0;
            const Explanation answer = explain(ask(cpu.name));
            const VcpuControlInputs paper = control_inputs(answer.hardware, choice);
            const VcpuControlInputs real = real_inputs(cpu, choice);
            for (unsigned i = 0; i < kControlFieldCount; i++) {
                const ControlField field = static_cast<ControlField>(i);
                EXPECT_EQ(vcpu_control_word(answer.hardware, field, paper),
                          vcpu_control_word(answer.hardware, field, real))
                    << cpu.name << " " << control_word_info(field).slug << " " << bits;
            }
        }
    }
}

// ---- Text --------------------------------------------------------------------------------------

TEST(ToolExplainText, ABitIsAShortChain)
{
    Question question = ask("IvyBridge");
    question.parameters.ept = false;
    const Explanation answer = explain(question);
    EXPECT_EQ(
        bit_text(answer, answer.bit(*find_control("cr3-load-exiting"))),
        "CR3-load exiting: on\n"
        "  bit 15 of the primary processor-based controls, VMCS field 0x4002; SDM Vol. 3C, 25.6.2, "
        "26.1.3\n"
        "  MOV to CR3 leaves the guest; exit 28 (Control-register access)\n"
        "  moved by the parameter ept (0 sets it)\n"
        "  CPU  0 or 1                     IA32_VMX_TRUE_PROCBASED_CTLS (0x48e) is "
        "0xfff9fffe04006172\n"
        "  on   adjust_vmx_controls        required: minivmx can't do without it\n"
        "  off  setup_vmcs_config          ept-cr3-invlpg: with EPT the guest owns its page "
        "tables: "
        "CR3 and\n"
        "                                  INVLPG need not leave the guest\n"
        "  on   vmx_exec_control           parameter: ept=0\n");
    EXPECT_EQ(subject_text(answer),
              "IvyBridge\n"
              "  vCPU: no irqchip in the kernel, its CPUID empty\n"
              "  with the parameters ept=0\n"
              "  warning: parameter unrestricted_guest is off: it needs ept\n");
}

TEST(ToolExplainText, NoLineIsLongerThan100Characters)
{
    for (const CpuProfile &cpu : shipped_profiles()) {
        const Explanation answer = explain(ask(cpu.name));
        std::string text;
        for (const ExplainedWord &word : answer.words) {
            text += word_text(answer, word, true) + word_text(answer, word, false);
            for (const ExplainedBit &bit : word.bits)
                text += bit_text(answer, bit);
        }
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            EXPECT_LE(line.size(), 100u) << line;
            EXPECT_NE(line.back(), ' ') << line;
        }
    }
}

TEST(ToolExplainText, AWordHasEachBitOrSaysThatItIsUnused)
{
    const Explanation answer = explain(ask("IvyBridge"));
    const ExplainedWord &word = answer.word(ControlField::kSecondary);
    const std::string brief = word_text(answer, word, true);
    const std::string full = word_text(answer, word, false);
    for (const ExplainedBit &bit : word.bits)
        EXPECT_TRUE(contains(full, bit.row->name)) << bit.row->name;
    EXPECT_TRUE(contains(brief, "\n  not on this CPU: EPT-violation #VE, PASID translation,"))
        << brief;
    EXPECT_TRUE(contains(full, "\n  18 off 0   EPT-violation #VE                      not on "));
}

// ---- JSON --------------------------------------------------------------------------------------

TEST(ToolExplainJson, HasTheSameStepsAndCanBeAskedAgain)
{
    Question question = ask("IvyBridge");
    question.parameters.ept = false;
    const Explanation answer = explain(question);
    const auto json = explanation_json(answer, {find_control("cr3-load-exiting")});
    ASSERT_EQ(json["words"].size(), 1u);
    ASSERT_EQ(json["words"][0]["bits"].size(), 1u);
    const auto &bit = json["words"][0]["bits"][0];
    EXPECT_EQ(bit["slug"], "cr3-load-exiting");
    EXPECT_EQ(bit["standing"], "required");
    EXPECT_EQ(bit["on"], true);
    ASSERT_EQ(bit["steps"].size(), 3u);
    EXPECT_EQ(bit["steps"][1]["rule"], "ept-cr3-invlpg");
    EXPECT_EQ(bit["steps"][1]["function"], "setup_vmcs_config");
    EXPECT_EQ(bit["steps"][1]["to"], 0);
    EXPECT_EQ(bit["steps"][2]["reason"], "ept=0");

    const auto all = explanation_json(answer, {});
    EXPECT_EQ(all["words"].size(), kControlFieldCount);
    const std::vector<CpuProfile> again = parse_msr_text("f", all.dump());
    ASSERT_EQ(again.size(), 1u);
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++)
        EXPECT_EQ(again[0].msr[msr], question.host.msr[msr]);
}

// ---- A running vCPU ----------------------------------------------------------------------------

std::string controls_file(host_vcpu &vcpu)
{
    std::string text;
    core_vcpu_print_controls(
        vcpu.core,
        [](void *context, const char *line) {
            *static_cast<std::string *>(context) += std::string(line) + "\n";
        },
        &text);
    return text;
}

/// A living vCPU has state that switches controls: what it would be without.
void take_back_what_runs(ExplainedWord &word)
{
    for (ExplainedBit &bit : word.bits) {
        if (bit.steps.empty() || bit.steps.back().where != "KVM_RUN")
            continue;
        bit.steps.pop_back();
        bit.on = !bit.on;
        word.value ^= bit.row->mask();
    }
}

TEST(ToolVcpuControls, TheModulesFileIsReadBackWhole)
{
    for (const CpuProfile &cpu : shipped_profiles()) {
        Parameters params = default_parameters();
        params.report = 0;
        GuestMachine guest(cpu.host(), params);
        host_vcpu &vcpu = guest.create_vcpu();
        Explanation read = parse_vcpu_controls("f", controls_file(vcpu));
        const Explanation expected = explain(ask(cpu.name));
        ASSERT_EQ(read.words.size(), expected.words.size());
        for (unsigned i = 0; i < kControlFieldCount; i++) {
            ExplainedWord &a = read.words[i];
            const ExplainedWord &b = expected.words[i];
            EXPECT_EQ(a.value, guest.field(vcpu, b.info->vmcs_field)) << b.info->slug;
            take_back_what_runs(a);
            EXPECT_EQ(a.value, b.value) << cpu.name << " " << b.info->slug;
            EXPECT_EQ(a.negotiated, b.negotiated);
            EXPECT_EQ(a.deciding_msr, b.deciding_msr) << cpu.name << " " << b.info->slug;
            ASSERT_EQ(a.bits.size(), b.bits.size());
            for (std::size_t n = 0; n < a.bits.size(); n++) {
                EXPECT_EQ(a.bits[n].on, b.bits[n].on);
                EXPECT_EQ(a.bits[n].may_be_0, b.bits[n].may_be_0);
                EXPECT_EQ(a.bits[n].may_be_1, b.bits[n].may_be_1);
                EXPECT_EQ(a.bits[n].untouched, b.bits[n].untouched);
                ASSERT_EQ(a.bits[n].steps.size(), b.bits[n].steps.size()) << b.bits[n].row->slug;
                for (std::size_t step = 0; step < a.bits[n].steps.size(); step++) {
                    EXPECT_EQ(a.bits[n].steps[step].to_one, b.bits[n].steps[step].to_one);
                    EXPECT_EQ(a.bits[n].steps[step].rule, b.bits[n].steps[step].rule);
                    EXPECT_EQ(a.bits[n].steps[step].where, b.bits[n].steps[step].where);
                    EXPECT_EQ(a.bits[n].steps[step].reason, b.bits[n].steps[step].reason);
                }
            }
        }
    }
}

TEST(ToolVcpuControls, TheLineAtFaultIsNamed)
{
    GuestMachine guest(test::profile("IvyBridge").host());
    const std::string good = controls_file(guest.create_vcpu());
    const auto error = [](const std::string &text) {
        return usage_error([&] { parse_vcpu_controls("f", text); });
    };
    const auto with = [&](const std::string &from, const std::string &to) {
        std::string text = good;
        text.replace(text.find(from), from.size(), to);
        return error(text);
    };
    EXPECT_EQ(error(good), "");
    EXPECT_EQ(error(""), "f:0: expected 7 control words, got '0'");
    EXPECT_EQ(with("pin 0x", "pim 0x").find("f:1: expected \"pin 0x..., negotiated 0x...\", got"),
              0u);
    EXPECT_EQ(with("  0 on  external", "  0 maybe external"),
              "f:2: expected on or off, got 'maybe'");
    EXPECT_EQ(
        with("  0 on  external", "  1 on  external").find("f:2: expected the next bit of the pin"),
        0u);
    EXPECT_EQ(with("      0/1 IA32", "      0/2 IA32").find("f:3: expected a step"), 0u);
    EXPECT_EQ(with(" (adjust_vmx_controls)", "").find("f:4: expected a step, \"rule: reason"), 0u);
    EXPECT_EQ(error("      on  a: b (c)\n").find("f:1: expected a bit before its steps"), 0u);
    EXPECT_EQ(error("  0 on  hlt-exiting\n").find("f:1: expected a bit"), 0u);
    for (std::size_t size = 0; size < good.size(); size += 7)
        ASSERT_TRUE(contains(error(good.substr(0, size)), "f:")) << "cut after " << size;
}

TEST(ToolVcpuControls, AreFoundByProcessVmAndVcpu)
{
    namespace fs = std::filesystem;
    char name[] = "/tmp/minivmx-test-XXXXXX";
    const std::string root = mkdtemp(name);
    fs::create_directories(root + "/1234/0/1");
    GuestMachine guest(test::profile("IvyBridge").host());
    std::ofstream(root + "/1234/0/1/controls") << controls_file(guest.create_vcpu());

    EXPECT_EQ(read_vcpu_controls("1234/0/1", root).source, "vCPU 1234/0/1");
    const auto error = [&](const std::string &vcpu, const std::string &directory) {
        try {
            read_vcpu_controls(vcpu, directory);
        } catch (const Error &e) {
            return std::string(e.what());
        }
        return std::string();
    };
    EXPECT_EQ(error("1234/0/2", root), "--vcpu: there is no vCPU 1234/0/2; there are 1234/0/1");
    for (const char *wrong : {"1234", "1/2", "1/2/3/4", "a/0/0", "../0/0", "", "1//2/3", "/1/2/3"})
        EXPECT_TRUE(contains(error(wrong, root), "expected PID/VM/VCPU")) << wrong;
    fs::remove_all(root + "/1234");
    EXPECT_TRUE(contains(error("1234/0/1", root), "no virtual machine runs"));
    fs::remove_all(root);
    EXPECT_TRUE(contains(error("1234/0/1", root), "the module loaded"));
}

// ---- diff --------------------------------------------------------------------------------------

TEST(ToolDiff, ShowsOnlyWhatDiffersAndWhy)
{
    const Explanation a = explain(ask("IvyBridge"));
    Question no_ept = ask("IvyBridge");
    no_ept.parameters.ept = false;
    const Explanation b = explain(no_ept);
    EXPECT_TRUE(differences(a, a).empty());
    EXPECT_TRUE(contains(diff_text(a, a), "\nno control differs\n"));
    EXPECT_EQ(diff_json(a, a)["differ"].size(), 0u);

    std::vector<std::string> slugs;
    for (const BitDifference &bit : differences(a, b))
        slugs.emplace_back(bit.a->row->slug);
    EXPECT_EQ(slugs,
              (std::vector<std::string>{"invlpg-exiting", "cr3-load-exiting", "cr3-store-exiting",
                                        "enable-ept", "unrestricted-guest"}));
    const std::string text = diff_text(a, b);
    EXPECT_TRUE(contains(text, "primary processor-based controls: A 0xb5986dfa, B 0xb599effa\n"
                               "   9 INVLPG exiting\n"))
        << text;
    EXPECT_TRUE(contains(text, "     B off negotiated unrestricted_guest=0, since it needs ept\n"));
    EXPECT_TRUE(contains(text, "\nparameters\n     A ept=1\n     B ept=0\n"));
    EXPECT_TRUE(contains(text, "\n5 of "));
    const auto json = diff_json(a, b);
    EXPECT_EQ(json["differ"].size(), 5u);
    EXPECT_EQ(json["a"]["words"].size(), 2u);
}

// ---- Names -------------------------------------------------------------------------------------

TEST(ToolControlSearch, TakesNameMacroSlugAndNumber)
{
    const ControlBit *const cr3 = find_control("cr3-load-exiting");
    for (const char *name : {"cr3-load-exiting", "CR3-load exiting", "cpu_based_cr3_load_exiting",
                             "CPU_BASED_CR3_LOAD_EXITING", "primary.15", "Primary.0xf"})
        EXPECT_EQ(find_controls(name), std::vector<const ControlBit *>{cr3}) << name;
    // VM exit and VM entry have one each.
    EXPECT_EQ(find_controls("Load IA32_PAT").size(), 2u);
    for (const ControlBit &row : all_control_bits()) {
        EXPECT_EQ(find_controls(row.slug), std::vector<const ControlBit *>{&row});
        EXPECT_EQ(find_controls(row.macro), std::vector<const ControlBit *>{&row});
    }
}

TEST(ToolControlSearch, UnknownOnesGetSuggestions)
{
    const auto error = [](const char *name) { return usage_error([&] { find_controls(name); }); };
    EXPECT_EQ(error("cr3-laod-exiting"), "there is no control 'cr3-laod-exiting'; did you mean "
                                         "cr3-load-exiting or cr8-load-exiting?");
    EXPECT_EQ(error("unrestricted"),
              "there is no control 'unrestricted'; did you mean unrestricted-guest?");
    EXPECT_EQ(error("zzzzzz"), "there is no control 'zzzzzz'; minivmx explain lists all");
    EXPECT_EQ(error("pin.1"), "pin.1: bit 1 of the pin-based controls is reserved");
    EXPECT_EQ(error("pin.32"), "pin.32: 32 is out of range, expected 0 to 31");
    EXPECT_NE(error("pin."), "");
    EXPECT_NE(error(std::string(5000, 'x').c_str()), "");
    EXPECT_EQ(find_word("secondary"), ControlField::kSecondary);
    EXPECT_EQ(find_word("VM-exit"), ControlField::kExit);
    EXPECT_EQ(usage_error([] { find_word("third"); }),
              "--field: there is no control word 'third', expected pin, primary, secondary, "
              "tertiary, exit, exit2, entry");
}

TEST(ToolNearest, FindsPartsAndMisspeltNames)
{
    const std::vector<std::string> names = {"haswell", "broadwell", "haswell-ep", "skylake"};
    using Names = std::vector<std::string>;
    EXPECT_EQ(nearest("haswell", names), (Names{"haswell", "haswell-ep"}));
    EXPECT_EQ(nearest("hsawell", names), Names{"haswell"});
    EXPECT_EQ(nearest("SKYLAKES", names), Names{"skylake"});
    EXPECT_EQ(nearest("", names), Names{});
    EXPECT_EQ(nearest("itanium", names), Names{});
    EXPECT_EQ(nearest("well", names, 2), (Names{"haswell", "broadwell"}));
    EXPECT_EQ(did_you_mean({}), "");
    EXPECT_EQ(did_you_mean({"a", "b", "c"}), "; did you mean a, b or c?");
}

TEST(ToolWhatIf, ListsAreTakenWordByWord)
{
    VcpuChoice choice;
    set_disabled_exits("--disable-exits", "hlt, MWAIT", choice);
    EXPECT_TRUE(choice.hlt && choice.mwait && !choice.pause);
    set_disabled_exits("--disable-exits", "none,pause", choice);
    EXPECT_TRUE(!choice.hlt && !choice.mwait && choice.pause);
    set_guest_cpuid("--guest-cpuid", "all", choice);
    EXPECT_TRUE(choice.xsaves && choice.rdtscp && choice.rdpid && choice.invpcid && choice.rdrand &&
                choice.rdseed && choice.waitpkg);
    EXPECT_EQ(usage_error([&] { set_disabled_exits("--disable-exits-a", "halt", choice); }),
              "--disable-exits-a: expected hlt, mwait, pause, all or none, got 'halt'");
}

// ---- cpus --------------------------------------------------------------------------------------

TEST(ToolCpus, AreListedByGenerationAndFoundByPart)
{
    EXPECT_EQ(find_cpus("").size(), shipped_profiles().size());
    EXPECT_EQ(find_cpus("zzz").size(), 0u);
    for (const CpuProfile &cpu : shipped_profiles())
        EXPECT_EQ(&choose_cpu("--cpu", cpu.name), &cpu);
    std::vector<std::string> names;
    for (const CpuProfile *cpu : find_cpus("ivy"))
        names.push_back(cpu->name);
    EXPECT_EQ(names,
              (std::vector<std::string>{"IvyBridge", "IvyBridgeE", "corei7_ivy_bridge_3770k"}));
    // Each word counts, whichever text it is in.
    ASSERT_EQ(find_cpus("bridge 3960").size(), 1u);
    const std::string text = cpu_list_text(find_cpus(""));
    EXPECT_LT(text.find("Conroe"), text.find("Skylake_6500U"));
    EXPECT_TRUE(contains(text, "\nAtom\n"));
    EXPECT_TRUE(contains(text, "\nEmulated by Bochs\n"));
    EXPECT_TRUE(contains(cpu_text(test::profile("IvyBridge")), "  source: github:InstLatx64"));
    const auto json = cpu_list_json(find_cpus(""));
    ASSERT_EQ(json.size(), shipped_profiles().size());
    for (const auto &cpu : json)
        EXPECT_FALSE(cpu["source"].get<std::string>().empty());
}

} // namespace
} // namespace minivmx::tool
