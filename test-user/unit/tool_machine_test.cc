// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx report`: where its values come from, and what it says about them.
#include "tool_support.hpp"

#include <machine_report.hpp>
#include <msr_file.hpp>
#include <online_cpus.hpp>
#include <parameters.hpp>
#include <profiles.hpp>

#include <gtest/gtest.h>

#include <string_view>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

HostDesc haswell()
{
    return shipped_cpu("corei7_haswell_4770");
}

Json word(const Json &report, std::string_view field)
{
    for (const Json &candidate : report.at("words"))
        if (candidate.at("field") == field)
            return candidate;
    return nullptr;
}

Json bit(const Json &report, std::string_view slug)
{
    for (const Json &candidate : report.at("words"))
        for (const Json &row : candidate.at("bits"))
            if (row.at("slug") == slug)
                return row;
    return nullptr;
}

TEST(ToolReport, JsonHasEveryBitWithItsState)
{
    const MachineReport report = make_report("test", {haswell()}, default_parameters());
    ASSERT_TRUE(report.usable) << report.error;
    const Json json = report_json(report);
    EXPECT_EQ(json["usable"], true);
    EXPECT_TRUE(json["error"].is_null());
    EXPECT_EQ(json["cpu"]["family"], 6);
    EXPECT_EQ(word(json, "primary")["msr"]["name"], "IA32_VMX_PROCBASED_CTLS");
    std::size_t bits = 0;
    for (const Json &each : json["words"])
        bits += each["bits"].size();
    EXPECT_EQ(bits, all_control_bits().size());

    const Json hlt = bit(json, "hlt-exiting");
    EXPECT_EQ(hlt["use"], "required");
    EXPECT_EQ(hlt["on"], true);
    EXPECT_EQ(hlt["may_be_1"], true);
    // EPT makes these needless (the document's rule), though they are required.
    const Json cr3 = bit(json, "cr3-load-exiting");
    EXPECT_EQ(cr3["use"], "required");
    EXPECT_EQ(cr3["on"], false);
    EXPECT_NE(cr3["reason"], "");
}

TEST(ToolReport, ParametersShowInTheWordsThatTheyMove)
{
    const MachineReport report = make_report("test", {haswell()}, parse_parameters({"ept=0"}));
    ASSERT_TRUE(report.usable) << report.error;
    const Json json = report_json(report);
    EXPECT_EQ(json["parameters"]["ept"], false);
    EXPECT_EQ(json["parameters"]["vpid"], true);
    // Off with ept=0, although nobody asked for it: it needs EPT.
    EXPECT_EQ(json["parameters"]["unrestricted_guest"], false);
    EXPECT_TRUE(json["turned_off"].contains("unrestricted_guest"));
    EXPECT_EQ(bit(json, "cr3-load-exiting")["on"], true);
    EXPECT_NE(report_text(report, ReportLevel::kScreen).find("ept=0"), std::string::npos);
}

TEST(ToolReport, ACpuWithoutARequiredControlIsRefusedWithASentence)
{
    HostDesc host = haswell();
    const u64 msr = host.msr[MSR_IA32_VMX_PROCBASED_CTLS];
    host.msr.set(MSR_IA32_VMX_PROCBASED_CTLS, msr & ~(bit64(7) << 32));
    const MachineReport report = make_report("test", {host}, default_parameters());
    EXPECT_FALSE(report.usable);
    EXPECT_NE(report.error.find("HLT exiting"), std::string::npos) << report.error;
    const std::string text = report_text(report, ReportLevel::kScreen);
    EXPECT_NE(text.find("would not load here: "), std::string::npos);
    const Json json = report_json(report);
    EXPECT_EQ(json["usable"], false);
    EXPECT_EQ(json["error"], report.error);
    EXPECT_FALSE(json.contains("words"));
}

TEST(ToolReport, CpusThatAreAlikeAreListedAndOthersNamed)
{
    std::vector<HostDesc> hosts(5, haswell());
    for (u32 i = 0; i < 5; i++)
        hosts[i].cpu = i < 3 ? i : i + 3;
    const MachineReport alike = make_report("test", hosts, default_parameters());
    EXPECT_TRUE(alike.usable) << alike.error;
    EXPECT_NE(report_text(alike, ReportLevel::kScreen).find("CPUs 0-2, 6-7 offer the same"),
              std::string::npos)
        << report_text(alike, ReportLevel::kScreen);

    const u64 msr = hosts[3].msr[MSR_IA32_VMX_PROCBASED_CTLS2];
    hosts[3].msr.set(MSR_IA32_VMX_PROCBASED_CTLS2, msr & ~(bit64(5) << 32)); // no VPID there
    const MachineReport differs = make_report("test", hosts, default_parameters());
    EXPECT_FALSE(differs.usable);
    ASSERT_EQ(differs.differences.size(), 1u);
    EXPECT_EQ(differs.differences[0].cpu, 6u);
    EXPECT_NE(differs.differences[0].sentence.find("VPID"), std::string::npos)
        << differs.differences[0].sentence;
    EXPECT_EQ(report_json(differs)["differences"][0]["cpu"], 6);
    // What the first CPU has is worth showing all the same.
    EXPECT_TRUE(report_json(differs).contains("words"));
}

TEST(ToolReport, EveryShippedCpuGivesAReportOrASentence)
{
    for (const profiles::CpuProfile &cpu : profiles::shipped_profiles()) {
        const MachineReport report = make_report(cpu.name, {cpu.host()}, default_parameters());
        EXPECT_NE(report.usable, !report.error.empty()) << cpu.name;
        EXPECT_FALSE(report_text(report, ReportLevel::kEveryBit).empty());
        EXPECT_EQ(report_json(report)["source"], cpu.name);
    }
}

TEST(ToolParameters, AreReadAsInsmodReadsThem)
{
    const Parameters p =
        parse_parameters({"ept=0", "vnmi=N", "vpid=off", "pml", "ple_gap=0", "ple_window=8192"});
    EXPECT_FALSE(p.ept);
    EXPECT_FALSE(p.vnmi);
    EXPECT_FALSE(p.vpid);
    EXPECT_TRUE(p.pml);
    EXPECT_EQ(p.ple_gap, 0u);
    EXPECT_EQ(p.ple_window, 8192u);
    EXPECT_TRUE(p.flexpriority);
    EXPECT_EQ(usage_error([] { parse_parameters({"ept=2"}); }), "--param: ept=2: expected 1 or 0");
    EXPECT_EQ(usage_error([] { parse_parameters({"ple_gap=-1"}); }),
              "--param: ple_gap: '-1' is not a number");
    EXPECT_EQ(usage_error([] {
                  parse_parameters({"eptt=1"});
              }).find("--param: the module has no parameter 'eptt'"),
              0u);
}

TEST(ToolOnlineCpus, ListsAreReadAsTheKernelWritesThem)
{
    EXPECT_EQ(parse_cpu_list("0"), (std::vector<u32>{0}));
    EXPECT_EQ(parse_cpu_list("0-3,6"), (std::vector<u32>{0, 1, 2, 3, 6}));
    for (const char *wrong : {"", "a", "3-1", "0,", "0-", "0;1", "99999", "0-99999999999"})
        EXPECT_THROW(parse_cpu_list(wrong), Error) << wrong;
}

} // namespace
} // namespace minivmx::tool
