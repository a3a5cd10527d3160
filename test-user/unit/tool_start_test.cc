// SPDX-License-Identifier: GPL-2.0-only
//
// What a guest finds at its first instruction: page tables walked here by hand, segments,
// registers, and where a file goes.
#include "tool_support.hpp"

#include <guest_abi.h>
#include <guest_setup.hpp>
#include <image.hpp>
#include <start_state.hpp>

#include <gtest/gtest.h>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kWritable = 2;
constexpr std::uint64_t kLarge = 0x80;

/// Addresses at and around every boundary between two entries of the top levels.
constexpr std::uint64_t kProbes[] = {0,          0x1fffff,   0x200000,   0x3fffff,   0x400000,
                                     0x3fffffff, 0x40000000, 0x7ffff123, 0x80000000, 0xbfffffff,
                                     0xc0000000, 0xd0000000, 0xfffffff0, 0xffffffff};

std::uint64_t walk_large(const GuestMemory &memory, std::uint64_t directory, std::uint64_t address)
{
    const auto entry = memory.load<std::uint64_t>(directory + (address >> 21 & 511) * 8);
    EXPECT_EQ(entry & 0xfff, kPresent | kWritable | kLarge) << std::hex << address;
    return (entry & ~std::uint64_t{0x1fffff}) | (address & 0x1fffff);
}

TEST(ToolStart, LongModeMapsFourGiBOneToOne)
{
    const GuestMemory memory(0, kMiB);
    const std::uint64_t cr3 = write_tables(Mode::kLong, memory);
    for (const std::uint64_t address : kProbes) {
        const auto top = memory.load<std::uint64_t>(cr3);
        EXPECT_EQ(top & 0xfff, kPresent | kWritable);
        const std::uint64_t pointers = top & ~std::uint64_t{0xfff};
        const auto pointer = memory.load<std::uint64_t>(pointers + (address >> 30) * 8);
        EXPECT_EQ(pointer & 0xfff, kPresent | kWritable);
        EXPECT_EQ(walk_large(memory, pointer & ~std::uint64_t{0xfff}, address), address);
    }
    // Beyond 4 GiB nothing is mapped.
    EXPECT_EQ(memory.load<std::uint64_t>(cr3 + 8), 0u);
}

TEST(ToolStart, PaeMapsFourGiBOneToOneWithoutReservedBits)
{
    const GuestMemory memory(0, kMiB);
    const std::uint64_t cr3 = write_tables(Mode::kPae, memory);
    EXPECT_EQ(cr3 % 32, 0u);
    for (const std::uint64_t address : kProbes) {
        const auto pointer = memory.load<std::uint64_t>(cr3 + (address >> 30) * 8);
        EXPECT_EQ(pointer & 0xfff, kPresent);
        EXPECT_EQ(walk_large(memory, pointer & ~std::uint64_t{0xfff}, address), address);
    }
}

TEST(ToolStart, PagedMapsFourGiBOneToOne)
{
    const GuestMemory memory(0, kMiB);
    const std::uint64_t cr3 = write_tables(Mode::kPaged, memory);
    for (const std::uint64_t address : kProbes) {
        const auto entry = memory.load<std::uint32_t>(cr3 + (address >> 22) * 4);
        EXPECT_EQ(entry & 0x3fffff, kPresent | kWritable | kLarge);
        EXPECT_EQ((entry & 0xffc00000) | (address & 0x3fffff), address);
    }
}

TEST(ToolStart, TablesStayInTheirRange)
{
    for (unsigned i = 0; i < kModeCount; i++) {
        const Mode mode = static_cast<Mode>(i);
        const GuestMemory memory(0, kMiB);
        write_tables(mode, memory);
        const TableRange range = table_range(mode);
        EXPECT_LE(range.end, std::uint64_t{GUEST_LOAD_REAL});
        for (std::uint64_t at = 0; at < kMiB; at++) {
            if (at < range.first || at >= range.end) {
                ASSERT_EQ(memory.host()[at], 0) << mode_name(mode) << std::hex << " " << at;
            }
        }
    }
}

/// The fields of a descriptor that must equal those of the segment register: SDM Vol. 3A, 3.4.5.
void expect_descriptor(const GuestMemory &memory, const kvm_segment &segment)
{
    const auto raw = memory.load<std::uint64_t>(GUEST_GDT + segment.selector);
    EXPECT_EQ(raw >> 40 & 0xf, segment.type);
    EXPECT_EQ(raw >> 44 & 1, segment.s);
    EXPECT_EQ(raw >> 45 & 3, segment.dpl);
    EXPECT_EQ(raw >> 47 & 1, segment.present);
    EXPECT_EQ(raw >> 53 & 1, segment.l);
    EXPECT_EQ(raw >> 54 & 1, segment.db);
    EXPECT_EQ(raw >> 55 & 1, segment.g);
    EXPECT_EQ(raw & 0xffff, 0xffffu);
    EXPECT_EQ(raw >> 48 & 0xf, 0xfu);
    EXPECT_EQ(segment.limit, 0xffffffffu);
    EXPECT_EQ((raw >> 16 & 0xffffff) | raw >> 56 << 24, segment.base);
}

TEST(ToolStart, SegmentsAreThoseOfTheGdt)
{
    for (const Mode mode : {Mode::kProtected, Mode::kPaged, Mode::kPae, Mode::kLong}) {
        const GuestMemory memory(0, kMiB);
        write_tables(mode, memory);
        const kvm_sregs sregs = start_sregs(mode, {}, 0x1000, {});
        expect_descriptor(memory, sregs.cs);
        for (const kvm_segment &segment : {sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss})
            expect_descriptor(memory, segment);
        EXPECT_EQ(sregs.gdt.base, std::uint64_t{GUEST_GDT});
        EXPECT_GE(sregs.gdt.limit, sregs.cs.selector + 7);
        EXPECT_EQ(sregs.cs.l, mode == Mode::kLong ? 1 : 0);
    }
}

TEST(ToolStart, ControlRegistersAgreeWithTheMode)
{
    constexpr std::uint64_t kPg = std::uint64_t{1} << 31;
    const auto sregs = [](Mode mode) { return start_sregs(mode, {}, 0x1000, {}); };
    EXPECT_EQ(sregs(Mode::kProtected).cr0 & (kPg | 1), 1u);
    EXPECT_EQ(sregs(Mode::kPaged).cr0 & (kPg | 1), kPg | 1);
    EXPECT_EQ(sregs(Mode::kPaged).cr4, 0x10u);
    EXPECT_EQ(sregs(Mode::kPae).cr4, 0x20u);
    EXPECT_EQ(sregs(Mode::kPae).efer, 0u);
    EXPECT_EQ(sregs(Mode::kLong).cr4, 0x20u);
    EXPECT_EQ(sregs(Mode::kLong).efer, 0x500u);
    EXPECT_EQ(sregs(Mode::kLong).cr3, 0x1000u);
}

TEST(ToolStart, RealModeReachesItsEntryThroughCs)
{
    for (const std::uint64_t entry : {0x0, 0x7c00, 0xffff, 0x10000, 0x12345, 0xfffff}) {
        StartFacts facts = {};
        facts.entry = entry;
        const kvm_sregs sregs = start_sregs(Mode::kReal, {}, 0, facts);
        const kvm_regs regs = start_regs(Mode::kReal, facts).value();
        EXPECT_EQ(sregs.cs.base, std::uint64_t{sregs.cs.selector} << 4);
        EXPECT_LE(regs.rip, 0xffffu);
        EXPECT_EQ(sregs.cs.base + regs.rip, entry);
    }
}

TEST(ToolStart, TheResetStateIsLeftAlone)
{
    kvm_sregs after_reset = {};
    after_reset.cs.base = 0xffff0000;
    after_reset.cs.selector = 0xf000;
    const kvm_sregs sregs = start_sregs(Mode::kReset, after_reset, 0, {});
    EXPECT_EQ(sregs.cs.base, 0xffff0000u);
    EXPECT_FALSE(start_regs(Mode::kReset, {}).has_value());
}

TEST(ToolStart, RegistersTellTheFactsAndStacksAreApart)
{
    const StartFacts facts = {0x100000, 64 * kMiB, 3, 4};
    const kvm_regs regs = start_regs(Mode::kLong, facts).value();
    EXPECT_EQ(regs.rax, std::uint64_t{GUEST_MAGIC});
    EXPECT_EQ(regs.rbx, 65536u);
    EXPECT_EQ(regs.rcx, 3u);
    EXPECT_EQ(regs.rdx, 4u);
    EXPECT_EQ(regs.rsp, 0x80000u - 3 * 0x1000);
    EXPECT_EQ(regs.rip, 0x100000u);
    EXPECT_EQ(regs.rflags, 2u);
}

std::vector<std::uint8_t> noted_image(std::uint8_t mode)
{
    return {0xeb, 0x0a, 0x90, 0x90, 'M', 'V', 'M', 'X', mode, 0, 0, 0, 0xf4};
}

TEST(ToolImage, TheNoteNamesTheMode)
{
    EXPECT_EQ(image_mode("f", noted_image(GUEST_MODE_LONG)), Mode::kLong);
    EXPECT_EQ(image_mode("f", noted_image(GUEST_MODE_REAL)), Mode::kReal);
    EXPECT_EQ(image_mode("f", {0xf4}), std::nullopt);
    std::vector<std::uint8_t> other = noted_image(0);
    other[4] = 'm';
    EXPECT_EQ(image_mode("f", other), std::nullopt);
    EXPECT_EQ(usage_error([] { image_mode("f", noted_image(6)); }),
              "f: the file's note names mode 6, which does not exist");
}

TEST(ToolImage, UnreadableFilesAreNamed)
{
    EXPECT_EQ(usage_error([] { read_image("/nonexistent/x", 10); }),
              "/nonexistent/x: cannot open: No such file or directory");
    EXPECT_EQ(usage_error([] { read_image("/", 10); }), "/: cannot read: Is a directory");
    EXPECT_EQ(usage_error([] { read_image("/dev/null", 10); }), "/dev/null: the file is empty");
    EXPECT_NE(usage_error([] { read_image("/dev/zero", 10); }), "");
}

TEST(ToolImage, TheLargestFileThatFitsIsRead)
{
    const TemporaryFile file(std::vector<std::uint8_t>(4096, 0xf4));
    EXPECT_EQ(read_image(file.path(), 4096).size(), 4096u);
    EXPECT_NE(usage_error([&] { read_image(file.path(), 4095); }), "");
}

GuestRequest request_for(const TemporaryFile &file)
{
    GuestRequest request;
    request.file = file.path();
    return request;
}

TEST(ToolSetup, TheModeDecidesWhereTheFileGoes)
{
    const TemporaryFile file(std::vector<std::uint8_t>{0xf4});
    GuestRequest request = request_for(file);
    EXPECT_EQ(plan_guest(request).mode, Mode::kReal);
    EXPECT_EQ(plan_guest(request).load, std::uint64_t{GUEST_LOAD_REAL});
    request.mode = Mode::kLong;
    EXPECT_EQ(plan_guest(request).load, std::uint64_t{GUEST_LOAD_FLAT});
    EXPECT_EQ(plan_guest(request).entry, std::uint64_t{GUEST_LOAD_FLAT});
    request.load = 0x200000;
    EXPECT_EQ(plan_guest(request).entry, 0x200000u);
    request.entry = 0x200010;
    EXPECT_EQ(plan_guest(request).entry, 0x200010u);
}

TEST(ToolSetup, TheNoteDecidesUnlessModeIsGiven)
{
    const TemporaryFile file(noted_image(GUEST_MODE_PAE));
    GuestRequest request = request_for(file);
    EXPECT_EQ(plan_guest(request).mode, Mode::kPae);
    request.mode = Mode::kProtected;
    EXPECT_EQ(plan_guest(request).mode, Mode::kProtected);
}

TEST(ToolSetup, WhatDoesNotFitIsRefused)
{
    const TemporaryFile file(std::vector<std::uint8_t>(0x2000, 0xf4));
    GuestRequest request = request_for(file);
    request.mode = Mode::kLong;
    request.memory_size = kMiB;
    EXPECT_NE(usage_error([&] { plan_guest(request); }).find("try a larger --mem"),
              std::string::npos);
    request.memory_size = 2 * kMiB;
    request.load = 2 * kMiB - 0x2000;
    EXPECT_EQ(plan_guest(request).load, 2 * kMiB - 0x2000);
    request.load = 2 * kMiB - 0x1fff;
    EXPECT_NE(usage_error([&] { plan_guest(request); }), "");
    request.load = 0x6fff;
    EXPECT_NE(usage_error([&] { plan_guest(request); }).find("overlaps the GDT and page tables"),
              std::string::npos);
    request.load = 0x7000;
    EXPECT_EQ(plan_guest(request).load, 0x7000u);
    request.entry = 2 * kMiB;
    EXPECT_NE(usage_error([&] { plan_guest(request); }), "");
    request.mode = Mode::kReal;
    request.entry = kMiB;
    EXPECT_NE(usage_error([&] { plan_guest(request); }).find("real mode"), std::string::npos);
}

TEST(ToolSetup, FirmwareEndsAtFourGiB)
{
    const TemporaryFile file(std::vector<std::uint8_t>(0x2000, 0xf4));
    GuestRequest request = request_for(file);
    request.mode = Mode::kReset;
    const GuestPlan plan = plan_guest(request);
    EXPECT_EQ(plan.load, 0xffffe000u);
    const GuestRam ram = build_ram(plan);
    ASSERT_EQ(ram.slots.size(), 2u);
    EXPECT_EQ(ram.slots[1].load<std::uint8_t>(0xffffffff), 0xf4);
    request.load = 0;
    EXPECT_NE(usage_error([&] { plan_guest(request); }).find("--load"), std::string::npos);
    const TemporaryFile odd(std::vector<std::uint8_t>(0x1001, 0xf4));
    request = request_for(odd);
    request.mode = Mode::kReset;
    EXPECT_NE(usage_error([&] { plan_guest(request); }).find("whole 4096-byte pages"),
              std::string::npos);
}

TEST(ToolSetup, TheImageLiesInMemoryWhereThePlanSays)
{
    const TemporaryFile file(noted_image(GUEST_MODE_LONG));
    const GuestPlan plan = plan_guest(request_for(file));
    const GuestRam ram = build_ram(plan);
    EXPECT_EQ(ram.slots[0].load<std::uint32_t>(GUEST_LOAD_FLAT + 4), std::uint32_t{GUEST_MAGIC});
    EXPECT_EQ(ram.cr3, std::uint64_t{GUEST_PAGE_TABLES});
}

TEST(ToolMemory, RangesOutsideAreRefusedWithoutWrapping)
{
    const GuestMemory memory(0x10000, 0x2000);
    EXPECT_TRUE(memory.contains(0x10000, 0x2000));
    EXPECT_TRUE(memory.contains(0x12000, 0));
    EXPECT_FALSE(memory.contains(0x10000, 0x2001));
    EXPECT_FALSE(memory.contains(0xffff, 1));
    EXPECT_FALSE(memory.contains(0x11fff, 2));
    EXPECT_FALSE(memory.contains(~std::uint64_t{0}, 2));
    EXPECT_FALSE(memory.contains(0x10001, ~std::uint64_t{0}));
    EXPECT_THROW(memory.range(0x12000, 1), Error);
}

} // namespace
} // namespace minivmx::tool
