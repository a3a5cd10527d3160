// SPDX-License-Identifier: GPL-2.0-only
#include "audit_report.hpp"

#include "../exit_text.hpp"

#include <minivmx/vmcs_field.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace minivmx::tool {
namespace {

bool read_dump_field(void *context, u32 encoding, u64 *value)
{
    const auto &fields = static_cast<VmcsDump *>(context)->fields;
    const auto found = fields.find(encoding);
    if (found == fields.end())
        return false;
    *value = found->second;
    return true;
}

bool read_dump_msr(void *context, u32 index, AuditMsrEntry *entry)
{
    const auto &entries = static_cast<VmcsDump *>(context)->entry_msrs;
    if (index >= entries.size())
        return false;
    *entry = entries[index];
    return true;
}

/// Code above 4 GiB runs in 64-bit mode; below, nothing follows.
AuditCpu::Mode host_mode(const VmcsDump &dump)
{
    const auto rip = dump.fields.find(HOST_RIP.encoding);
    return rip != dump.fields.end() && rip->second >> 32 != 0 ? AuditCpu::Mode::kIa32e
                                                              : AuditCpu::Mode::kUnknown;
}

AuditSource source_of(AuditedDump &audited, const AuditedCpu &cpu)
{
    VmcsDump &dump = audited.dump;
    AuditSource source;
    source.field = read_dump_field;
    source.msr_entry = read_dump_msr;
    source.context = &dump;
    source.cpu.mode = host_mode(dump);
    // What was given goes before what the dump tells.
    const bool given = !cpu.name.empty();
    source.cpu.msr = given ? &cpu.msr : &dump.msr;
    source.cpu.physical_bits = given ? cpu.physical_bits : dump.physical_bits;
    source.cpu.linear_bits = given ? 0 : dump.linear_bits;
    source.cpu.features = given ? cpu.features : dump.features;
    source.vmcs_address = dump.vmcs_address;
    return source;
}

void keep(void *context, const AuditFinding &finding)
{
    auto &audited = *static_cast<AuditedDump *>(context);
    (finding.verdict == AuditVerdict::kViolated ? audited.violated : audited.not_checkable)
        .push_back(finding);
}

AuditedDump audit_dump(const VmcsDump &dump, const AuditedCpu &cpu)
{
    AuditedDump audited;
    audited.dump = dump;
    audited.summary = audit_vmcs(source_of(audited, cpu), {keep, &audited});
    return audited;
}

std::optional<u32> exit_reason(const AuditedDump &audited)
{
    const auto found = audited.dump.fields.find(VM_EXIT_REASON.encoding);
    if (found == audited.dump.fields.end())
        return std::nullopt;
    return static_cast<u32>(found->second);
}

bool entry_failed(u32 reason)
{
    return (reason & bit32(31)) != 0;
}

std::string missing_name(const AuditFinding &finding)
{
    Text<80> text;
    put_audit_input(text, finding.missing);
    return text.c_str();
}

std::string bit_names(const AuditFinding &finding)
{
    Text<300> text;
    if (finding.bits != kWholeValue)
        put_field_bits(text, finding.check->field, finding.bits);
    return text.c_str();
}

std::string field_name(const AuditFinding &finding)
{
    if (finding.check->stage == AuditStage::kMsrLoad)
        return fmt::format("entry {} of the MSR-load area, MSR {:#x}", finding.entry,
                           finding.value);
    return fmt::format("{} = {:#x}", vmcs_field_name(finding.check->field), finding.value);
}

std::string capitalized(std::string text)
{
    if (!text.empty() && text[0] >= 'a' && text[0] <= 'z')
        text[0] = static_cast<char>(text[0] - 'a' + 'A');
    return text;
}

/// The words in lines of at most `width` columns, each behind `indent` blanks.
std::string wrapped(const std::string &words, std::size_t indent, std::size_t width = 96)
{
    std::string text, line;
    std::size_t at = 0;
    while (at < words.size()) {
        const std::size_t end = std::min(words.find(' ', at), words.size());
        const std::string word = words.substr(at, end - at);
        if (!line.empty() && indent + line.size() + 1 + word.size() > width) {
            text += std::string(indent, ' ') + line + "\n";
            line.clear();
        }
        line += (line.empty() ? "" : " ") + word;
        at = end + 1;
    }
    return text + std::string(indent, ' ') + line + "\n";
}

std::string checks(std::size_t count)
{
    return fmt::format("{} check{}", count, count == 1 ? "" : "s");
}

std::string violation_text(const AuditFinding &finding)
{
    const std::string bits = bit_names(finding);
    return fmt::format("  {}\n      {}{}\n", finding.check->name, field_name(finding),
                       bits.empty() ? "" : ": " + bits) +
           wrapped(fmt::format("{}. SDM Vol. 3C, {}.", capitalized(finding.check->rule),
                               finding.check->sdm),
                   6);
}

/// Each missing input with the checks that need it, in the order of the checks.
std::vector<std::pair<std::string, std::vector<std::string>>>
by_missing_input(const std::vector<AuditFinding> &findings)
{
    std::vector<std::pair<std::string, std::vector<std::string>>> groups;
    for (const AuditFinding &finding : findings) {
        const std::string name = missing_name(finding);
        auto group = std::find_if(groups.begin(), groups.end(),
                                  [&](const auto &g) { return g.first == name; });
        if (group == groups.end())
            group = groups.insert(groups.end(), {name, {}});
        group->second.push_back(finding.check->name);
    }
    return groups;
}

std::string not_checkable_text(const std::vector<AuditFinding> &findings)
{
    if (findings.empty())
        return "";
    std::string text = fmt::format("\nNot checkable: {}, for want of\n", checks(findings.size()));
    for (const auto &[input, names] : by_missing_input(findings)) {
        text += "  " + input + "\n";
        text += wrapped(fmt::format("{}", fmt::join(names, ", ")), 6);
    }
    return text;
}

bool any_before_guest_state(const std::vector<AuditFinding> &findings)
{
    return std::any_of(findings.begin(), findings.end(), [](const AuditFinding &finding) {
        return finding.check->stage == AuditStage::kControls ||
               finding.check->stage == AuditStage::kHost;
    });
}

/// What a person should know about the findings as a whole.
std::string advice(const AuditedDump &audited, bool cpu_given)
{
    const bool violated = any_before_guest_state(audited.violated);
    const bool open = any_before_guest_state(audited.not_checkable);
    std::string text;
    if (audited.passed_controls() && (violated || open))
        text += "The CPU went on to the guest state: it found controls and host state valid.\n";
    if (audited.passed_controls() && violated && cpu_given)
        text += "Is it the CPU that --cpu or --msrs name?\n";
    const bool capabilities =
        std::any_of(audited.not_checkable.begin(), audited.not_checkable.end(),
                    [](const AuditFinding &f) { return f.missing.kind == AuditInput::Kind::kMsr; });
    if (capabilities && !cpu_given)
        text += "--cpu NAME or --msrs FILE tell the CPU's capabilities.\n";
    return text.empty() ? "" : "\n" + text;
}

std::string dump_text(const AuditReport &report, const AuditedDump &audited)
{
    const VmcsDump &dump = audited.dump;
    std::string text = fmt::format("{}:{}: {}\n", report.path, dump.line,
                                   dump.title.empty() ? "VMCS" : dump.title);
    if (const auto reason = exit_reason(audited); reason && entry_failed(*reason))
        text += fmt::format("The CPU said: exit reason {}\n", describe_failed_entry(*reason));
    text +=
        fmt::format("\nViolated: {}\n", audited.violated.empty() ? std::string("nothing")
                                                                 : checks(audited.violated.size()));
    for (const AuditFinding &finding : audited.violated)
        text += violation_text(finding);
    text += not_checkable_text(audited.not_checkable);
    text += fmt::format("\nValid: {}\n", checks(audited.summary.held));
    return text + advice(audited, !report.cpu.empty());
}

std::string hexadecimal(u64 value)
{
    return fmt::format("{:#x}", value);
}

nlohmann::ordered_json violation_json(const AuditFinding &finding)
{
    nlohmann::ordered_json json = {
        {"check", finding.check->name},
        {"stage", audit_stage_name(finding.check->stage)},
        {"field", vmcs_field_name(finding.check->field)},
        {"encoding", finding.check->field},
    };
    if (finding.check->stage == AuditStage::kMsrLoad) {
        json["entry"] = finding.entry;
        json["msr"] = finding.value;
    } else {
        json["value"] = hexadecimal(finding.value);
    }
    if (finding.bits != kWholeValue) {
        json["bits"] = hexadecimal(finding.bits);
        json["bit_names"] = bit_names(finding);
    }
    json["rule"] = finding.check->rule;
    json["sdm"] = finding.check->sdm;
    return json;
}

const char *result_name(AuditResult result)
{
    switch (result) {
    case AuditResult::kClean:
        return "clean";
    case AuditResult::kViolated:
        return "violated";
    default:
        return "incomplete";
    }
}

nlohmann::ordered_json dump_json(const AuditedDump &audited)
{
    nlohmann::ordered_json json = {
        {"line", audited.dump.line},
        {"title", audited.dump.title},
        {"result", result_name(audited.result())},
    };
    if (const auto reason = exit_reason(audited)) {
        json["exit_reason"] = *reason;
        json["entry_failed"] = entry_failed(*reason);
    }
    json["valid"] = audited.summary.held;
    json["violated"] = nlohmann::ordered_json::array();
    for (const AuditFinding &finding : audited.violated)
        json["violated"].push_back(violation_json(finding));
    json["not_checkable"] = nlohmann::ordered_json::array();
    for (const AuditFinding &finding : audited.not_checkable)
        json["not_checkable"].push_back({{"check", finding.check->name},
                                         {"field", vmcs_field_name(finding.check->field)},
                                         {"missing", missing_name(finding)},
                                         {"sdm", finding.check->sdm}});
    return json;
}

} // namespace

AuditedCpu audited_cpu(const std::string &name, const HostDesc &host, bool width_known)
{
    AuditedCpu cpu;
    cpu.name = name;
    cpu.msr = host.msr;
    cpu.physical_bits = width_known ? host.max_phys_bits : 0;
    cpu.features.nx = host.has_nx ? AuditHas::kYes : AuditHas::kNo;
    return cpu;
}

AuditResult AuditedDump::result() const
{
    if (summary.violated != 0)
        return AuditResult::kViolated;
    return summary.not_checkable != 0 ? AuditResult::kIncomplete : AuditResult::kClean;
}

bool AuditedDump::passed_controls() const
{
    // SDM Vol. 3C, 27.8: these are exits, which come after the checks of controls and host state.
    const std::optional<u32> reason = exit_reason(*this);
    return reason && entry_failed(*reason);
}

AuditResult AuditReport::result() const
{
    AuditResult worst = AuditResult::kClean;
    for (const AuditedDump &dump : dumps) {
        if (dump.result() == AuditResult::kViolated)
            return AuditResult::kViolated;
        if (dump.result() == AuditResult::kIncomplete)
            worst = AuditResult::kIncomplete;
    }
    return worst;
}

AuditReport audit_dumps(const std::string &path, const VmcsDumps &dumps, const AuditedCpu &cpu)
{
    AuditReport report{path, cpu.name, {}, dumps.notes};
    for (const VmcsDump &dump : dumps.dumps)
        report.dumps.push_back(audit_dump(dump, cpu));
    return report;
}

std::string audit_text(const AuditReport &report)
{
    std::string text;
    for (const std::string &note : report.notes)
        text += note + "\n\n";
    for (const AuditedDump &audited : report.dumps) {
        if (&audited != &report.dumps.front())
            text += "\n";
        text += dump_text(report, audited);
    }
    return text;
}

nlohmann::ordered_json audit_json(const AuditReport &report)
{
    nlohmann::ordered_json json = {{"file", report.path}};
    if (!report.cpu.empty())
        json["cpu"] = report.cpu;
    json["result"] = result_name(report.result());
    json["notes"] = report.notes;
    json["dumps"] = nlohmann::ordered_json::array();
    for (const AuditedDump &audited : report.dumps)
        json["dumps"].push_back(dump_json(audited));
    return json;
}

} // namespace minivmx::tool
