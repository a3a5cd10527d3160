// SPDX-License-Identifier: GPL-2.0-only
//
// A report that was written by --json, read again. The file may be anything.
#include "groups.hpp"
#include "report.hpp"

#include "error.hpp"
#include "text_lines.hpp"

#include <cmath>
#include <set>

namespace minivmx::tool {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLongestText = 4000;
constexpr std::size_t kMostRows = 1000;
constexpr double kGreatest = 1e18;

class Reader {
  public:
    explicit Reader(const std::string &file) : file_(file) {}

    template <typename... Args>
    [[noreturn]] void refuse(fmt::format_string<Args...> text, Args &&...args) const
    {
        fail_usage("{}: not what bench --json writes: {}", file_,
                   fmt::format(text, std::forward<Args>(args)...));
    }

    const Json &member(const Json &object, const char *key) const
    {
        if (!object.is_object() || !object.contains(key))
            refuse("'{}' is missing", key);
        return object[key];
    }

    /// One that is shown to a person, so nothing in it may speak to the terminal.
    std::string text(const Json &object, const char *key) const
    {
        const Json &value = member(object, key);
        if (!value.is_string())
            refuse("'{}' is no text", key);
        return shown(value.get<std::string>());
    }

    std::string optional_text(const Json &object, const char *key) const
    {
        return object.contains(key) ? text(object, key) : "";
    }

    double number(const Json &object, const char *key) const
    {
        const Json &value = member(object, key);
        if (!value.is_number() || !(std::abs(value.get<double>()) < kGreatest))
            refuse("'{}' is no number of a measurement", key);
        return value.get<double>();
    }

    std::optional<double> optional_number(const Json &object, const char *key) const
    {
        return object.contains(key) ? std::optional(number(object, key)) : std::nullopt;
    }

    const Json &array(const Json &object, const char *key, std::size_t most) const
    {
        const Json &value = member(object, key);
        if (!value.is_array() || value.size() > most)
            refuse("'{}' is no list of at most {}", key, most);
        return value;
    }

    /// Lines stay lines.
    static std::string shown(const std::string &text)
    {
        std::string clean;
        TextLines lines(std::string_view(text).substr(0, kLongestText));
        while (const auto line = lines.next())
            clean += (clean.empty() ? "" : "\n") + printable(*line, kLongestText);
        return clean;
    }

  private:
    const std::string &file_;
};

BenchSample read_sample(const Reader &reader, const Json &cell, BenchUnit unit)
{
    return {.ticks = reader.number(cell, unit_key(unit)),
            .waiting = reader.optional_number(cell, "waiting"),
            .exits = reader.optional_number(cell, "exits")};
}

BenchRow read_row(const Reader &reader, const Json &json, std::size_t devices)
{
    BenchRow row;
    row.name = reader.text(json, "name");
    const std::string group = reader.text(json, "group");
    if (const auto known = group_of_key(group))
        row.group = *known;
    else
        reader.refuse("'{}' is no group", group);
    row.operation = reader.text(json, "operation");
    const std::string unit = reader.text(json, "unit");
    if (unit != unit_key(BenchUnit::kTicks) && unit != unit_key(BenchUnit::kBytes))
        reader.refuse("'{}' is no unit", unit);
    row.unit = unit == unit_key(BenchUnit::kBytes) ? BenchUnit::kBytes : BenchUnit::kTicks;
    row.exits = reader.optional_number(json, "exits_expected") ? 1 : 0;
    row.problem = reader.optional_text(json, "problem");
    for (const Json &cell : reader.array(json, "devices", devices))
        row.samples.push_back(read_sample(reader, cell, row.unit));
    if (row.samples.size() != devices && row.problem.empty())
        reader.refuse("'{}' has {} figures for {} devices", row.name, row.samples.size(), devices);
    return row;
}

} // namespace

BenchReport bench_report_from(const std::string &file, std::string_view text)
{
    const Reader reader(file);
    const Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded())
        fail_usage("{}: not JSON", file);
    BenchReport report;
    for (const Json &device : reader.array(json, "devices", 2)) {
        if (!device.is_string())
            reader.refuse("a device is no text");
        report.devices.push_back(Reader::shown(device.get<std::string>()));
    }
    if (report.devices.empty())
        reader.refuse("there is no device");
    const Json &machine = reader.member(json, "machine");
    report.machine = {reader.text(machine, "kernel"), reader.text(machine, "cpu"),
                      reader.text(machine, "mitigations")};
    report.exits_counted = reader.member(json, "exits_counted") == Json(true);
    std::set<std::string> names;
    for (const Json &row : reader.array(json, "cases", kMostRows)) {
        report.rows.push_back(read_row(reader, row, report.devices.size()));
        if (!names.insert(report.rows.back().name).second)
            reader.refuse("'{}' is there twice", report.rows.back().name);
    }
    return report;
}

} // namespace minivmx::tool
