// SPDX-License-Identifier: GPL-2.0-only
//
// MSRs from files: the forms in which people keep them, and what is said of files that are in none.
#include "support.hpp"
#include "tool_support.hpp"

#include <msr_file.hpp>

#include <minivmx/controls.hpp>

#include <gtest/gtest.h>

#include <cstdio>

namespace minivmx::tool {
namespace {

using profiles::CpuProfile;
using profiles::shipped_profiles;

CpuProfile only(std::string_view text)
{
    const std::vector<CpuProfile> all = parse_msr_text("f", text);
    EXPECT_EQ(all.size(), 1u);
    return all.front();
}

std::string error_of(std::string_view text)
{
    return usage_error([text] { parse_msr_text("dump", text); });
}

std::string hex16(u64 value)
{
    char text[20];
    std::snprintf(text, sizeof(text), "%016llX", static_cast<unsigned long long>(value));
    return text;
}

void expect_same_msrs(const CpuProfile &got, const CpuProfile &expected)
{
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
        EXPECT_EQ(got.msr.present(msr), expected.msr.present(msr)) << expected.name << " " << msr;
        EXPECT_EQ(got.msr[msr], expected.msr[msr]) << expected.name << " " << msr;
    }
}

// ---- Lines -----------------------------------------------------------------------------------

TEST(ToolMsrLines, AreReadAsPeopleWriteThem)
{
    const CpuProfile cpu = only("# a comment\n"
                                "0x480 0x00da040000000004\n"
                                "481:\t0000007f00000016   # pin\r\n"
                                "  0X48B = 0x1  \n"
                                "\n"
                                "0x492 gp\n"
                                "MSR 0x482: 0x2\n"
                                "IA32_VMX_EXIT_CTLS: 3\n"
                                "msr_ia32_vmx_entry_ctls (0x484) = 0x4\n"
                                "0x10 0x123\n"
                                "0x3a 0x1");
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_BASIC], 0x00da040000000004u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_PINBASED_CTLS], 0x0000007f00000016u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_PROCBASED_CTLS], 2u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_EXIT_CTLS], 3u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_ENTRY_CTLS], 4u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_PROCBASED_CTLS2], 1u);
    EXPECT_FALSE(cpu.msr.present(MSR_IA32_VMX_PROCBASED_CTLS3));
    EXPECT_EQ(cpu.msr[MSR_IA32_FEATURE_CONTROL], 1u);
}

TEST(ToolMsrLines, SessionsWithRdmsrAreRead)
{
    const CpuProfile cpu = only("# rdmsr 0x480\n"
                                "da040000000004\n"
                                "user@host:~$ sudo rdmsr -p 0 0x481\n"
                                "7f00000016\n"
                                "# rdmsr 0x492\n"
                                "rdmsr: CPU 0 cannot read MSR 0x00000492\n"
                                "# rdmsr -x 0x48b\n"
                                "\n"
                                "0x1\n");
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_BASIC], 0xda040000000004u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_PINBASED_CTLS], 0x7f00000016u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_PROCBASED_CTLS2], 1u);
    EXPECT_FALSE(cpu.msr.present(MSR_IA32_VMX_PROCBASED_CTLS3));
    EXPECT_EQ(error_of("# rdmsr 0x480\n"),
              "dump:1: expected the value of MSR 0x480, got the end of the file");
    EXPECT_EQ(error_of("# rdmsr 0x480\nnothing\n"),
              "dump:2: expected the value of MSR 0x480 in hexadecimal, got 'nothing'");
    EXPECT_EQ(error_of("# rdmsr\n").find("dump:1: expected an MSR's number"), 0u);
}

TEST(ToolMsrLines, TheLineAtFaultIsNamed)
{
    EXPECT_EQ(error_of("0x480 1\nhello world\n"),
              "dump:2: expected an MSR's number and value in hexadecimal, like 0x480 "
              "0x00da040000000004, got 'hello world'");
    for (const char *wrong :
         {"0x480 0x1 0x2", "0x480", "0x480 0x10000000000000000", "0x100000480 1", "0x480 gpx",
          "IA32_VMX_BASICS 1", "MSR", ":", "IA32_VMX_BASIC (0x481) = 1", "\x1b[2J", "0x480 -1"})
        EXPECT_EQ(error_of(wrong).find("dump:1: expected"), 0u) << wrong;
    EXPECT_EQ(error_of(""),
              "dump: expected IA32_VMX_BASIC (0x480) among the MSRs, but it is not there");
    // Bytes that a terminal would obey stay out of the sentence.
    EXPECT_EQ(error_of("\x1b[2J").find('\x1b'), std::string::npos);
}

// ---- JSON ------------------------------------------------------------------------------------

TEST(ToolMsrJson, MayBeProfilesOneProfileOrOnlyValues)
{
    const std::string values = R"({"0x480": "0x00da040000000004", "481": 23, "0x492": "gp"})";
    for (const std::string &text :
         {values, R"({"msr": )" + values + "}", R"({"profiles": [{"msr": )" + values + "}]}"}) {
        const CpuProfile cpu = only(text);
        EXPECT_EQ(cpu.msr[MSR_IA32_VMX_BASIC], 0x00da040000000004u) << text;
        EXPECT_EQ(cpu.msr[MSR_IA32_VMX_PINBASED_CTLS], 23u);
        EXPECT_FALSE(cpu.msr.present(MSR_IA32_VMX_PROCBASED_CTLS3));
    }
    const CpuProfile cpu = only(R"({"name": "a", "cpu": "A", "vendor": "V", "cpuid1_eax": "306c3",
                                    "maxphyaddr": 39, "msr": {"0x480": "0x1"}})");
    EXPECT_EQ(cpu.name, "a");
    EXPECT_EQ(cpu.cpu, "A");
    EXPECT_EQ(cpu.vendor, "V");
    EXPECT_EQ(cpu.signature, 0x306c3u);
    EXPECT_EQ(cpu.max_phys_bits, 39u);
}

TEST(ToolMsrJson, TheLineAtFaultIsNamed)
{
    EXPECT_EQ(error_of("{\"profiles\": ["), "dump:1: expected JSON, got the end of the file");
    EXPECT_EQ(error_of("{\n\"0x480\": }\n"), "dump:2: expected JSON, got '}?'");
    EXPECT_EQ(error_of("{\n \"0x480\": \"xyz\"}"),
              "dump:2: expected an MSR's value like \"0x00da040000000004\", got '\"xyz\"'");
    EXPECT_EQ(error_of("{\n\n \"basic\": \"0x1\"}"),
              "dump:3: expected an MSR's number like \"0x480\", got '\"basic\"'");
    EXPECT_EQ(error_of("[1]"), "dump:1: expected an object with profiles or MSRs, got '[1]'");
    EXPECT_EQ(error_of(R"({"profiles": []})"), "dump: expected the MSRs of a CPU, got none");
    for (const char *wrong :
         {R"({"profiles": 1})", R"({"profiles": [1]})", R"({"profiles": [{}]})", R"({"msr": 1})",
          R"({"msr": {"0x480": -1}})", R"({"msr": {"0x480": 1.5}})", R"({"msr": {"0x480": [1]}})",
          R"({"name": 1, "msr": {"0x480": 1}})", R"({"maxphyaddr": 64, "msr": {"0x480": 1}})",
          R"({"msr": {"0x480": "0x10000000000000000"}})", "{\"\xff\": 1}"})
        EXPECT_EQ(error_of(wrong).find("dump:1: expected"), 0u) << wrong << " " << error_of(wrong);
}

// ---- Dumps of CPUs ---------------------------------------------------------------------------

std::string dump_of(const CpuProfile &cpu)
{
    std::string text = "------[ MSR Registers ]------\n\nMSR 0000001B: 0000-0000-FEE0-0900\n";
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
        char number[24];
        std::snprintf(number, sizeof(number), "MSR %08X: ", msr);
        const std::string v = hex16(cpu.msr[msr]);
        text += number + (cpu.msr.present(msr) ? v.substr(0, 4) + "-" + v.substr(4, 4) + "-" +
                                                     v.substr(8, 4) + "-" + v.substr(12) + "\n"
                                               : "< FAILED >\n");
    }
    return text;
}

TEST(ToolCpuDump, GivesBackEachShippedCpu)
{
    for (const CpuProfile &cpu : shipped_profiles())
        expect_same_msrs(only(dump_of(cpu)), cpu);
}

TEST(ToolCpuDump, TellsWhichCpuItIs)
{
    const CpuProfile cpu =
        only("CPU Type : something\n"
             "------[ CPUID Registers / Logical CPU #0 ]------\n"
             "allcpu: Package 0 / Core 0 / Thread 0: Valid\n"
             "CPUID 00000000: 0000000D-756E6547-6C65746E-49656E69 [GenuineIntel]\n"
             "CPUID 00000001: 000306A9-00100800-7F9AE3BF-BFEBFBFF\n"
             "CPUID 00000004: 1C004121-01C0003F-0000003F-00000000 [SL 00]\n"
             "CPUID 80000002: 20202020-49202020-6C65746E-20295228 [       Intel(R) ]\n"
             "CPUID 80000003: 65726F43-294D5428-2D376920-30373733 [Core(TM) i7-3770]\n"
             "CPUID 80000004: 5043204B-20402055-30352E33-007A4847 [K CPU @ 3.50GHz]\n"
             "CPUID 80000008: 00003024-00000000-00000000-00000000\n"
             "------[ MSR Registers ]------\n"
             "MSR 00000017: 0010-0000-0000-0000 [PlatID = 4]\n"
             "MSR 000000E7: 0000-0193-6DE1-3CE1 [S200]\n"
             "MSR 000000E7: 0000-0193-6E58-A7A4\n"
             "MSR 00000480: 00DA-0400-0000-0010\n");
    EXPECT_EQ(cpu.vendor, "GenuineIntel");
    EXPECT_EQ(cpu.signature, 0x306a9u);
    EXPECT_EQ(cpu.cpu, "Intel(R) Core(TM) i7-3770K CPU @ 3.50GHz");
    EXPECT_EQ(cpu.max_phys_bits, 36u);
    EXPECT_EQ(cpu.msr[MSR_IA32_VMX_BASIC], 0x00da040000000010u);
}

TEST(ToolCpuDump, CpusThatDifferAreAskedFor)
{
    const std::string text = "------[ MSR Registers / Logical CPU #0 ]------\n"
                             "MSR 00000480: 00DA-0400-0000-0010\n"
                             "------[ MSR Registers / Logical CPU #1 ]------\n"
                             "MSR 00000480: 00DA-0400-0000-0010\n"
                             "------[ MSR Registers / Logical CPU #4 ]------\n"
                             "MSR 00000480: 00DA-0400-0000-0011\n";
    const std::vector<CpuProfile> all = parse_msr_text("f", text);
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].name, "CPU 0");
    EXPECT_EQ(all[1].name, "CPU 4");
    const TemporaryFile file(std::vector<std::uint8_t>(text.begin(), text.end()));
    EXPECT_EQ(usage_error([&] { read_msr_file(file.path(), ""); }),
              file.path() + ": there are 2 CPUs in it; choose one with --cpu, like 'CPU 0'");
    EXPECT_EQ(read_msr_file(file.path(), "cpu 4").msr[MSR_IA32_VMX_BASIC], 0x00da040000000011u);
    EXPECT_EQ(usage_error([&] { read_msr_file(file.path(), "CPU 5"); }),
              "--cpu: there is no 'CPU 5' in " + file.path() + "; did you mean CPU 0 or CPU 4?");
}

TEST(ToolCpuDump, TheLineAtFaultIsNamed)
{
    const std::string first = "MSR 00000480: 00DA-0400-0000-0010\n";
    EXPECT_EQ(error_of(first + "MSR 0000048"),
              "dump:2: expected a line like MSR 00000480: 00DA-0400-0000-0010, got 'MSR 0000048'");
    EXPECT_EQ(error_of(first + "MSR 00000481: 0000-007F\n"),
              "dump:2: expected a value like 00DA-0400-0000-0010 or < FAILED >, got '0000-007F'");
    EXPECT_EQ(error_of(first + "MSR 00000480: 00DA-0400-0000-0011\n"),
              "dump:2: expected MSR 0x480 to be 0x00da040000000010, as before, got "
              "0x00da040000000011");
    EXPECT_EQ(error_of("------[ Logical CPU #x ]------\n").find("dump:1: expected the number"), 0u);
    EXPECT_EQ(error_of("------[ All CPUs ]------\n"),
              "dump: expected lines like MSR 00000480: 00DA-0400-0000-0010, got no value of "
              "IA32_VMX_BASIC (0x480)");
}

// ---- vmxcap ----------------------------------------------------------------------------------

/// What vmxcap prints for a control, from the MSRs of its word.
const char *vmxcap_state(const VmxMsrs &msrs, const ControlBit &row)
{
    const AllowedSettings first = allowed_settings(msrs, row.field);
    const ControlWordInfo &word = control_word_info(row.field);
    const u64 true_msr = word.true_msr != 0 ? msrs[word.true_msr] : 0;
    const AllowedSettings second = AllowedSettings::of_32_bit_word(true_msr);
    if (!first.may_be_1(row.mask()))
        return "no";
    if (first.may_be_0(row.mask()))
        return "yes";
    return second.may_be_1(row.mask()) && second.may_be_0(row.mask()) ? "default" : "forced";
}

std::string vmxcap_of(const CpuProfile &cpu)
{
    const auto value = [&](const char *title, u32 msr) {
        return std::string(title) + "\n  Hex: 0x" + hex16(cpu.msr[msr]) +
               "\n  Something                                yes\n";
    };
    const auto word = [&](const char *title, ControlField field) {
        std::string text = std::string(title) + "\n";
        for (const ControlBit &row : control_bits_of(field)) {
            char line[120];
            std::snprintf(line, sizeof(line), "  %-40s %s\n", row.name, vmxcap_state(cpu.msr, row));
            text += line;
        }
        return text;
    };
    return value("Basic VMX Information", MSR_IA32_VMX_BASIC) +
           word("pin-based controls", ControlField::kPin) +
           word("primary processor-based controls", ControlField::kPrimary) +
           word("secondary processor-based controls", ControlField::kSecondary) +
           word("tertiary processor-based controls", ControlField::kTertiary) +
           word("VM-Exit controls", ControlField::kExit) +
           word("VM-Entry controls", ControlField::kEntry) +
           value("Miscellaneous data", MSR_IA32_VMX_MISC) +
           value("VPID and EPT capabilities", MSR_IA32_VMX_EPT_VPID_CAP) +
           value("VM Functions", MSR_IA32_VMX_VMFUNC);
}

TEST(ToolVmxcap, LeadsToTheSameNegotiationOnEachShippedCpu)
{
    for (const CpuProfile &cpu : shipped_profiles()) {
        const CpuProfile parsed = only(vmxcap_of(cpu));
        HostDesc host = cpu.host();
        host.msr = parsed.msr;
        host.msr.set(MSR_IA32_FEATURE_CONTROL, 5);
        const test::Loaded got = test::set_up(host);
        const test::Loaded expected = test::set_up(cpu.host());
        EXPECT_EQ(got.why, expected.why) << cpu.name;
        for (unsigned i = 0; i < kControlFieldCount; i++) {
            const ControlField field = static_cast<ControlField>(i);
            const char *const slug = control_word_info(field).slug;
            EXPECT_EQ(got.hardware.config.control(field), expected.hardware.config.control(field))
                << cpu.name << " " << slug;
            if (field == ControlField::kExitSecondary)
                continue; // vmxcap does not know that word
            for (const ControlBit &row : control_bits_of(field)) {
                const AllowedSettings a = true_allowed_settings(host.msr, field);
                const AllowedSettings b = true_allowed_settings(cpu.msr, field);
                EXPECT_EQ(a.may_be_1(row.mask()), b.may_be_1(row.mask())) << cpu.name << row.slug;
                EXPECT_EQ(a.may_be_0(row.mask()), b.may_be_0(row.mask())) << cpu.name << row.slug;
            }
        }
    }
}

// Its own names, as it prints them on an i7-3770K.
constexpr const char *kIvyBridge = R"(Basic VMX Information
  Hex: 0xda040000000010
  Revision                                 16
  VMCS size                                1024
  IA32_VMX_TRUE_*_CTLS support             yes
pin-based controls
  External interrupt exiting               yes
  NMI exiting                              yes
  Virtual NMIs                             yes
  Activate VMX-preemption timer            yes
  Process posted interrupts                no
primary processor-based controls
  Interrupt window exiting                 yes
  Use TSC offsetting                       yes
  HLT exiting                              yes
  INVLPG exiting                           yes
  MWAIT exiting                            yes
  RDPMC exiting                            yes
  RDTSC exiting                            yes
  CR3-load exiting                         default
  CR3-store exiting                        default
  Activate tertiary controls               no
  CR8-load exiting                         yes
  CR8-store exiting                        yes
  Use TPR shadow                           yes
  NMI-window exiting                       yes
  MOV-DR exiting                           yes
  Unconditional I/O exiting                yes
  Use I/O bitmaps                          yes
  Monitor trap flag                        yes
  Use MSR bitmaps                          yes
  MONITOR exiting                          yes
  PAUSE exiting                            yes
  Activate secondary control               yes
secondary processor-based controls
  Virtualize APIC accesses                 yes
  Enable EPT                               yes
  Descriptor-table exiting                 yes
  Enable RDTSCP                            yes
  Virtualize x2APIC mode                   yes
  Enable VPID                              yes
  WBINVD exiting                           yes
  Unrestricted guest                       yes
  APIC register emulation                  no
  Virtual interrupt delivery               no
  PAUSE-loop exiting                       no
  RDRAND exiting                           yes
  Enable INVPCID                           no
  Enable VM functions                      no
  VMCS shadowing                           no
  Enable ENCLS exiting                     no
  RDSEED exiting                           no
  Enable PML                               no
  EPT-violation #VE                        no
  Conceal non-root operation from PT       no
  Enable XSAVES/XRSTORS                    no
  Mode-based execute control (XS/XU)       no
  Sub-page write permissions               no
  GPA translation for PT                   no
  TSC scaling                              no
  User wait and pause                      no
  ENCLV exiting                            no
tertiary processor-based controls
  Enable IPI virtualization                no
VM-Exit controls
  Save debug controls                      default
  Host address-space size                  yes
  Load IA32_PERF_GLOBAL_CTRL               yes
  Acknowledge interrupt on exit            yes
  Save IA32_PAT                            yes
  Load IA32_PAT                            yes
  Save IA32_EFER                           yes
  Load IA32_EFER                           yes
  Save VMX-preemption timer value          yes
  Clear IA32_BNDCFGS                       no
  Conceal VM exits from PT                 no
  Clear IA32_RTIT_CTL                      no
VM-Entry controls
  Load debug controls                      default
  IA-32e mode guest                        yes
  Entry to SMM                             yes
  Deactivate dual-monitor treatment        yes
  Load IA32_PERF_GLOBAL_CTRL               yes
  Load IA32_PAT                            yes
  Load IA32_EFER                           yes
  Load IA32_BNDCFGS                        no
  Conceal VM entries from PT               no
  Load IA32_RTIT_CTL                       no
Miscellaneous data
  Hex: 0x100401e5
  VMX-preemption timer scale (log2)        5
VPID and EPT capabilities
  Hex: 0xf0106114141
  Execute-only EPT translations            yes
VM Functions
  Hex: 0x0
  EPTP Switching                           no
)";

TEST(ToolVmxcap, ItsNamesAreKnown)
{
    const CpuProfile cpu = only(kIvyBridge);
    const CpuProfile &real = test::profile("IvyBridge");
    for (const u32 msr :
         {MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_PROCBASED_CTLS2,
          MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS,
          MSR_IA32_VMX_TRUE_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS,
          MSR_IA32_VMX_TRUE_ENTRY_CTLS, MSR_IA32_VMX_EPT_VPID_CAP})
        EXPECT_EQ(cpu.msr[msr], real.msr[msr]) << msr_name(msr);
    EXPECT_FALSE(cpu.msr.present(MSR_IA32_VMX_VMFUNC));
    EXPECT_FALSE(cpu.msr.present(MSR_IA32_VMX_PROCBASED_CTLS3));
}

TEST(ToolVmxcap, TheLineAtFaultIsNamed)
{
    const std::string text = kIvyBridge;
    const auto with = [&](const std::string &from, const std::string &to) {
        std::string changed = text;
        changed.replace(changed.find(from), from.size(), to);
        return error_of(changed);
    };
    EXPECT_EQ(with("0xda040000000010", "zero"),
              "dump:2: expected the value of IA32_VMX_BASIC in hexadecimal, got 'Hex: zero'");
    EXPECT_EQ(with("NMI exiting                              yes", "NMI exiting maybe"),
              "dump:8: expected the name of a control and yes, no, default or forced, got 'NMI "
              "exiting maybe'");
    EXPECT_EQ(with("NMI exiting  ", "NMJ exiting  "),
              "dump:8: expected one of the pin-based controls, got 'NMJ exiting'");
    EXPECT_EQ(with("  NMI exiting                              yes\n", ""),
              "dump: expected the whole of what vmxcap prints, but \"NMI exiting\" of the "
              "pin-based controls is not in it");
    EXPECT_EQ(error_of(text.substr(0, text.find("VM-Entry"))),
              "dump: expected the whole of what vmxcap prints, but the VM-entry controls are not "
              "in it");
}

// ---- Files -----------------------------------------------------------------------------------

TEST(ToolMsrFile, ACpuIsFoundByPartOfItsName)
{
    EXPECT_EQ(shipped_cpu("i7-3770K").signature.raw, 0x306a9u);
    EXPECT_STREQ(shipped_cpu("corei5_lynnfield_750").name,
                 test::profile("corei5_lynnfield_750").cpu.c_str());
    // The emulated model of that CPU is not meant where there are values of the real one.
    EXPECT_EQ(shipped_cpu("i7-3770K").msr[MSR_IA32_VMX_MISC],
              test::profile("IvyBridge").msr[MSR_IA32_VMX_MISC]);
    // "i7-4770" is one CPU, although there is an i7-4770R, too.
    EXPECT_EQ(shipped_cpu("i7-4770").signature.raw, 0x306c3u);
    EXPECT_NE(usage_error([] { shipped_cpu("haswell"); }).find("may be any of"), std::string::npos);
    EXPECT_EQ(usage_error([] { shipped_cpu("6502"); }),
              "--cpu: '6502' does not ship with minivmx; minivmx cpus lists those that do");
    EXPECT_EQ(usage_error([] { shipped_cpu("corei5_lynfield_750"); }),
              "--cpu: 'corei5_lynfield_750' does not ship with minivmx; did you mean "
              "corei5_lynnfield_750?");
    EXPECT_NE(usage_error([] { shipped_cpu(""); }), "");
}

} // namespace
} // namespace minivmx::tool
