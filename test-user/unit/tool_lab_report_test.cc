// SPDX-License-Identifier: GPL-2.0-only
// What `minivmx lab` prints of runs that are made up here.
#include <lab/check.hpp>
#include <lab/report.hpp>

#include <minivmx/exit.hpp>

#include <gtest/gtest.h>

#include <string>

namespace minivmx::tool {
namespace {

LabRun measured(std::uint64_t ticks)
{
    LabRun run;
    run.status = LabStatus::kMeasured;
    run.ran = run.counted = true;
    run.rounds = 16;
    run.ticks = ticks;
    return run;
}

LabReport report_of_cr3(std::uint64_t exits)
{
    LabResult result = {.row = lab_case_of("cr3-load-exiting"),
                        .off = measured(1),
                        .on = measured(2313),
                        .wrong = {}};
    result.on.bit = true;
    result.on.exits[EXIT_REASON_CR_ACCESS] = result.on.client_exits = exits;
    result.wrong = check_case(*result.row, result.off, result.on);
    LabReport report;
    report.device = "/dev/minivmx";
    report.counted = true;
    report.results.push_back(result);
    return report;
}

bool contains(const std::string &text, const std::string &part)
{
    return text.find(part) != std::string::npos;
}

TEST(LabReport, ALineForEachControl)
{
    const std::string table = lab_table(report_of_cr3(16));
    EXPECT_TRUE(contains(table, "primary processor-based:\ncr3-load-exiting  stays in")) << table;
    EXPECT_TRUE(contains(table, "exit 28 CR_ACCESS >VMM")) << table;
    EXPECT_TRUE(contains(table, "2,313\n")) << table;
    EXPECT_TRUE(contains(table, "1 controls: 1 shown, 0 absent on this CPU, 0 not to be shown; all "
                                "as the architecture says\n"))
        << table;
    EXPECT_TRUE(report_of_cr3(16).all_right());
}

TEST(LabReport, WhatIsWrongIsMarkedAndExplained)
{
    const LabReport report = report_of_cr3(3);
    EXPECT_FALSE(report.all_right());
    const std::string table = lab_table(report);
    EXPECT_TRUE(contains(table, "2,313  WRONG\n")) << table;
    EXPECT_TRUE(contains(table, "WRONG: cr3-load-exiting: on: exit 28 (Control-register access)"))
        << table;
    EXPECT_TRUE(contains(table, "1 NOT as the architecture says\n")) << table;
    EXPECT_TRUE(contains(lab_lesson(report, report.results[0]), "WRONG: cr3-load-exiting"))
        << table;
}

TEST(LabReport, AbsentAndNotShown)
{
    LabReport report;
    LabResult absent = {.row = lab_case_of("enable-pml"), .off = {}, .on = {}, .wrong = {}};
    absent.off.status = absent.on.status = LabStatus::kAbsent;
    LabResult nothing = {.row = lab_case_of("pasid-translation"), .off = {}, .on = {}, .wrong = {}};
    nothing.off.reason = nothing.on.reason = nothing.row->why_not;
    report.results = {absent, nothing};
    const std::string table = lab_table(report);
    EXPECT_TRUE(contains(table, "enable-pml         absent on this CPU\n")) << table;
    EXPECT_TRUE(contains(table, "pasid-translation  - never on: no guest is given ENQCMD\n"))
        << table;
    EXPECT_TRUE(contains(table, "0 shown, 1 absent on this CPU, 1 not to be shown")) << table;
    EXPECT_TRUE(contains(table, "were not counted")) << table;
    EXPECT_TRUE(contains(table, "what could be seen is as the architecture says\n")) << table;
}

TEST(LabReport, Json)
{
    const auto json = lab_json(report_of_cr3(16));
    EXPECT_TRUE(json["all_right"].get<bool>());
    const auto &control = json["controls"][0];
    EXPECT_EQ(control["control"], "cr3-load-exiting");
    EXPECT_EQ(control["does"], "mov cr3, rbx");
    EXPECT_EQ(control["off"]["status"], "measured");
    EXPECT_TRUE(control["off"]["exit"].is_null());
    EXPECT_EQ(control["off"]["ticks"], 1);
    EXPECT_EQ(control["on"]["exit"], 28);
    EXPECT_EQ(control["on"]["bit"], 1);
    EXPECT_EQ(control["on"]["client_exits"], 16);
    EXPECT_EQ(control["on"]["exits"][0]["name"], "Control-register access");
    EXPECT_TRUE(control["wrong"].empty());
}

TEST(LabReport, TheListNamesEveryCaseOnce)
{
    const std::string list = lab_list();
    for (const LabCase &row : lab_cases()) {
        const std::string name = std::string(row.slug) + "  ";
        EXPECT_TRUE(list.starts_with(name) || contains(list, "\n" + name)) << row.slug;
    }
    EXPECT_EQ(lab_list_json().size(), lab_cases().size());
}

} // namespace
} // namespace minivmx::tool
