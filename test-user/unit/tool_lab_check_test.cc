// SPDX-License-Identifier: GPL-2.0-only
// The lab's verdicts: a run as it must be passes, and each thing that may go wrong is called so.
#include <lab/check.hpp>
#include <lab/counters.hpp>
#include <lab/program.hpp>

#include <minivmx/exit.hpp>

#include <gtest/gtest.h>

#include <string>

namespace minivmx::tool {
namespace {

LabRun ran(unsigned rounds = 16)
{
    LabRun run;
    run.status = LabStatus::kMeasured;
    run.ran = true;
    run.rounds = rounds;
    run.counted = true;
    run.ticks = 10;
    return run;
}

LabRun left(ExitReason reason, std::uint64_t count = 16)
{
    LabRun run = ran();
    run.exits[reason] = count;
    run.ticks = 2000;
    return run;
}

LabRun told(ExitReason reason, std::uint64_t count = 16)
{
    LabRun run = left(reason, count);
    run.client_exits = count;
    return run;
}

const LabCase &named(const char *slug)
{
    const LabCase *row = lab_case_of(slug);
    EXPECT_NE(row, nullptr) << slug;
    return *row;
}

LabRun with_bit(LabRun run, bool bit)
{
    run.bit = bit;
    return run;
}

std::string all(const std::vector<std::string> &sentences)
{
    std::string text;
    for (const std::string &sentence : sentences)
        text += sentence + "\n";
    return text;
}

void expect_wrong(const std::vector<std::string> &wrong, const std::string &part)
{
    EXPECT_NE(all(wrong).find(part), std::string::npos) << "got: " << all(wrong);
}

TEST(LabCheck, WhatTheArchitectureSaysPasses)
{
    const LabCase &row = named("cr3-load-exiting");
    EXPECT_EQ(
        all(check_case(row, with_bit(ran(), false), with_bit(told(EXIT_REASON_CR_ACCESS), true))),
        "");
}

TEST(LabCheck, AnExitTooFew)
{
    const LabSide &on = named("cr3-load-exiting").on;
    expect_wrong(check_side(on, told(EXIT_REASON_CR_ACCESS, 15)), "came 15 times in 16 rounds");
    expect_wrong(check_side(on, ran()), "came 0 times");
}

TEST(LabCheck, AnExitForAnotherReason)
{
    const LabCase &row = named("cr3-load-exiting");
    expect_wrong(check_side(row.on, told(EXIT_REASON_RDTSC)), "left by exit 16 (RDTSC) 16 times");
    expect_wrong(check_side(row.off, left(EXIT_REASON_CR_ACCESS, 1)), "left by exit 28");
}

TEST(LabCheck, TheHostsOwnEventsDoNotCount)
{
    LabRun run = ran();
    run.exits[EXIT_REASON_EXTERNAL_INTERRUPT] = 3;
    run.exits[EXIT_REASON_PREEMPTION_TIMER] = 1;
    EXPECT_EQ(all(check_side(named("cr3-load-exiting").off, run)), "");
}

TEST(LabCheck, TheClientMustBeToldOfWhatItAskedForAndOfNothingElse)
{
    expect_wrong(check_side(named("cr3-load-exiting").on, left(EXIT_REASON_CR_ACCESS)),
                 "the client was told of 0 exits");
    expect_wrong(check_side(named("hlt-exiting").on, told(EXIT_REASON_HLT)),
                 "that it did not ask for");
}

TEST(LabCheck, TheControlsBit)
{
    const LabCase &row = named("cr3-load-exiting");
    expect_wrong(check_side(row.off, with_bit(ran(), true)), "the control's bit is 1");
    expect_wrong(check_side(row.on, with_bit(told(EXIT_REASON_CR_ACCESS), false)),
                 "the control's bit is 0");
}

TEST(LabCheck, TheException)
{
    const LabCase &row = named("enable-rdtscp");
    LabRun run = ran();
    expect_wrong(check_side(row.off, run), "the guest got no exception, expected #UD");
    run.fault = 13;
    expect_wrong(check_side(row.off, run), "the guest got #GP, expected #UD");
    run.fault = 6;
    run.exits[EXIT_REASON_EXCEPTION_NMI] = 16; // #UD is the hypervisor's to look at
    EXPECT_EQ(all(check_side(row.off, run)), "");
    expect_wrong(check_side(row.on, run), "the guest got #UD, expected no exception");
}

TEST(LabCheck, AGuestThatCannotRun)
{
    const LabCase &row = named("unrestricted-guest");
    LabRun refused = ran(1);
    refused.ran = false;
    refused.reason = "because";
    expect_wrong(check_side(row.off, refused), "the guest did not run: because");
    expect_wrong(check_side(row.on, refused), "the guest did not run: because");
}

TEST(LabCheck, AnExitMustCost)
{
    LabRun cheap = with_bit(told(EXIT_REASON_CR_ACCESS), true);
    cheap.ticks = 10;
    expect_wrong(check_case(named("cr3-load-exiting"), with_bit(ran(), false), cheap),
                 "an exit costs nothing");
}

TEST(LabCheck, AStaleTranslationWithoutVpid)
{
    const LabCase &row = named("enable-vpid");
    LabRun absent;
    absent.status = LabStatus::kParameter;
    LabRun off = ran();
    off.exits[EXIT_REASON_CPUID] = 16;
    off.value = 0x200000; // the page as it was mapped first
    expect_wrong(check_case(row, off, absent), "outlived an exit without VPID");
    off.value = 0x400000;
    EXPECT_EQ(all(check_case(row, off, absent)), "");
    LabRun on = off;
    on.value = 0x200000; // allowed
    EXPECT_EQ(all(check_case(row, absent, on)), "");
}

TEST(LabCheck, TheRateOfAScaledTsc)
{
    const LabCase &row = named("use-tsc-scaling");
    LabRun off = ran();
    LabRun on = ran();
    off.ticks = 10000;
    on.ticks = 5000;
    EXPECT_EQ(all(check_case(row, off, on)), "");
    on.ticks = 10000;
    expect_wrong(check_case(row, off, on), "half the rate");
}

TEST(LabCheck, AnOffsetOfTheTsc)
{
    const LabCase &row = named("use-tsc-offsetting");
    LabRun on = ran();
    on.host_tsc_before = 1000;
    on.host_tsc_after = 2000;
    on.tsc_setting_took = 100;
    const std::uint64_t ahead = std::uint64_t{1} << 45;
    const LabRun off;
    on.value = ahead + 900;
    EXPECT_EQ(all(check_case(row, off, on)), "");
    on.value = ahead + 899;
    expect_wrong(check_case(row, off, on), "plus its offset");
    on.value = ahead + 2001;
    expect_wrong(check_case(row, off, on), "plus its offset");
    on.value = 1500;
    expect_wrong(check_case(row, off, on), "plus its offset");
}

TEST(LabCheck, WhatWasNotCountedIsNotJudged)
{
    LabRun run = ran();
    run.counted = false;
    EXPECT_EQ(all(check_side(named("hlt-exiting").on, run)), "");
    expect_wrong(check_side(named("cr3-load-exiting").on, run), "the client was told of 0 exits");
}

// ---- Counters ----

TEST(LabCounters, LinesOfNamesAndNumbers)
{
    const ExitCounts counts =
        parse_exit_counts("HLT 3\nCR_ACCESS\t12\nNO_SUCH_REASON 5\nRDTSC\n\nRDTSC x\nCPUID 1 ");
    EXPECT_EQ(counts, (ExitCounts{{EXIT_REASON_HLT, 3}, {EXIT_REASON_CR_ACCESS, 12}}));
    EXPECT_TRUE(parse_exit_counts("").empty());
}

TEST(LabCounters, WhatCameSince)
{
    EXPECT_EQ(counts_since({{1, 5}, {2, 7}}, {{1, 6}, {2, 7}, {3, 2}}),
              (ExitCounts{{1, 1}, {3, 2}}));
}

// ---- The program around the snippets ----

TEST(LabProgram, TheCodeStandsInItOnceAndIsRepeated)
{
    const LabCase &row = named("cr3-load-exiting");
    const LabProgram program = lab_program(row.on.before, row.on.code);
    const auto code = row.on.code.bytes();
    ASSERT_GE(program.resume, code.size());
    EXPECT_TRUE(
        std::equal(code.begin(), code.end(),
                   program.bytes.begin() + static_cast<long>(program.resume - code.size())));
    // JNZ with a distance back to the start, then OUT 0F4H, AL.
    const std::size_t end = program.bytes.size();
    ASSERT_GE(end, 8u);
    EXPECT_EQ(program.bytes[end - 2], 0xe6);
    EXPECT_EQ(program.bytes[end - 1], 0xf4);
    EXPECT_EQ(program.bytes[end - 8], 0x0f);
    EXPECT_EQ(program.bytes[end - 7], 0x85);
    std::uint32_t distance = 0;
    for (unsigned i = 0; i < 4; i++)
        distance |= static_cast<std::uint32_t>(program.bytes[end - 6 + i]) << 8 * i;
    EXPECT_EQ(distance, ~static_cast<std::uint32_t>(end - 2) + 1);
}

TEST(LabProgram, EachVectorHasAStub)
{
    const LabStubs stubs = lab_stubs();
    EXPECT_NE(stubs.offsets[6], stubs.offsets[13]);
    EXPECT_EQ(stubs.offsets[32], stubs.offsets[63]);
    EXPECT_EQ(stubs.offsets[1], stubs.offsets[2]);
    // #UD pushes a 0 in place of an error code, #GP has one.
    EXPECT_EQ(stubs.bytes[stubs.offsets[6]], 0x6a);
    EXPECT_EQ(stubs.bytes[stubs.offsets[6] + 1], 0);
    EXPECT_EQ(stubs.bytes[stubs.offsets[6] + 3], 6);
    EXPECT_EQ(stubs.bytes[stubs.offsets[13] + 1], 13);
}

} // namespace
} // namespace minivmx::tool
