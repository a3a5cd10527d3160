// SPDX-License-Identifier: GPL-2.0-only
#include "report.hpp"

#include "check.hpp"
#include "number.hpp"

#include <minivmx/controls.hpp>
#include <minivmx/exit_name.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLineWidth = 96;

std::string vector_name(int vector)
{
    const char *name = exception_name(static_cast<std::uint32_t>(vector));
    return name != nullptr ? name : fmt::format("vector {}", vector);
}

std::string exit_name(std::uint32_t reason)
{
    const char *name = exit_reason_name(reason);
    return name != nullptr ? name : "unknown";
}

/// The reason that counts for this side; -1 when the guest stayed in, or nobody saw it leave.
int main_reason(const LabSide &side, const LabRun &run)
{
    std::uint64_t most = 0;
    int found = -1;
    for (const auto &[reason, count] : run.exits) {
        if (side.expected.counts(static_cast<int>(reason)) && count > most) {
            most = count;
            found = static_cast<int>(reason);
        }
    }
    return found;
}

/// "exit 28 Control-register access", "#UD", "stays in" ...
std::string outcome_text(const LabSide &side, const LabRun &run, bool in_short)
{
    if (!run.measured())
        return run.reason;
    if (!run.ran)
        return "does not run";
    const int reason = main_reason(side, run);
    std::string text;
    if (reason >= 0) {
        const auto number = static_cast<std::uint32_t>(reason);
        const char *word = exit_reason_constant(number);
        text = in_short ? fmt::format("exit {} {}", reason, word != nullptr ? word : "")
                        : fmt::format("exit {}, {}", reason, exit_name(number));
        if (run.client_exits != 0)
            text += in_short ? " >VMM" : ", to the VMM";
    }
    if (run.fault >= 0)
        text += (text.empty() ? "" : ", ") + vector_name(run.fault);
    if (text.empty())
        text = run.counted || !side.expected.expects_exit() ? "stays in" : "not seen";
    return text;
}

std::string ticks_text(const LabRun &run)
{
    return run.measured() && run.ran && run.ticks != 0 ? grouped(run.ticks) : "";
}

/// Words on lines of at most `width` columns, all but the first indented.
std::string wrapped(std::string_view text, std::size_t indent, std::size_t width = kLineWidth)
{
    std::string out;
    std::size_t column = indent;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(' '), text.size());
        if (column > indent && column + 1 + end > width) {
            out += "\n" + std::string(indent, ' ');
            column = indent;
        }
        if (column > indent) {
            out += ' ';
            column++;
        }
        out += text.substr(0, end);
        column += end;
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return out;
}

const char *const kSideNames[] = {"off", "on"};

const LabSide &side_of(const LabCase &row, unsigned side)
{
    return side == 0 ? row.off : row.on;
}

const LabRun &run_of(const LabResult &result, unsigned side)
{
    return side == 0 ? result.off : result.on;
}

// ---- The table -----------------------------------------------------------------------------

/// What fits into a column, and a note for what doesn't.
std::string cell(const LabResult &result, unsigned side, std::vector<std::string> &notes)
{
    const LabRun &run = run_of(result, side);
    switch (run.status) {
    case LabStatus::kMeasured:
    case LabStatus::kParameter:
        return outcome_text(side_of(*result.row, side), run, true);
    case LabStatus::kNotShown:
        return side == 0 ? "(always on)" : "(never on)";
    case LabStatus::kAbsent:
        return "absent";
    case LabStatus::kLacking:
        break;
    }
    const std::string note =
        fmt::format("{} {}: {}", result.row->slug, kSideNames[side], run.reason);
    if (std::find(notes.begin(), notes.end(), note) == notes.end())
        notes.push_back(note);
    return "not here";
}

constexpr std::size_t kCellWidth = 31;
constexpr std::size_t kTicksWidth = 8;

std::string table_line(const LabResult &result, std::size_t name_width,
                       std::vector<std::string> &notes)
{
    const LabCase &row = *result.row;
    const std::string name = fmt::format("{:<{}}  ", row.slug, name_width);
    if (result.off.status == LabStatus::kAbsent)
        return name + "absent on this CPU\n";
    if (!row.shows())
        return name + "- " + wrapped(row.why_not, name.size() + 2) + "\n";
    std::string line = name;
    for (const unsigned side : {0u, 1u})
        line += fmt::format("{:<{}}{:>{}}  ", cell(result, side, notes), kCellWidth,
                            ticks_text(run_of(result, side)), kTicksWidth);
    line.erase(line.find_last_not_of(' ') + 1);
    if (!result.wrong.empty())
        line += "  WRONG";
    return line + "\n";
}

std::size_t name_width(const LabReport &report)
{
    std::size_t width = 0;
    for (const LabResult &result : report.results)
        width = std::max(width, std::string_view(result.row->slug).size());
    return width;
}

struct Tally {
    std::size_t shown = 0, absent = 0, other = 0, wrong = 0;
};

Tally tally(const LabReport &report)
{
    Tally t;
    for (const LabResult &result : report.results) {
        if (result.off.measured() || result.on.measured())
            t.shown++;
        else if (result.off.status == LabStatus::kAbsent)
            t.absent++;
        else
            t.other++;
        t.wrong += result.wrong.empty() ? 0 : 1;
    }
    return t;
}

std::string environment_notes(const LabReport &report)
{
    std::string text;
    if (!report.counted)
        text += "Exits that the hypervisor handles itself were not counted: that takes minivmx, "
                "root, and debugfs\n(mount -t debugfs none /sys/kernel/debug).\n";
    return text;
}

const char *all_right_text(const LabReport &report)
{
    return report.counted ? "all as the architecture says"
                          : "what could be seen is as the architecture says";
}

std::string wrong_text(const LabResult &result)
{
    std::string text;
    for (const std::string &sentence : result.wrong)
        text += wrapped(fmt::format("WRONG: {}: {}", result.row->slug, sentence), 7) + "\n";
    return text;
}

// ---- One control ---------------------------------------------------------------------------

std::string side_text(const LabResult &result, unsigned number)
{
    const LabSide &side = side_of(*result.row, number);
    const LabRun &run = run_of(result, number);
    std::string text = fmt::format("  {:<3}  ", kSideNames[number]);
    if (!run.measured())
        return text + wrapped(run.reason, text.size()) + "\n";
    const std::string ticks = ticks_text(run);
    text += fmt::format("{:<48}{}\n", outcome_text(side, run, false),
                        ticks.empty() ? "" : fmt::format("{:>12} ticks", ticks));
    text += fmt::format("       {}{}{}\n", side.instead != nullptr ? side.instead : "",
                        side.instead != nullptr ? ": " : "by: ", side.how);
    if (result.row->remark != nullptr && run.ran)
        text += fmt::format("       {}\n", result.row->remark(run));
    if (!run.ran)
        text += "       " + wrapped(run.reason, 7) + "\n";
    return text;
}

const char *code_text(const LabCase &row)
{
    return row.off.code.text != nullptr ? row.off.code.text : row.on.code.text;
}

const char *before_text(const LabCase &row)
{
    const LabSide &side = row.off.code.text != nullptr ? row.off : row.on;
    return side.before.text != nullptr ? side.before.text : "";
}

std::string heading(const ControlBit &control)
{
    return fmt::format("{} ({}): bit {} of the {} controls, SDM Vol. 3C, {}\n", control.name,
                       control.slug, control.bit, control_word_info(control.field).name,
                       control.sdm);
}

// ---- JSON ----------------------------------------------------------------------------------

const char *status_name(LabStatus status)
{
    switch (status) {
    case LabStatus::kMeasured:
        return "measured";
    case LabStatus::kNotShown:
        return "not shown";
    case LabStatus::kAbsent:
        return "absent";
    case LabStatus::kLacking:
        return "lacking";
    case LabStatus::kParameter:
        return "parameter";
    }
    return "";
}

Json optional_text(const char *text)
{
    return text != nullptr ? Json(text) : Json(nullptr);
}

Json side_json(const LabResult &result, unsigned number)
{
    const LabSide &side = side_of(*result.row, number);
    const LabRun &run = run_of(result, number);
    Json json;
    json["status"] = status_name(run.status);
    if (!run.measured()) {
        json["reason"] = run.reason;
        return json;
    }
    const int reason = main_reason(side, run);
    json["how"] = side.how;
    json["instead"] = optional_text(side.instead);
    json["bit"] = run.bit ? Json(*run.bit ? 1 : 0) : Json(nullptr);
    json["ran"] = run.ran;
    json["exit"] = reason >= 0 ? Json(reason) : Json(nullptr);
    json["fault"] = run.fault >= 0 ? Json(vector_name(run.fault)) : Json(nullptr);
    json["ticks"] = ticks_text(run).empty() ? Json(nullptr) : Json(run.ticks);
    json["rounds"] = run.rounds;
    json["client_exits"] = run.client_exits;
    json["exits"] = Json::array();
    for (const auto &[number_of, count] : run.exits)
        json["exits"].push_back(
            {{"reason", number_of}, {"name", exit_name(number_of)}, {"count", count}});
    if (result.row->remark != nullptr && run.ran)
        json["remark"] = result.row->remark(run);
    if (!run.ran)
        json["reason"] = run.reason;
    return json;
}

Json case_json(const LabCase &row)
{
    const ControlBit &control = *find_control(row.slug);
    Json json;
    json["control"] = row.slug;
    json["name"] = control.name;
    json["word"] = control_word_info(control.field).slug;
    json["bit"] = control.bit;
    json["why_not"] = optional_text(row.why_not);
    if (row.shows()) {
        json["does"] = code_text(row);
        json["lesson"] = row.lesson;
    }
    return json;
}

} // namespace

bool LabReport::all_right() const
{
    return std::all_of(results.begin(), results.end(),
                       [](const LabResult &result) { return result.wrong.empty(); });
}

std::string lab_table(const LabReport &report)
{
    const std::size_t width = name_width(report);
    std::vector<std::string> notes;
    std::string text =
        fmt::format("{:<{}}  {:<{}}{:>{}}  {:<{}}{:>{}}\n", "control", width, "off", kCellWidth,
                    "ticks", kTicksWidth, "on", kCellWidth, "ticks", kTicksWidth);
    ControlField word = ControlField::kPin;
    for (const LabResult &result : report.results) {
        const ControlField field = find_control(result.row->slug)->field;
        if (field != word)
            text += fmt::format("{}:\n", control_word_info(field).name);
        word = field;
        text += table_line(result, width, notes);
    }
    text += "\n";
    for (const std::string &note : notes)
        text += wrapped(note, 4) + "\n";
    text += environment_notes(report);
    for (const LabResult &result : report.results)
        text += wrong_text(result);
    const Tally t = tally(report);
    text += fmt::format("{} controls: {} shown, {} absent on this CPU, {} not to be shown; {}\n",
                        report.results.size(), t.shown, t.absent, t.other,
                        t.wrong == 0 ? all_right_text(report)
                                     : fmt::format("{} NOT as the architecture says", t.wrong));
    return text;
}

std::string lab_lesson(const LabReport &report, const LabResult &result)
{
    const LabCase &row = *result.row;
    const ControlBit &control = *find_control(row.slug);
    std::string text = heading(control);
    text += fmt::format("  {}.\n\n", control.summary);
    if (!row.shows())
        return text + "  " + wrapped(fmt::format("Nothing to show: {}.", row.why_not), 2) + "\n";
    if (*before_text(row) != '\0')
        text += fmt::format("  First:     {}\n", before_text(row));
    text += fmt::format("  The guest: {}\n\n", code_text(row));
    if (result.off.status == LabStatus::kAbsent)
        return text + "  This CPU does not have the control.\n" + environment_notes(report);
    text += side_text(result, 0) + side_text(result, 1);
    text += "\n  " + wrapped(row.lesson, 2) + "\n";
    return text + environment_notes(report) + wrong_text(result);
}

Json lab_json(const LabReport &report)
{
    Json json;
    json["device"] = report.device;
    json["counted"] = report.counted;
    json["all_right"] = report.all_right();
    json["controls"] = Json::array();
    for (const LabResult &result : report.results) {
        Json one = case_json(*result.row);
        one["off"] = side_json(result, 0);
        one["on"] = side_json(result, 1);
        one["wrong"] = result.wrong;
        json["controls"].push_back(std::move(one));
    }
    return json;
}

std::string lab_list()
{
    std::size_t width = 0;
    for (const LabCase &row : lab_cases())
        width = std::max(width, std::string_view(row.slug).size());
    std::string text;
    for (const LabCase &row : lab_cases()) {
        const std::string name = fmt::format("{:<{}}  ", row.slug, width);
        text += name +
                (row.shows() ? std::string(code_text(row))
                             : "- " + wrapped(row.why_not, name.size() + 2)) +
                "\n";
    }
    return text;
}

Json lab_list_json()
{
    Json json = Json::array();
    for (const LabCase &row : lab_cases()) {
        Json one = case_json(row);
        for (const unsigned number : {0u, 1u}) {
            const LabSide &side = side_of(row, number);
            Json &to = one[kSideNames[number]];
            to["how"] = optional_text(side.how);
            to["instead"] = optional_text(side.instead);
            to["why_not"] = optional_text(row.shows() ? side.why_not : row.why_not);
        }
        json.push_back(std::move(one));
    }
    return json;
}

} // namespace minivmx::tool
