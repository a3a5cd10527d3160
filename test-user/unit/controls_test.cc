// SPDX-License-Identifier: GPL-2.0-only
//
// The table of control bits, against numbers written down here from the architecture and from
// kvm_intel 6.1, not computed from the table.
#include "support.hpp"

#include <gtest/gtest.h>

#include <set>

namespace minivmx {
namespace {

constexpr HostTraits k64{true, true};
constexpr HostTraits k32{false, true};

u64 required(ControlField field, HostTraits host)
{
    return control_mask(field, ControlUse::kRequired, host);
}
u64 optional(ControlField field, HostTraits host)
{
    return control_mask(field, ControlUse::kOptional, host);
}

TEST(ControlTable, RequiredAndOptionalAreThoseOfKvmIntel61)
{
    EXPECT_EQ(required(ControlField::kPin, k64), 0x9u);
    EXPECT_EQ(optional(ControlField::kPin, k64), 0xe0u);
    EXPECT_EQ(required(ControlField::kPrimary, k64), 0x21998e8cu);
    EXPECT_EQ(optional(ControlField::kPrimary, k64), 0xda621000u);
    EXPECT_EQ(required(ControlField::kSecondary, k64), 0u);
    EXPECT_EQ(optional(ControlField::kSecondary, k64), 0xc71bffffu);
    EXPECT_EQ(required(ControlField::kTertiary, k64), 0u);
    EXPECT_EQ(optional(ControlField::kTertiary, k64), 0x10u);
    EXPECT_EQ(required(ControlField::kExit, k64), 0x8204u);
    EXPECT_EQ(optional(ControlField::kExit, k64), 0x3fc1000u);
    EXPECT_EQ(required(ControlField::kEntry, k64), 0x204u);
    EXPECT_EQ(optional(ControlField::kEntry, k64), 0x7e000u);
}

TEST(ControlTable, A32BitHostAsksForNothing64Bit)
{
    EXPECT_EQ(required(ControlField::kPrimary, k32), 0x21818e8cu);
    EXPECT_EQ(required(ControlField::kExit, k32), 0x8004u);
    EXPECT_EQ(required(ControlField::kEntry, k32), 0x4u);
}

TEST(ControlTable, EnclsExitingNeedsSgx)
{
    EXPECT_EQ(optional(ControlField::kSecondary, HostTraits{true, false}), 0xc71b7fffu);
}

/// The document's own lists: min and opt of its setup_vmcs_config().
TEST(ControlTable, KnowsTheDocumentsLists)
{
    const auto listed = [](ControlField field, ControlUse use) {
        u64 mask = 0;
        for (const ControlBit &row : control_bits_of(field)) {
            if (row.document == use)
                mask |= row.mask();
        }
        return mask;
    };
    EXPECT_EQ(listed(ControlField::kPin, ControlUse::kRequired), 0x9u);
    EXPECT_EQ(listed(ControlField::kPin, ControlUse::kOptional), 0xe0u);
    EXPECT_EQ(listed(ControlField::kPrimary, ControlUse::kRequired), 0x21998e88u);
    EXPECT_EQ(listed(ControlField::kPrimary, ControlUse::kOptional), 0x90200000u);
    EXPECT_EQ(listed(ControlField::kSecondary, ControlUse::kOptional), 0x471bffffu);
    EXPECT_EQ(listed(ControlField::kExit, ControlUse::kRequired), 0x8204u);
    EXPECT_EQ(listed(ControlField::kExit, ControlUse::kOptional), 0x3a81000u);
    EXPECT_EQ(listed(ControlField::kEntry, ControlUse::kRequired), 0x4u);
    EXPECT_EQ(listed(ControlField::kEntry, ControlUse::kOptional), 0x7e000u);
}

/// The bits that are defined, from the tables of SDM Vol. 3C, 25.6 to 25.8.
TEST(ControlTable, HasEveryDefinedBit)
{
    const auto all = [](ControlField field) {
        u64 mask = 0;
        for (const ControlBit &row : control_bits_of(field))
            mask |= row.mask();
        return mask;
    };
    EXPECT_EQ(all(ControlField::kPin), 0xe9u);
    EXPECT_EQ(all(ControlField::kPrimary), 0xfbfb9e8cu);
    EXPECT_EQ(all(ControlField::kSecondary), 0xdfffffffu);
    EXPECT_EQ(all(ControlField::kTertiary), 0x13ffu);
    EXPECT_EQ(all(ControlField::kExit), 0xfffc9204u);
    EXPECT_EQ(all(ControlField::kExitSecondary), 0xfu);
    EXPECT_EQ(all(ControlField::kEntry), 0x3ffee04u);
    EXPECT_EQ(all_control_bits().size(), 108u);
}

TEST(ControlTable, EveryRowIsComplete)
{
    std::set<std::string> slugs;
    std::set<std::string> macros;
    for (const ControlBit &row : all_control_bits()) {
        EXPECT_TRUE(slugs.insert(row.slug).second) << row.slug;
        EXPECT_TRUE(macros.insert(row.macro).second) << row.macro;
        EXPECT_GT(std::string(row.summary).size(), 15u) << row.slug;
        EXPECT_EQ(std::string(row.sdm).substr(0, 3), "25.") << row.slug;
        EXPECT_EQ(std::string(row.slug).find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-"),
                  std::string::npos)
            << row.slug;
        EXPECT_EQ(row.when_off == WhenOff::kNothing, row.parameter == Parameter::kNone) << row.slug;
    }
}

TEST(ControlTable, FindsByAnyName)
{
    const ControlBit *const cr3 = find_control(ControlField::kPrimary, 15);
    ASSERT_NE(cr3, nullptr);
    EXPECT_STREQ(cr3->name, "CR3-load exiting");
    EXPECT_STREQ(cr3->macro, "CPU_BASED_CR3_LOAD_EXITING");
    EXPECT_EQ(find_control("cr3-load-exiting"), cr3);
    EXPECT_EQ(find_control("CPU_BASED_CR3_LOAD_EXITING"), cr3);
    EXPECT_EQ(find_control("cr3-LOAD exiting"), cr3);
    EXPECT_EQ(find_control("cr3-load-exitin"), nullptr);
    EXPECT_EQ(find_control(""), nullptr);
    EXPECT_EQ(find_control(ControlField::kPrimary, 14), nullptr);
    EXPECT_STREQ(find_control("ept-violation-ve")->name, "EPT-violation #VE");
    EXPECT_STREQ(find_control("unconditional-io-exiting")->name, "Unconditional I/O exiting");
    EXPECT_EQ(find_control("entry-load-ia32-pat")->field, ControlField::kEntry);
    EXPECT_EQ(find_control("exit-load-ia32-pat")->field, ControlField::kExit);
}

TEST(ControlTable, FindsFields)
{
    ControlField field{};
    ASSERT_TRUE(find_control_field("secondary", &field));
    EXPECT_EQ(field, ControlField::kSecondary);
    EXPECT_FALSE(find_control_field("quaternary", &field));
}

TEST(ControlTable, NamesBits)
{
    Text<200> text;
    EXPECT_EQ(put_control_names(text, ControlField::kPrimary,
                                CPU_BASED_HLT_EXITING | bit32(0) | CPU_BASED_USE_MSR_BITMAPS, ", "),
              3u);
    EXPECT_STREQ(text.c_str(), "bit 0, HLT exiting, Use MSR bitmaps");
}

TEST(ControlTable, ParametersMoveWhatKvmsDo)
{
    const auto clears = [](ControlField f, Parameter p) {
        return parameter_mask(f, p, WhenOff::kClears);
    };
    EXPECT_EQ(clears(ControlField::kPin, Parameter::kVnmi), 0x20u);
    EXPECT_EQ(clears(ControlField::kPin, Parameter::kPreemptionTimer), 0x40u);
    EXPECT_EQ(clears(ControlField::kSecondary, Parameter::kEpt), 0x2u);
    EXPECT_EQ(clears(ControlField::kSecondary, Parameter::kVpid), 0x20u);
    EXPECT_EQ(clears(ControlField::kSecondary, Parameter::kUnrestrictedGuest), 0x80u);
    EXPECT_EQ(clears(ControlField::kSecondary, Parameter::kFlexpriority), 0x1u);
    EXPECT_EQ(clears(ControlField::kSecondary, Parameter::kPleGap), 0x400u);
    EXPECT_EQ(parameter_mask(ControlField::kPrimary, Parameter::kEpt, WhenOff::kSets), 0x18200u);
}

TEST(ControlWord, RecordsOnlyWhatChanges)
{
    std::vector<RuleEvent> events;
    const RuleSink sink{[](void *context, const RuleEvent &event) {
                            static_cast<std::vector<RuleEvent> *>(context)->push_back(event);
                        },
                        &events};
    ControlWord word(ControlField::kPin, &sink, 0x1);
    word.set(Rule::kRequired, 0x9);
    word.set(Rule::kRequired, 0x9);
    word.clear(Rule::kNotAllowed, 0x30);
    word.clear(Rule::kNotAllowed, 0x8);
    EXPECT_EQ(word.value(), 0x1u);
    ASSERT_EQ(events.size(), 2u);
    EXPECT_EQ(events[0].bits, 0x8u);
    EXPECT_TRUE(events[0].set);
    EXPECT_EQ(events[1].bits, 0x8u);
    EXPECT_FALSE(events[1].set);
    EXPECT_EQ(events[1].rule, Rule::kNotAllowed);
}

TEST(ControlWord, AppliesParametersFromTheTable)
{
    ControlWord word(ControlField::kPrimary, nullptr, CPU_BASED_HLT_EXITING);
    word.apply_parameter(Parameter::kEpt, true);
    EXPECT_EQ(word.value(), CPU_BASED_HLT_EXITING);
    word.apply_parameter(Parameter::kEpt, false);
    EXPECT_EQ(word.value(), CPU_BASED_HLT_EXITING | CPU_BASED_CR3_LOAD_EXITING |
                                CPU_BASED_CR3_STORE_EXITING | CPU_BASED_INVLPG_EXITING);
}

TEST(Rules, EachHasIdPlaceAndWords)
{
    std::set<std::string> ids;
    for (unsigned i = 0; i < static_cast<unsigned>(Rule::kCount); i++) {
        const RuleInfo &info = rule_info(static_cast<Rule>(i));
        EXPECT_TRUE(ids.insert(info.id).second) << info.id;
        if (info.rule < Rule::kParameter) { // the others act where a vCPU's word is built
            EXPECT_GT(std::string(info.where).size(), 5u);
        }
        EXPECT_GT(std::string(info.text).size(), 15u);
    }
}

} // namespace
} // namespace minivmx
