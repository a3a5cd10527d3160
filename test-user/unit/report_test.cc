// SPDX-License-Identifier: GPL-2.0-only
#include "support.hpp"

#include <gtest/gtest.h>

namespace minivmx {
namespace {

using test::contains;
using test::Lines;
using test::Loaded;
using test::profile;
using test::set_up;

Lines report(const Loaded &loaded, ReportLevel level)
{
    Lines lines;
    print_report(loaded.hardware, level, lines.sink());
    return lines;
}

std::string line_with(const Lines &lines, const std::string &part)
{
    for (const std::string &line : lines.lines) {
        if (contains(line, part))
            return line;
    }
    return "(no line has \"" + part + "\")";
}

TEST(Report, NoneSaysNothing)
{
    const Loaded s = set_up(profile("IvyBridge").host());
    EXPECT_TRUE(report(s, ReportLevel::kNone).lines.empty());
}

TEST(Report, ScreenFitsAScreenOnEveryCpu)
{
    for (const test::CpuProfile &p : test::shipped_profiles()) {
        const Loaded s = set_up(p.host());
        ASSERT_EQ(s.code, 0) << s.why;
        const Lines lines = report(s, ReportLevel::kScreen);
        EXPECT_LE(lines.lines.size(), 40u) << p.name;
        for (const std::string &line : lines.lines)
            EXPECT_LE(line.size(), 100u) << line;
    }
}

TEST(Report, TellsTheCpuAndTheBasics)
{
    const Lines lines = report(set_up(profile("IvyBridge").host()), ReportLevel::kScreen);
    EXPECT_EQ(lines.lines[0],
              "Intel(R) Core(TM) i7-3770K CPU @ 3.50GHz, family 6 model 58 stepping 9");
    EXPECT_TRUE(contains(lines.lines[1], "VMX revision 0x10, VMCS of 1024 bytes"))
        << lines.lines[1];
}

TEST(Report, MarksEachNameByWhatBecameOfIt)
{
    const Lines lines = report(set_up(profile("corei7_haswell_4770").host()), ReportLevel::kScreen);
    const std::string text = lines.text();
    EXPECT_TRUE(contains(text, "*HLT exiting")) << text;
    EXPECT_TRUE(contains(text, "+Virtual NMIs"));
    EXPECT_TRUE(contains(text, "-Process posted interrupts"));
    EXPECT_TRUE(contains(text, "xCR3-load exiting (EPT)"));
    EXPECT_TRUE(contains(text, "xCR8-store exiting (TPR shadow)"));
    EXPECT_TRUE(contains(text, "-Enable ENCLS exiting"));
    EXPECT_FALSE(contains(text, "EPT-violation #VE")) << "unused controls are not on the screen";
}

TEST(Report, NamesTheParameterThatTurnedABitOff)
{
    Parameters params = default_parameters();
    params.ept = false;
    params.vnmi = false;
    const Lines lines =
        report(set_up(profile("corei7_haswell_4770").host(), params), ReportLevel::kScreen);
    const std::string text = lines.text();
    EXPECT_TRUE(contains(text, "xEnable EPT (ept=0)")) << text;
    EXPECT_TRUE(contains(text, "xVirtual NMIs (vnmi=0)"));
    EXPECT_TRUE(contains(text, "*CR3-load exiting (ept=0)")) << "on again, because of ept=0";
    EXPECT_TRUE(contains(text, "unrestricted_guest=0 (it needs ept)"));
    EXPECT_TRUE(contains(line_with(lines, "pin  "), "0x0000007f -> 0x0000001f"));
}

TEST(Report, ShowsTheNegotiatedWords)
{
    const Loaded s = set_up(profile("corei7_haswell_4770").host());
    const Lines lines = report(s, ReportLevel::kScreen);
    for (const ControlField field :
         {ControlField::kPin, ControlField::kPrimary, ControlField::kSecondary, ControlField::kExit,
          ControlField::kEntry}) {
        Text<20> word;
        word.put(hex(s.hardware.config.control(field), 8));
        EXPECT_TRUE(contains(line_with(lines, word.c_str()), control_word_info(field).slug));
    }
    EXPECT_TRUE(contains(line_with(lines, "EPT  "), "write-back"));
    EXPECT_TRUE(contains(line_with(lines, "VPID  "), "INVVPID"));
}

TEST(Report, LeavesOutWordsThatTheCpuDoesNotHave)
{
    const std::string text = report(set_up(profile("Conroe").host()), ReportLevel::kScreen).text();
    EXPECT_FALSE(contains(text, "\nsecondary "));
    EXPECT_FALSE(contains(text, "\ntertiary "));
    EXPECT_FALSE(contains(text, "\nVPID  "));
}

TEST(Report, SaysWhatAnErratumTook)
{
    const std::string text =
        report(set_up(profile("corei5_lynnfield_750").host()), ReportLevel::kScreen).text();
    EXPECT_TRUE(contains(text, "xLoad IA32_PERF_GLOBAL_CTRL (erratum)")) << text;
}

TEST(Report, EveryBitHasALine)
{
    const Lines lines = report(set_up(profile("AlderLake_02").host()), ReportLevel::kEveryBit);
    for (const ControlBit &row : all_control_bits()) {
        EXPECT_FALSE(contains(line_with(lines, std::string(" ") + row.name), "(no line"))
            << row.name;
    }
    EXPECT_GT(lines.lines.size(), all_control_bits().size());
    for (const std::string &line : lines.lines)
        EXPECT_LT(line.size(), 159u) << "cut: " << line;
}

TEST(Report, EveryBitSaysWhatTheCpuAllows)
{
    const Lines lines = report(set_up(profile("Conroe").host()), ReportLevel::kEveryBit);
    // Without TRUE MSRs CR3 exits can't be turned off; there are no virtual NMIs.
    EXPECT_TRUE(contains(line_with(lines, "CR3-load exiting"), "15  on   required 1 "));
    EXPECT_TRUE(contains(line_with(lines, " Virtual NMIs"), "5  off  optional 0 "));
    EXPECT_TRUE(contains(line_with(lines, " HLT exiting"), "7  on   required 0/1"));
    EXPECT_TRUE(contains(lines.text(), "IA32_VMX_PROCBASED_CTLS3 does not exist"));
}

// Who decided over the bit last in module initialisation.
Rule last_rule(const Loaded &s, ControlField field, unsigned bit)
{
    return WordHistory(s.hardware, field).last_negotiated(bit);
}

TEST(WordHistory, KeepsTheLastRuleOfEachBit)
{
    const Loaded s = set_up(profile("corei5_lynnfield_750").host());
    EXPECT_EQ(last_rule(s, ControlField::kPrimary, 15), Rule::kEptMakesCr3ExitsNeedless);
    EXPECT_EQ(last_rule(s, ControlField::kPrimary, 19), Rule::kTprShadowServesCr8);
    EXPECT_EQ(last_rule(s, ControlField::kPrimary, 7), Rule::kRequired);
    EXPECT_EQ(last_rule(s, ControlField::kPrimary, 1), Rule::kMustBeOne);
    EXPECT_EQ(last_rule(s, ControlField::kEntry, 13), Rule::kPerfGlobalCtrlErratum);
    EXPECT_EQ(last_rule(s, ControlField::kSecondary, 17), Rule::kNotAllowed);
    EXPECT_EQ(last_rule(s, ControlField::kPrimary, 18), Rule::kCount);
}

// Replaying the recorded steps gives the word: nothing changes a word behind the sink's back.
TEST(RuleSink, EventsReplayToTheNegotiatedWords)
{
    for (const test::CpuProfile &p : test::shipped_profiles()) {
        u64 words[kControlFieldCount] = {};
        const RuleSink sink{[](void *context, const RuleEvent &event) {
                                u64 &word =
                                    static_cast<u64 *>(context)[static_cast<unsigned>(event.field)];
                                EXPECT_NE(event.bits, 0u);
                                EXPECT_EQ(word & event.bits, event.set ? 0u : event.bits);
                                word ^= event.bits;
                            },
                            words};
        SetupLog log;
        log.rules = &sink;
        vmcs_config config;
        vmx_capability capability;
        const HostDesc host = p.host();
        ASSERT_TRUE(setup_vmcs_config(host, default_parameters(), config, capability, log).ok());
        for (unsigned i = 0; i < kControlFieldCount; i++)
            EXPECT_EQ(words[i], config.control(static_cast<ControlField>(i))) << p.name << i;
    }
}

} // namespace
} // namespace minivmx
