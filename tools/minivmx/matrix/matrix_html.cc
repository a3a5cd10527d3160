// SPDX-License-Identifier: GPL-2.0-only
//
// The page: its frame, style and script are page.html, page.css and page.js beside this file, put
// into the program by the assembler; the table and the data are made here.
#include "control_facts.hpp"
#include "markup.hpp"
#include "matrix.hpp"

#include "../control_prose.hpp"
#include "../machine_report.hpp"

#include <minivmx/vmx_msr.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <map>

asm(".section .rodata\n"
    "minivmx_page_html: .incbin \"" MINIVMX_MATRIX_DIR "/page.html\"\n"
    "minivmx_page_html_end:\n"
    "minivmx_page_css: .incbin \"" MINIVMX_MATRIX_DIR "/page.css\"\n"
    "minivmx_page_css_end:\n"
    "minivmx_page_js: .incbin \"" MINIVMX_MATRIX_DIR "/page.js\"\n"
    "minivmx_page_js_end:\n"
    ".previous\n");
extern "C" const char minivmx_page_html[], minivmx_page_html_end[];
extern "C" const char minivmx_page_css[], minivmx_page_css_end[];
extern "C" const char minivmx_page_js[], minivmx_page_js_end[];

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

/// Replaces {{name}} in the page's frame; values are taken as they are.
std::string filled_in(std::string_view frame, const std::map<std::string_view, std::string> &values)
{
    std::string text;
    for (;;) {
        const std::size_t open = frame.find("{{");
        const std::size_t close = frame.find("}}", open);
        if (open == std::string_view::npos || close == std::string_view::npos)
            return text + std::string(frame);
        text += frame.substr(0, open);
        text += values.at(frame.substr(open + 2, close - open - 2));
        frame.remove_prefix(close + 2);
    }
}

// ---- The data of the explanations ----

/// Strings that come again and again, once each.
class TextTable {
  public:
    std::size_t index(const std::string &text)
    {
        const auto [entry, is_new] = places_.try_emplace(text, texts_.size());
        if (is_new)
            texts_.push_back(text);
        return entry->second;
    }
    Json json() const { return texts_; }

  private:
    std::map<std::string, std::size_t> places_;
    std::vector<std::string> texts_;
};

const char *allows_text(const ExplainedBit &bit)
{
    if (bit.standing == Standing::kUnknown)
        return "?";
    if (!bit.may_be_1)
        return "0";
    return bit.may_be_0 ? "0/1" : "1";
}

/// How a bit came to be what it is; many CPUs share one.
Json way_json(const MatrixColumn &column, const ControlBit &row, TextTable &texts)
{
    const ExplainedBit &bit = column.explanation.bit(row);
    const ExplainedWord &word = column.explanation.words[static_cast<unsigned>(row.field)];
    Json steps = Json::array();
    for (const ExplainedStep &step : bit.steps)
        steps.push_back({step.to_one ? 1 : 0, texts.index(step.rule), texts.index(step.where),
                         texts.index(step.reason)});
    return {{"state", cell_state_name(column.state(row))},
            {"on", bit.on},
            {"allows", allows_text(bit)},
            {"msr", msr_name(word.deciding_msr)},
            {"steps", steps},
            {"untouched", bit.untouched}};
}

Json control_json(const Matrix &matrix, const ControlBit &row, TextTable &texts)
{
    Json ways = Json::array(), cells = Json::array();
    std::map<std::string, std::size_t> known;
    for (const MatrixColumn &column : matrix.columns) {
        Json way = way_json(column, row, texts);
        const auto [entry, is_new] = known.try_emplace(way.dump(), ways.size());
        if (is_new)
            ways.push_back(std::move(way));
        cells.push_back(entry->second);
    }
    return {{"field", static_cast<unsigned>(row.field)},
            {"bit", row.bit},
            {"name", row.name},
            {"slug", row.slug},
            {"constant", row.macro},
            {"sdm", row.sdm},
            {"summary", row.summary},
            {"prose", control_prose(row)},
            {"use", use_text(row)},
            {"kvm", kvm_intel_use_text(row)},
            {"exits", exit_texts(row)},
            {"parameter", parameter_name(row.parameter)},
            {"moved", row.moved_by != nullptr ? row.moved_by : ""},
            {"since", since_text(matrix, row)},
            {"lab", lab_text(row)},
            {"ways", ways},
            {"cells", cells}};
}

Json cpu_json(const MatrixColumn &column)
{
    const profiles::CpuProfile &profile = *column.profile;
    return {{"label", column.label},
            {"title", column.title},
            {"name", profile.name},
            {"vendor", profile.vendor},
            {"signature", fmt::format("{:#x}", profile.signature)},
            {"source", profile.source},
            {"also", profile.also},
            {"generation", column.generation->name},
            {"year", column.generation->year},
            {"emulated", profile.emulated},
            {"line", profile.emulated ? 3u : static_cast<unsigned>(column.generation->line)},
            {"refused", column.explanation.usable
                            ? ""
                            : "minivmx.ko would not load here: " + column.explanation.error}};
}

std::string data_text(const Matrix &matrix)
{
    TextTable texts;
    Json data;
    for (const CellState state : kCellStates)
        data["states"][cell_state_name(state)] = cell_state_text(state);
    data["fields"] = Json::array();
    for (unsigned i = 0; i < kControlFieldCount; i++)
        data["fields"].push_back({{"name", control_word_info(static_cast<ControlField>(i)).name}});
    data["cpus"] = Json::array();
    for (const MatrixColumn &column : matrix.columns)
        data["cpus"].push_back(cpu_json(column));
    data["controls"] = Json::array();
    for (const ControlBit &row : all_control_bits())
        data["controls"].push_back(control_json(matrix, row, texts));
    data["text"] = texts.json();
    std::string text = data.dump(-1, ' ', true, Json::error_handler_t::replace);
    // Nothing in it may end the script element. SDM quotations have no "<", names might.
    for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos;)
        text.replace(at, 1, "\\u003c");
    return text;
}

// ---- The table ----

/// Extra classes of a column: where a generation begins, and where a line of CPUs does.
const char *edge_class(const Matrix &matrix, std::size_t i)
{
    const MatrixColumn &column = matrix.columns[i];
    if (i == 0)
        return " line";
    const MatrixColumn &before = matrix.columns[i - 1];
    if (before.profile->emulated != column.profile->emulated ||
        before.generation->line != column.generation->line)
        return " line";
    return profiles::same_generation(*before.profile, *column.profile) ? "" : " first";
}

std::string generation_heads(const Matrix &matrix)
{
    std::string text;
    for (std::size_t first = 0; first < matrix.columns.size();) {
        std::size_t end = first + 1;
        while (end < matrix.columns.size() && edge_class(matrix, end)[0] == '\0')
            end++;
        const MatrixColumn &column = matrix.columns[first];
        text += fmt::format(
            "<th scope=\"colgroup\" class=\"generation{}{}\" colspan=\"{}\" data-first=\"{}\" "
            "data-count=\"{}\"><span class=\"upright\">{}{}</span></th>\n",
            edge_class(matrix, first), column.profile->emulated ? " emulated" : "", end - first,
            first, end - first, escaped(column.generation->name),
            column.generation->year != 0
                ? fmt::format(" <small>{}</small>", column.generation->year)
                : "");
        first = end;
    }
    return text;
}

std::string table_head(const Matrix &matrix)
{
    std::string text = "<tr class=\"generations\"><th class=\"corner\"><output id=\"count\" "
                       "for=\"name cpu\"></output></th>\n" +
                       generation_heads(matrix) +
                       "</tr>\n<tr class=\"cpus\"><th class=\"corner\"></th>\n";
    for (std::size_t i = 0; i < matrix.columns.size(); i++) {
        const MatrixColumn &column = matrix.columns[i];
        text += fmt::format("<th scope=\"col\" class=\"cpu{}\" title=\"{}\"><span "
                            "class=\"upright\">{}</span></th>\n",
                            edge_class(matrix, i), escaped(column.title), escaped(column.label));
    }
    return text + "</tr>\n";
}

std::string heading_row(const Matrix &matrix, ControlField field)
{
    const ControlWordInfo &word = control_word_info(field);
    return fmt::format("<tr class=\"heading\" data-field=\"{}\"><th class=\"word\" "
                       "scope=\"rowgroup\">{}<small>{}</small></th><td class=\"fill\" "
                       "colspan=\"{}\"></td></tr>\n",
                       static_cast<unsigned>(field), capitalized(word.name), msr_name(word.msr),
                       matrix.columns.size());
}

std::string control_row(const Matrix &matrix, const ControlBit &row)
{
    std::string text =
        fmt::format("<tr class=\"control\" id=\"{}\"><th scope=\"row\" class=\"control\" "
                    "title=\"{}\"><small>{}</small>{}</th>",
                    row.slug, escaped(row.summary), row.bit, escaped(row.name));
    for (std::size_t i = 0; i < matrix.columns.size(); i++) {
        const char *const state = cell_state_name(matrix.columns[i].state(row));
        text += fmt::format("<td class=\"cell {}{}{}\">{}</td>", state,
                            matrix.columns[i].explanation.bit(row).on ? " on" : "",
                            edge_class(matrix, i), state[0]);
    }
    return text + "</tr>\n";
}

std::string table_body(const Matrix &matrix)
{
    std::string text;
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        text += heading_row(matrix, field);
        for (const ControlBit &row : control_bits_of(field))
            text += control_row(matrix, row);
    }
    return text;
}

// ---- What is above it ----

std::string legend()
{
    std::string text;
    for (const CellState state : kCellStates) {
        const bool is_on = state == CellState::kRequired || state == CellState::kUsed;
        text += fmt::format("    <li title=\"{}\"><span class=\"mark {}{}\"></span>{}</li>\n",
                            escaped(cell_state_text(state)), cell_state_name(state),
                            is_on ? " on" : "", cell_state_name(state));
    }
    return text + "    <li title=\"The bit is 0 in the VMCS of a typical vCPU, though the control "
                  "is required or used\"><span class=\"mark required\"></span><span class=\"mark "
                  "used\"></span>off in a typical vCPU</li>\n";
}

std::string chips(const std::vector<std::string> &names)
{
    std::string text;
    for (const std::string &name : names)
        text += fmt::format("        <label class=\"chip\"><input type=\"checkbox\"><span>{}"
                            "</span></label>\n",
                            escaped(name));
    return text;
}

std::string field_chips()
{
    std::vector<std::string> names;
    for (unsigned i = 0; i < kControlFieldCount; i++)
        names.emplace_back(control_word_info(static_cast<ControlField>(i)).slug);
    return chips(names);
}

std::string lead(const Matrix &matrix)
{
    std::string text = fmt::format(
        "{} control bits down, {} sets of VMX capabilities across, oldest first. Each cell is what "
        "minivmx, negotiating like kvm_intel, makes of that bit on that CPU",
        kControlCount, matrix.columns.size());
    if (!matrix.parameters.empty())
        text += fmt::format(" with <code>{}</code>", escaped(matrix.parameters));
    return text + ". <span class=\"more\">A typical vCPU has its interrupt controllers in the "
                  "kernel and a CPUID that offers what the CPU has.</span>";
}

} // namespace

std::string matrix_html(const Matrix &matrix)
{
    std::string columns = "<colgroup><col class=\"names\">";
    for (std::size_t i = 0; i < matrix.columns.size(); i++)
        columns += "<col class=\"cpu\">";
    return filled_in({minivmx_page_html, minivmx_page_html_end},
                     {{"css", {minivmx_page_css, minivmx_page_css_end}},
                      {"script", {minivmx_page_js, minivmx_page_js_end}},
                      {"lead", lead(matrix)},
                      {"legend", legend()},
                      {"fields", field_chips()},
                      {"lines", chips({"Core and Xeon", "Atom", "VIA and Zhaoxin", "emulated"})},
                      {"count", std::to_string(matrix.columns.size())},
                      {"columns", columns + "</colgroup>\n"},
                      {"head", table_head(matrix)},
                      {"body", table_body(matrix)},
                      {"data", data_text(matrix)}});
}

} // namespace minivmx::tool
