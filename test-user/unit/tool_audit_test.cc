// SPDX-License-Identifier: GPL-2.0-only
//
// `minivmx audit`: dumps as the log has them, read back, and what is said of them.
#include "tool_support.hpp"
#include "vmcs_dump_text.hpp"

#include <audit/audit_report.hpp>
#include <audit/vmcs_dump.hpp>

#include <profiles.hpp>

#include <minivmx/vmcs_field.hpp>

#include <gtest/gtest.h>

#include <set>

namespace minivmx::tool {
namespace {

using test::dump_text;
using test::DumpLines;

VmcsDump only_dump(const std::string &text)
{
    const VmcsDumps dumps = parse_vmcs_dumps("log", text);
    EXPECT_EQ(dumps.dumps.size(), 1u);
    EXPECT_TRUE(dumps.notes.empty());
    return dumps.dumps.front();
}

std::string parse_error(const std::string &text)
{
    return usage_error([&] { parse_vmcs_dumps("log", text); });
}

AuditReport report_of(const std::string &text, const AuditedCpu &cpu = {})
{
    return audit_dumps("log", parse_vmcs_dumps("log", text), cpu);
}

std::set<std::string> names(const std::vector<AuditFinding> &findings)
{
    std::set<std::string> all;
    for (const AuditFinding &finding : findings)
        all.insert(finding.check->name);
    return all;
}

AuditedCpu haswell()
{
    const profiles::CpuProfile *cpu = profiles::find_profile("corei7_haswell_4770");
    return audited_cpu(cpu->name, cpu->host(), true);
}

TEST(ToolAuditDump, EachLineBecomesFields)
{
    const VmcsDump dump = only_dump(dump_text());
    const auto value = [&](auto field) { return dump.fields.at(field.encoding); };
    EXPECT_EQ(dump.line, 1u);
    EXPECT_EQ(dump.title, "VMCS 00000000cafe1234, last attempted VM-entry on CPU 3");
    EXPECT_EQ(value(GUEST_CR0), 0x80050033u);
    EXPECT_EQ(value(CR4_READ_SHADOW), 0x6f0u);
    EXPECT_EQ(value(GUEST_PDPTR3), 0x4001u);
    EXPECT_EQ(value(GUEST_SYSENTER_CS), 0x10u);
    EXPECT_EQ(value(GUEST_SYSENTER_EIP), 0xffffffff81a01e60u);
    EXPECT_EQ(value(GUEST_GS_AR_BYTES), 0x1c001u);
    EXPECT_EQ(value(GUEST_GS_BASE), 0xffff888236e00000u);
    EXPECT_EQ(value(GUEST_IDTR_LIMIT), 0xfffu);
    EXPECT_EQ(value(GUEST_IA32_EFER), 0xd01u);
    EXPECT_EQ(value(HOST_TR_SELECTOR), 0x40u);
    EXPECT_EQ(value(HOST_CR4), 0x1726e0u);
    EXPECT_EQ(value(HOST_IA32_SYSENTER_EIP), 0xffffffff82e02020u);
    EXPECT_EQ(value(VM_ENTRY_CONTROLS), 0xd3ffu);
    EXPECT_EQ(value(VM_EXIT_REASON), 0x80000021u);
    EXPECT_EQ(value(VIRTUAL_PROCESSOR_ID), 1u);
    // That there are no lists tells that they are empty.
    EXPECT_EQ(value(VM_ENTRY_MSR_LOAD_COUNT), 0u);
    EXPECT_FALSE(dump.fields.contains(VMCS_LINK_POINTER.encoding));
}

TEST(ToolAuditDump, WhatTheLogPutsBeforeALineDoesNotMatter)
{
    const VmcsDump plain = only_dump(dump_text());
    for (const char *prefix :
         {"[  673.850218] kvm_intel: ", "[ 6026.560893] ",
          "Sep  8 22:52:20 host kernel: [10639.238026] ", "kernel: kvm_intel: ",
          "> [    1.5] minivmx: ", "<3>[   12.000001][ T1234] kvm_intel: ", "\t"}) {
        SCOPED_TRACE(prefix);
        const VmcsDump dump = only_dump(DumpLines().prefixed(prefix).text());
        EXPECT_EQ(dump.fields, plain.fields);
        EXPECT_EQ(dump.title, plain.title);
    }
    EXPECT_EQ(only_dump(DumpLines().ended("\r\n").text()).fields, plain.fields);
}

TEST(ToolAuditDump, OtherLinesOfTheLogDoNotMatter)
{
    const std::string noise = "[    0.1] audit: type=1400 apparmor=\"DENIED\" reason=none\n"
                              "usb 1-1: new device, CR0 and RIP = nothing\n"
                              "[    0.2] RIP: 0010:panic+0x1/0x2\n\n";
    std::string text = noise;
    const DumpLines dump;
    for (const std::string &line : dump.lines())
        text.append(line).append("\n").append(noise);
    EXPECT_EQ(only_dump(text).fields, only_dump(dump_text()).fields);
    EXPECT_EQ(only_dump(text).line, 5u);
}

TEST(ToolAuditDump, OneLineMayHoldSeveralOrBeBroken)
{
    // As pr_cont() leaves them, when another CPU prints in between and when not.
    for (const char *lines : {"SVI|RVI = ec|00 TPR Threshold = 0x01\nAPIC-access addr = "
                              "0x0000000000123000 virt-APIC addr = 0x0000000000456000",
                              "SVI|RVI = ec|00 \n[  1.0] TPR Threshold = 0x01\nAPIC-access addr = "
                              "0x0000000000123000 \nvirt-APIC addr = 0x0000000000456000"}) {
        const VmcsDump dump = only_dump(dump_text() + lines);
        EXPECT_EQ(dump.fields.at(TPR_THRESHOLD.encoding), 1u);
        EXPECT_EQ(dump.fields.at(APIC_ACCESS_ADDR.encoding), 0x123000u);
        EXPECT_EQ(dump.fields.at(VIRTUAL_APIC_PAGE_ADDR.encoding), 0x456000u);
    }
}

TEST(ToolAuditDump, EferThatVmEntryDoesNotLoadIsNoField)
{
    const VmcsDump dump = only_dump(
        DumpLines().replace("EFER= 0x0000000000000d01", "EFER= 0xd01 (effective)").text());
    EXPECT_FALSE(dump.fields.contains(GUEST_IA32_EFER.encoding));
}

TEST(ToolAuditDump, MsrListsGiveTheirCounts)
{
    const std::string list = "MSR guest autoload:\n   0: msr=0x00000600 value=0x0\n"
                             "   1: msr=0x00000802 value=0x0000000000000001\n";
    const std::string text =
        DumpLines().replace("*** Host State ***", list + "*** Host State ***").text();
    const VmcsDump dump = only_dump(text);
    EXPECT_EQ(dump.fields.at(VM_ENTRY_MSR_LOAD_COUNT.encoding), 2u);
    ASSERT_EQ(dump.entry_msrs.size(), 2u);
    EXPECT_EQ(dump.entry_msrs[1].index, 0x802u);
    EXPECT_TRUE(names(report_of(text).dumps[0].violated).contains("msr-load-x2apic"));
}

TEST(ToolAuditDump, OlderKernelsHaveOtherControlLines)
{
    const std::string text =
        DumpLines()
            .replace("CPUBased=0xb5986dfa SecondaryExec=0x000000aa TertiaryExec=0x0000000000000000",
                     "PinBased=0000003f CPUBased=b5986dfa SecondaryExec=000000aa")
            .replace("PinBased=0x0000003f EntryControls=0000d3ff ExitControls=002fefff",
                     "EntryControls=0000d3ff ExitControls=002fefff")
            .text();
    VmcsDump dump = only_dump(text);
    dump.fields[TERTIARY_VM_EXEC_CONTROL.encoding] = 0;
    EXPECT_EQ(dump.fields, only_dump(dump_text()).fields);
}

TEST(ToolAuditDump, MinivmxTellsMore)
{
    const VmcsDump dump = only_dump(dump_text() + "*** Other State ***\n"
                                                  "VMCS_LINK_POINTER = 0xffffffffffffffff\n"
                                                  "MSR 0x480 = 0x00da040000000004\n"
                                                  "physical bits = 0x27 linear bits = 0x30\n");
    EXPECT_EQ(dump.fields.at(VMCS_LINK_POINTER.encoding), ~u64{0});
    EXPECT_EQ(dump.msr[MSR_IA32_VMX_BASIC], 0x00da040000000004u);
    EXPECT_EQ(dump.physical_bits, 39u);
    EXPECT_EQ(dump.linear_bits, 48u);
}

TEST(ToolAuditDump, SeveralDumpsAreToldApart)
{
    const VmcsDumps dumps = parse_vmcs_dumps("log", dump_text() + "noise\n" + dump_text());
    ASSERT_EQ(dumps.dumps.size(), 2u);
    EXPECT_EQ(dumps.dumps[1].line, DumpLines().lines().size() + 2);
    EXPECT_EQ(dumps.dumps[0].fields, dumps.dumps[1].fields);
}

TEST(ToolAuditDump, ADumpThatIsCutOffIsPassedOverIfThereIsAnother)
{
    std::vector<std::string> lines = DumpLines().lines();
    std::string tail;
    for (std::size_t i = 20; i < lines.size(); i++)
        tail += lines[i] + "\n";
    const VmcsDumps dumps = parse_vmcs_dumps("log", tail + dump_text());
    EXPECT_EQ(dumps.dumps.size(), 1u);
    ASSERT_EQ(dumps.notes.size(), 1u);
    EXPECT_EQ(parse_error(tail), dumps.notes[0]);
}

TEST(ToolAuditDump, ATruncatedDumpIsRefused)
{
    const std::vector<std::string> lines = DumpLines().lines();
    std::string text = lines[0] + "\n" + lines[1] + "\n";
    for (std::size_t count = 2; count < lines.size(); count++) {
        const std::string error = parse_error(text);
        const bool refused = error.starts_with("log:1: expected '") &&
                             error.ends_with("' in the dump that begins here; it is cut off");
        EXPECT_EQ(refused, count < DumpLines::kNeeded) << count << ": " << error;
        text += lines[count] + "\n";
    }
}

TEST(ToolAuditDump, WhatIsNoDumpIsRefused)
{
    for (const char *text :
         {"", "\n\n", "hello\n", "*** Guest Stat", "VMCS 1, last attempted VM-entry on CPU 3\n"})
        EXPECT_EQ(parse_error(text),
                  "log: expected the dump of a VMCS ('*** Guest State ***' ...), which kvm_intel "
                  "prints to dmesg with dump_invalid_vmcs=1, but there is none");
}

TEST(ToolAuditDump, AMalformedLineIsRefused)
{
    EXPECT_EQ(parse_error(DumpLines().replace("CR3 = 0x0000000004442000", "CR3 = none").text()),
              "log:5: expected 'CR3 = ...' with hexadecimal numbers, got 'CR3 = none'");
    EXPECT_EQ(parse_error(DumpLines().replace("sel=0x0010, attr", "sel=0x12345, attr").text()),
              "log:11: expected 16 bits for GUEST_CS_SELECTOR, got 0x12345");
    for (const char *bad : {"CR3 = 0x", "CR3 = 0x11112222333344445", "CR3 = 12g4", "CR3 = "})
        EXPECT_NE(parse_error(DumpLines().replace("CR3 = 0x0000000004442000", bad).text()), "")
            << bad;
}

TEST(ToolAuditDump, TwoMixedDumpsAreRefused)
{
    EXPECT_EQ(parse_error(DumpLines().replace("RSP = ", "CR3 = 0x1\nRSP = ").text()),
              "log:8: 'CR3 = ...' comes a second time in the dump that begins in line 1; are two "
              "dumps mixed?");
    EXPECT_EQ(parse_error(dump_text() + "*** Host State ***\n"),
              "log:46: '*** Host State ***' comes a second time in the dump that begins in line 1; "
              "are two dumps mixed?");
}

TEST(ToolAudit, AValidDumpWithoutCapabilitiesIsIncomplete)
{
    const AuditReport report = report_of(dump_text());
    ASSERT_EQ(report.dumps.size(), 1u);
    EXPECT_TRUE(report.dumps[0].violated.empty());
    EXPECT_EQ(report.result(), AuditResult::kIncomplete);
    const auto unknown = names(report.dumps[0].not_checkable);
    for (const char *name : {"pin-must-be-1", "link-pointer-address", "msr-bitmap",
                             "guest-efer-reserved", "eptp-memory-type"})
        EXPECT_TRUE(unknown.contains(name)) << name;
    const std::string text = audit_text(report);
    EXPECT_NE(text.find("Violated: nothing\n"), std::string::npos) << text;
    EXPECT_NE(text.find("--cpu NAME or --msrs FILE"), std::string::npos) << text;
}

TEST(ToolAudit, CapabilitiesLeaveLessOpen)
{
    const AuditReport report = report_of(dump_text(), haswell());
    EXPECT_TRUE(report.dumps[0].violated.empty()) << audit_text(report);
    EXPECT_EQ(names(report.dumps[0].not_checkable),
              (std::set<std::string>{"cr3-target-count", "msr-bitmap", "link-pointer-address",
                                     "link-pointer-revision", "link-pointer-not-current"}));
    EXPECT_EQ(audit_text(report).find("--cpu"), std::string::npos);
}

TEST(ToolAudit, ACompleteDumpIsClean)
{
    const AuditReport report =
        report_of(dump_text() + "*** Other State ***\nCR3_TARGET_COUNT = 0x0\n"
                                "MSR_BITMAP = 0x1000\nVMCS_LINK_POINTER = 0xffffffffffffffff\n",
                  haswell());
    EXPECT_EQ(report.result(), AuditResult::kClean) << audit_text(report);
    EXPECT_EQ(report.dumps[0].summary.held, audit_check_count());
}

TEST(ToolAudit, AViolationIsTold)
{
    const AuditReport report =
        report_of(DumpLines().replace("attr=0x0a09b", "attr=0x0a09a").text(), haswell());
    EXPECT_EQ(report.result(), AuditResult::kViolated);
    const std::string text = audit_text(report);
    EXPECT_NE(text.find("log:1: VMCS 00000000cafe1234, last attempted VM-entry on CPU 3\n"
                        "The CPU said: exit reason 0x80000021 (invalid guest state)\n"
                        "\n"
                        "Violated: 1 check\n"
                        "  guest-cs-type\n"),
              std::string::npos)
        << text;
    const auto json = audit_json(report);
    EXPECT_EQ(json["result"], "violated");
    const auto &violated = json["dumps"][0]["violated"];
    ASSERT_EQ(violated.size(), 1u);
    EXPECT_EQ(violated[0]["field"], "GUEST_CS_AR_BYTES");
    EXPECT_EQ(violated[0]["sdm"], "27.3.1.2");
    EXPECT_EQ(json["dumps"][0]["entry_failed"], true);
    EXPECT_EQ(json["dumps"][0]["not_checkable"][0]["missing"], "CR3_TARGET_COUNT");
}

TEST(ToolAudit, WhatTheCpuPassedIsToldApart)
{
    const std::string known_valid = "it found controls and host state valid";
    EXPECT_NE(audit_text(report_of(dump_text())).find(known_valid), std::string::npos);
    const std::string ended = DumpLines().replace("reason=80000021", "reason=00000030").text();
    EXPECT_EQ(audit_text(report_of(ended)).find(known_valid), std::string::npos);
    // A host with SMAP is no Haswell.
    const std::string other = DumpLines().replace("CR4=00000000001726e0", "CR4=3726e0").text();
    const std::string text = audit_text(report_of(other, haswell()));
    EXPECT_NE(text.find("--cpu or --msrs"), std::string::npos) << text;
}

TEST(ToolAudit, TheWorstDumpDecides)
{
    const std::string bad = DumpLines().replace("RFLAGS=0x00000286", "RFLAGS=0x00000284").text();
    EXPECT_EQ(report_of(dump_text() + bad).result(), AuditResult::kViolated);
    EXPECT_EQ(report_of(bad + dump_text()).result(), AuditResult::kViolated);
    EXPECT_EQ(report_of(dump_text() + dump_text()).result(), AuditResult::kIncomplete);
}

} // namespace
} // namespace minivmx::tool
