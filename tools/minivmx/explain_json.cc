// SPDX-License-Identifier: GPL-2.0-only
#include "explain_json.hpp"

#include "parameters.hpp"

#include <minivmx/report.hpp>

#include <fmt/format.h>

#include <algorithm>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

Json hex_json(u64 value)
{
    return fmt::format("{:#x}", value);
}

Json msrs_json(const VmxMsrs &msrs)
{
    Json json = Json::object();
    const auto put = [&](u32 msr) {
        if (msrs.present(msr))
            json[fmt::format("{:#x}", msr)] = fmt::format("{:#018x}", msrs[msr]);
    };
    put(MSR_IA32_FEATURE_CONTROL);
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++)
        put(msr);
    return json;
}

Json exits_json(const ControlBit &row)
{
    Json json = Json::array();
    for (const int reason :
         {static_cast<int>(row.exit_reason), static_cast<int>(row.other_exit_reason)})
        if (reason >= 0)
            json.push_back(reason);
    return json;
}

Json word_json(const ExplainedWord &word, const std::vector<const ControlBit *> &rows)
{
    Json bits = Json::array();
    for (const ExplainedBit &bit : word.bits)
        if (rows.empty() || std::find(rows.begin(), rows.end(), bit.row) != rows.end())
            bits.push_back(explained_bit_json(bit));
    if (bits.empty() && !rows.empty())
        return nullptr;
    return {{"field", word.info->slug},
            {"name", word.info->name},
            {"vmcs_field", hex_json(word.info->vmcs_field)},
            {"msr", hex_json(word.deciding_msr)},
            {"negotiated", hex_json(word.negotiated)},
            {"value", hex_json(word.value)},
            {"bits", bits}};
}

} // namespace

Json explained_bit_json(const ExplainedBit &bit)
{
    const ControlBit &row = *bit.row;
    Json steps = Json::array();
    for (const ExplainedStep &step : bit.steps)
        steps.push_back({{"to", step.to_one ? 1 : 0},
                         {"rule", step.rule},
                         {"function", step.where},
                         {"reason", step.reason}});
    return {{"bit", row.bit},
            {"name", row.name},
            {"macro", row.macro},
            {"slug", row.slug},
            {"sdm", row.sdm},
            {"summary", row.summary},
            {"use", use_name(row.use)},
            {"exit_reasons", exits_json(row)},
            {"standing", standing_name(bit.standing)},
            {"may_be_0", bit.may_be_0},
            {"may_be_1", bit.may_be_1},
            {"negotiated", bit.negotiated},
            {"on", bit.on},
            {"steps", steps},
            {"untouched", bit.untouched.empty() ? Json(nullptr) : Json(bit.untouched)}};
}

Json explanation_json(const Explanation &answer, const std::vector<const ControlBit *> &rows)
{
    Json json;
    json["source"] = answer.source;
    json["vcpu"] = answer.vcpu;
    json["usable"] = answer.usable;
    json["error"] = answer.usable ? Json(nullptr) : Json(answer.error);
    json["warnings"] = answer.warnings;
    json["parameters"] = parameters_json(answer.hardware.params);
    json["msr"] = msrs_json(answer.hardware.host.msr);
    json["words"] = Json::array();
    for (const ExplainedWord &word : answer.words)
        if (Json one = word_json(word, rows); !one.is_null())
            json["words"].push_back(std::move(one));
    return json;
}

} // namespace minivmx::tool
