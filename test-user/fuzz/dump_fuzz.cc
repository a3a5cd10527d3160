// SPDX-License-Identifier: GPL-2.0-only
//
// The fuzzer of `minivmx audit`: a complete dump with a few lines changed, lost, doubled or mixed
// with others, so that most inputs get past the parser. Each dump is refused with a usage Error, or
// every check is made on it and what is found is printed.
#include "input.hpp"

#include <audit/audit_report.hpp>
#include <audit/vmcs_dump.hpp>
#include <error.hpp>
#include <unit/vmcs_dump_text.hpp>

#include <profiles.hpp>

#include <cstdio>
#include <cstdlib>

namespace {

using namespace minivmx;
using namespace minivmx::tool;

[[noreturn]] void wrong(const char *what)
{
    std::fprintf(stderr, "%s\n", what);
    std::abort();
}

constexpr const char *kOtherLines[] = {
    "*** Other State ***",
    "MSR guest autoload:",
    "   0: msr=0x00000802 value=0x0000000000000001",
    "VMCS_LINK_POINTER = 0x5000",
    "CR3_TARGET_COUNT = 0x5",
    "MSR 0x480 = 0x00da040000000004",
    "physical bits = 0x27 linear bits = 0x30",
    "VMCS 0, last attempted VM-entry on CPU 0",
    "SVI|RVI = ec|00 TPR Threshold = 0x01",
    "EFER= 0x0 (effective)",
};

/// Another hexadecimal digit where there is one.
void change_digit(std::string &line, fuzz::Input &input)
{
    const std::size_t at = line.empty() ? 0 : input.take<u16>() % line.size();
    if (at < line.size() && std::isxdigit(static_cast<unsigned char>(line[at])))
        line[at] = "0123456789abcdef"[input.below(16)];
}

void change_line(std::vector<std::string> &lines, fuzz::Input &input)
{
    if (lines.empty())
        return;
    const auto at = lines.begin() + input.take<u8>() % static_cast<int>(lines.size());
    switch (input.below(8)) {
    case 0:
        lines.erase(at);
        return;
    case 1:
        lines.insert(at, *at);
        return;
    case 2:
        lines.insert(at, input.one_of(kOtherLines));
        return;
    case 3: {
        const std::vector<u8> bytes = input.bytes(64);
        lines.insert(at, std::string(bytes.begin(), bytes.end()));
        return;
    }
    case 4:
        at->resize(input.take<u8>() % (at->size() + 1));
        return;
    default:
        change_digit(*at, input);
    }
}

AuditedCpu some_cpu(fuzz::Input &input)
{
    const auto &all = profiles::shipped_profiles();
    const profiles::CpuProfile &cpu = all[input.take<u8>() % all.size()];
    return input.flag() ? AuditedCpu{} : audited_cpu(cpu.name, cpu.host(), input.flag());
}

void check_report(const AuditReport &report)
{
    for (const AuditedDump &audited : report.dumps) {
        const AuditSummary &s = audited.summary;
        if (s.violated + s.not_checkable + s.held != audit_check_count())
            wrong("a check is neither violated nor valid nor not checkable");
        if (audited.violated.size() < s.violated || audited.not_checkable.size() != s.not_checkable)
            wrong("the findings are not those that were counted");
        for (const AuditFinding &finding : audited.violated)
            if (finding.bits == 0)
                wrong("a violation without bits");
    }
    if (audit_text(report).empty() || audit_json(report).dump().empty())
        wrong("nothing said");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size)
{
    fuzz::Input input(data, size);
    const AuditedCpu cpu = some_cpu(input);
    std::vector<std::string> lines = test::DumpLines().lines();
    for (unsigned count = input.below(16); count > 0 && !input.empty(); count--)
        change_line(lines, input);
    std::string text;
    for (const std::string &line : lines)
        text += line + "\n";
    try {
        check_report(audit_dumps("input", parse_vmcs_dumps("input", text), cpu));
    } catch (const Error &error) {
        if (error.status() != ExitStatus::kUsage)
            wrong(error.what());
    }
    return 0;
}
