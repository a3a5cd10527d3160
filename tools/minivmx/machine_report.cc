// SPDX-License-Identifier: GPL-2.0-only
#include "machine_report.hpp"

#include "line_list.hpp"
#include "parameters.hpp"

#include <minivmx/controls.hpp>
#include <minivmx/rules.hpp>

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

Json hex_json(u64 value)
{
    return fmt::format("{:#x}", value);
}

/// "0-3, 6": how kernels write sets of CPUs.
std::string cpu_ranges(const std::vector<u32> &cpus)
{
    std::string text;
    for (std::size_t first = 0; first < cpus.size();) {
        std::size_t last = first;
        while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1)
            last++;
        text += fmt::format("{}{}", text.empty() ? "" : ", ", cpus[first]);
        if (last > first)
            text += fmt::format("-{}", cpus[last]);
        first = last + 1;
    }
    return text;
}

Json msr_json(const VmxMsrs &msrs, u32 msr)
{
    if (msr == 0)
        return nullptr;
    Json json = {{"number", hex_json(msr)}, {"name", msr_name(msr)}};
    json["value"] = msrs.present(msr) ? hex_json(msrs[msr]) : Json(nullptr);
    return json;
}

Json bit_json(const Hardware &hw, const WordHistory &history, const ControlBit &row)
{
    const BitFate fate = fate_of(hw, history, row);
    const AllowedSettings allowed = true_allowed_settings(hw.host.msr, row.field);
    Line reason;
    put_reason(reason, hw, row, fate);
    return {{"bit", row.bit},
            {"name", row.name},
            {"macro", row.macro},
            {"slug", row.slug},
            {"sdm", row.sdm},
            {"use", use_name(row.use)},
            {"may_be_0", allowed.may_be_0(row.mask())},
            {"may_be_1", allowed.may_be_1(row.mask())},
            {"negotiated", fate.negotiated},
            {"on", fate.on},
            {"reason", reason.c_str()}};
}

Json word_json(const Hardware &hw, ControlField field)
{
    const WordHistory history(hw, field);
    const ControlWordInfo &word = control_word_info(field);
    Json bits = Json::array();
    for (const ControlBit &row : control_bits_of(field))
        bits.push_back(bit_json(hw, history, row));
    return {{"field", word.slug},
            {"name", word.name},
            {"negotiated", hex_json(hw.config.control(field))},
            {"with_parameters", hex_json(word_after_parameters(hw, field))},
            {"msr", msr_json(hw.host.msr, word.msr)},
            {"true_msr", msr_json(hw.host.msr, word.true_msr)},
            {"bits", bits}};
}

Json capability_json(u32 value, Span<const CapabilityName> names)
{
    Json list = Json::array();
    for (const CapabilityName &name : names)
        if ((value & name.mask) != 0)
            list.push_back(name.name);
    return {{"value", hex_json(value)}, {"has", list}};
}

Json cpu_json(const HostDesc &host)
{
    return {{"name", host.name},
            {"vendor", host.vendor},
            {"family", host.signature.family()},
            {"model", host.signature.model()},
            {"stepping", host.signature.stepping()},
            {"physical_address_bits", host.max_phys_bits}};
}

void put_negotiated(Json &json, const Hardware &hw)
{
    json["vmx"] = {{"revision", hex_json(hw.config.revision_id)},
                   {"vmcs_size", hw.config.size},
                   {"preemption_timer_shift", hw.preemption_timer_shift}};
    json["words"] = Json::array();
    for (unsigned i = 0; i < kControlFieldCount; i++)
        json["words"].push_back(word_json(hw, static_cast<ControlField>(i)));
    json["ept"] = capability_json(hw.capability.ept, ept_capability_names());
    json["vpid"] = capability_json(hw.capability.vpid, vpid_capability_names());
    json["parameters"] = parameters_json(hw.params);
    json["turned_off"] = Json::object();
    for (unsigned i = 0; i < kParameterCount; i++)
        if (hw.why_off[i] != nullptr)
            json["turned_off"][parameter_name(static_cast<Parameter>(i))] = hw.why_off[i];
}

} // namespace

MachineReport make_report(std::string source, const std::vector<HostDesc> &hosts,
                          Parameters parameters)
{
    MachineReport report;
    report.source = std::move(source);
    SetupLog log;
    log.warnings = line_list_sink(report.warnings);
    const Status status = hardware_setup(hosts.front(), parameters, report.hardware, log);
    report.usable = status.ok();
    report.error = status.why();
    report.hardware.host = hosts.front();
    for (const HostDesc &host : hosts) {
        report.cpus.push_back(host.cpu);
        if (!report.usable || report.cpus.size() == 1)
            continue;
        SetupLog comparison;
        const Status same = check_processor_compatibility(report.hardware, host, comparison);
        if (same.failed())
            report.differences.push_back({host.cpu, same.why()});
    }
    if (!report.differences.empty()) {
        report.usable = false;
        report.error = report.differences.front().sentence;
    }
    return report;
}

std::string report_text(const MachineReport &report, ReportLevel level)
{
    std::vector<std::string> lines;
    const bool negotiated = report.usable || !report.differences.empty();
    if (negotiated)
        print_report(report.hardware, level, line_list_sink(lines));
    for (const std::string &warning : report.warnings)
        lines.push_back("warning: " + warning);
    for (const Difference &difference : report.differences)
        lines.push_back(difference.sentence);
    if (report.differences.empty() && report.cpus.size() > 1 && negotiated)
        lines.push_back(fmt::format("CPUs {} offer the same", cpu_ranges(report.cpus)));
    if (!report.usable)
        lines.push_back(fmt::format("minivmx.ko would not load here: {}", report.error));
    return fmt::format("{}\n", fmt::join(lines, "\n"));
}

Json report_json(const MachineReport &report)
{
    Json json;
    json["source"] = report.source;
    json["usable"] = report.usable;
    json["error"] = report.usable ? Json(nullptr) : Json(report.error);
    json["warnings"] = report.warnings;
    json["cpu"] = cpu_json(report.hardware.host);
    json["cpus"] = report.cpus;
    json["differences"] = Json::array();
    for (const Difference &difference : report.differences)
        json["differences"].push_back({{"cpu", difference.cpu}, {"message", difference.sentence}});
    if (report.usable || !report.differences.empty())
        put_negotiated(json, report.hardware);
    return json;
}

} // namespace minivmx::tool
