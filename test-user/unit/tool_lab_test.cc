// SPDX-License-Identifier: GPL-2.0-only
// The lab's table of cases: complete, and consistent with the control table.
#include <lab/lab.hpp>

#include <minivmx/controls.hpp>

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace minivmx::tool {
namespace {

std::vector<const ControlBit *> processor_based_controls()
{
    std::vector<const ControlBit *> rows;
    for (const ControlField field : {ControlField::kPrimary, ControlField::kSecondary})
        for (const ControlBit &row : control_bits_of(field))
            rows.push_back(&row);
    return rows;
}

bool says_something(const char *text)
{
    return text != nullptr && std::string(text).size() > 10;
}

TEST(LabCases, EachPrimaryAndSecondaryControlHasACaseOrAReason)
{
    const std::vector<const ControlBit *> controls = processor_based_controls();
    ASSERT_EQ(lab_cases().size(), controls.size());
    for (std::size_t i = 0; i < controls.size(); i++) {
        const LabCase &row = lab_cases()[i];
        SCOPED_TRACE(controls[i]->slug);
        EXPECT_STREQ(row.slug, controls[i]->slug) << "the order is the control table's";
        EXPECT_EQ(lab_case_of(controls[i]->slug), &row);
        EXPECT_NE(row.shows(), says_something(row.why_not)) << "a case, or a reason";
    }
    EXPECT_EQ(lab_case_of("exit-save-ia32-pat"), nullptr);
    EXPECT_EQ(lab_case_of("nonsense"), nullptr);
}

TEST(LabCases, EachCaseShowsAtLeastOneSideAndExplainsTheOther)
{
    for (const LabCase &row : lab_cases()) {
        SCOPED_TRACE(row.slug);
        if (!row.shows()) {
            EXPECT_EQ(row.lesson, nullptr);
            continue;
        }
        EXPECT_TRUE(says_something(row.lesson));
        EXPECT_TRUE(row.off.why_not == nullptr || row.on.why_not == nullptr);
        for (const LabSide *side : {&row.off, &row.on}) {
            if (side->why_not != nullptr) {
                EXPECT_TRUE(says_something(side->why_not));
                EXPECT_TRUE(side->code.bytes().empty());
                continue;
            }
            EXPECT_NE(side->how, nullptr);
            EXPECT_FALSE(side->code.bytes().empty());
        }
    }
}

TEST(LabCases, BothSidesDoTheSame)
{
    for (const LabCase &row : lab_cases()) {
        if (!row.shows() || row.off.why_not != nullptr || row.on.why_not != nullptr)
            continue;
        EXPECT_STREQ(row.off.code.text, row.on.code.text) << row.slug;
    }
}

// Where both sides are shown, something must differ that the lab can tell.
TEST(LabCases, TheSidesCanBeToldApart)
{
    for (const LabCase &row : lab_cases()) {
        if (!row.shows() || row.off.why_not != nullptr || row.on.why_not != nullptr)
            continue;
        const LabOutcome &off = row.off.expected;
        const LabOutcome &on = row.on.expected;
        const bool differ =
            off.exits != on.exits || off.fault != on.fault || off.to_client != on.to_client;
        EXPECT_TRUE(differ || row.check != nullptr) << row.slug;
    }
}

TEST(LabCases, TheControlsBitIsThatOfTheSide)
{
    for (const LabCase &row : lab_cases()) {
        SCOPED_TRACE(row.slug);
        if (row.off.instead == nullptr) {
            EXPECT_FALSE(row.off.bit.value_or(false));
        }
        if (row.on.instead == nullptr) {
            EXPECT_TRUE(row.on.bit.value_or(true));
        }
    }
}

// A control that causes an exit of its own is shown by that exit.
TEST(LabCases, TheExitIsTheOneThatTheControlTableNames)
{
    // The table names another consequence of these than the case shows.
    const std::set<std::string> others = {
        "use-tpr-shadow",               // "TPR below threshold"; shown: CR8 accesses go away
        "apic-register-virtualization", // "APIC write" and "virtualized EOI" come only
        "virtual-interrupt-delivery",   // with the control on
        "enable-xsaves-xrstors",
        "enable-user-wait-and-pause",
        "enable-pconfig",
    };
    for (const LabCase &row : lab_cases()) {
        const ControlBit *control = find_control(row.slug);
        ASSERT_NE(control, nullptr) << row.slug;
        if (!row.shows() || row.on.why_not != nullptr || control->exit_reason < 0 ||
            others.contains(row.slug))
            continue;
        EXPECT_TRUE(row.on.expected.counts(control->exit_reason) ||
                    row.on.expected.counts(control->other_exit_reason))
            << row.slug;
    }
}

TEST(LabCases, TextAndBytesAreTheSameInstructions)
{
    const LabCase *row = lab_case_of("cr3-load-exiting");
    ASSERT_NE(row, nullptr);
    EXPECT_STREQ(row->on.code.text, "mov cr3, rbx");
    const std::vector<std::uint8_t> bytes(row->on.code.bytes().begin(), row->on.code.bytes().end());
    EXPECT_EQ(bytes, (std::vector<std::uint8_t>{0x0f, 0x22, 0xdb}));
}

} // namespace
} // namespace minivmx::tool
