// SPDX-License-Identifier: GPL-2.0-only
#include "explain_diff.hpp"

#include "explain_json.hpp"
#include "explain_text.hpp"
#include "parameters.hpp"

#include <fmt/format.h>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

/// What the bit is on one side, besides on or off.
const char *state_text(const ExplainedBit &bit)
{
    // A vCPU may go without what was negotiated, so "used" would be too much said.
    return bit.standing == Standing::kUsed ? "negotiated" : standing_name(bit.standing);
}

std::string side_text(const char *side, const ExplainedBit &bit)
{
    return wrapped(fmt::format("     {} {:<4}{:<11}", side, bit.on ? "on" : "off", state_text(bit)),
                   bit.short_reason());
}

std::string word_heading(const ExplainedWord &a, const ExplainedWord &b)
{
    const int digits = a.info->width / 4;
    return fmt::format("{} controls: A 0x{:0{}x}, B 0x{:0{}x}\n", a.info->name, a.value, digits,
                       b.value, digits);
}

/// The parameter as it came out: "ept=0", with the reason if it was asked for.
std::string parameter_text(const Hardware &hw, Parameter parameter)
{
    Line line;
    put_parameter(line, hw, parameter);
    const char *const why = hw.why_off[static_cast<unsigned>(parameter)];
    return why != nullptr ? fmt::format("{} ({})", line.c_str(), why) : line.c_str();
}

std::vector<Parameter> different_parameters(const Explanation &a, const Explanation &b)
{
    std::vector<Parameter> found;
    if (!a.usable || !b.usable)
        return found;
    for (unsigned i = 1; i < kParameterCount; i++) {
        const auto parameter = static_cast<Parameter>(i);
        if (parameter_on(a.hardware.params, parameter) !=
            parameter_on(b.hardware.params, parameter))
            found.push_back(parameter);
    }
    return found;
}

} // namespace

std::vector<BitDifference> differences(const Explanation &a, const Explanation &b)
{
    std::vector<BitDifference> found;
    for (const ExplainedWord &word : a.words) {
        for (const ExplainedBit &bit : word.bits) {
            const ExplainedBit &other = b.bit(*bit.row);
            if (bit.on != other.on || bit.negotiated != other.negotiated ||
                bit.standing != other.standing)
                found.push_back({&bit, &other});
        }
    }
    return found;
}

std::string diff_text(const Explanation &a, const Explanation &b)
{
    std::string text = "A  " + subject_text(a) + "B  " + subject_text(b);
    const std::vector<BitDifference> bits = differences(a, b);
    const ExplainedWord *word = nullptr;
    for (const BitDifference &bit : bits) {
        const ExplainedWord &here = a.word(bit.a->row->field);
        if (&here != word)
            text += "\n" + word_heading(here, b.word(bit.a->row->field));
        word = &here;
        text += fmt::format("  {:>2} {}\n", bit.a->row->bit, bit.a->row->name);
        text += side_text("A", *bit.a) + side_text("B", *bit.b);
    }
    const std::vector<Parameter> parameters = different_parameters(a, b);
    text += parameters.empty() ? "" : "\nparameters\n";
    for (const Parameter parameter : parameters)
        text += fmt::format("     A {}\n     B {}\n", parameter_text(a.hardware, parameter),
                            parameter_text(b.hardware, parameter));
    return text + (bits.empty() ? "\nno control differs\n"
                                : fmt::format("\n{} of {} controls differ\n", bits.size(),
                                              all_control_bits().size()));
}

Json diff_json(const Explanation &a, const Explanation &b)
{
    std::vector<const ControlBit *> rows;
    for (const BitDifference &bit : differences(a, b))
        rows.push_back(bit.a->row);
    Json json;
    json["differ"] = Json::array();
    for (const ControlBit *row : rows)
        json["differ"].push_back(row->slug);
    // An empty list of rows would stand for all.
    json["a"] = rows.empty() ? Json(nullptr) : explanation_json(a, rows);
    json["b"] = rows.empty() ? Json(nullptr) : explanation_json(b, rows);
    return json;
}

} // namespace minivmx::tool
