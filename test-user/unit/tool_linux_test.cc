// SPDX-License-Identifier: GPL-2.0-only
//
// What a Linux kernel finds at its first instruction: where things are, the zero page, ACPI's
// tables, the vCPU.
#include "tool_bzimage.hpp"
#include "tool_support.hpp"

#include <acpi_tables.hpp>
#include <linux_guest.hpp>
#include <linux_start.hpp>
#include <zero_page.hpp>

#include <gtest/gtest.h>

#include <numeric>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

LinuxPlan plan_for(std::uint64_t memory, std::size_t initrd = 0)
{
    LinuxPlan plan = {};
    plan.memory_size = memory;
    plan.cpus = 2;
    plan.image = parse_bzimage("k", small_bzimage());
    plan.initrd.assign(initrd, 0x5a);
    plan.cmdline = "console=ttyS0";
    return plan;
}

std::string placement_error(LinuxPlan plan)
{
    const LinuxRequest request = {"the-kernel", "the-initrd", "", 0, 1};
    return usage_error([&] { place_linux(request, plan); });
}

LinuxPlan placed(LinuxPlan plan)
{
    place_linux({"k", "i", "", 0, 1}, plan);
    return plan;
}

TEST(ToolLinux, TheKernelGoesWhereItWantsOrWhereItFits)
{
    EXPECT_EQ(placed(plan_for(64 * kMiB)).kernel_at, 16 * kMiB);
    EXPECT_EQ(placed(plan_for(17 * kMiB)).kernel_at, 16 * kMiB);
    EXPECT_EQ(placed(plan_for(17 * kMiB - 4096)).kernel_at, 2 * kMiB);
    EXPECT_EQ(placement_error(plan_for(2 * kMiB)), "--mem: the-kernel needs at least 3 MiB");
    LinuxPlan fixed = plan_for(16 * kMiB);
    fixed.image.relocatable = false;
    EXPECT_EQ(placement_error(fixed), "--mem: the-kernel needs at least 17 MiB");
}

TEST(ToolLinux, HugeSizesDoNotWrapAround)
{
    LinuxPlan plan = plan_for(64 * kMiB);
    plan.image.memory = 0xffffffff;
    EXPECT_NE(placement_error(plan), "");
    plan.image.memory = 0x1000;
    plan.image.preferred = 0xfffff000;
    plan.image.alignment = std::uint64_t{1} << 32;
    EXPECT_NE(placement_error(plan), "");
}

TEST(ToolLinux, TheInitrdLiesBetweenTheKernelAndItsLimit)
{
    const LinuxPlan plan = placed(plan_for(64 * kMiB, 5000));
    EXPECT_EQ(plan.initrd_at, 64 * kMiB - 0x2000);
    LinuxPlan limited = plan_for(64 * kMiB, 5000);
    limited.image.initrd_end = 32 * kMiB;
    EXPECT_EQ(placed(limited).initrd_at, 32 * kMiB - 0x2000);
    limited.image.initrd_end = 16 * kMiB;
    EXPECT_NE(placement_error(limited), "");
    EXPECT_EQ(placed(plan_for(64 * kMiB, 47 * kMiB)).initrd_at, 17 * kMiB);
    EXPECT_EQ(placement_error(plan_for(64 * kMiB, 47 * kMiB + 1)),
              "the-initrd: no room for 49283073 bytes beside the kernel, which ends at 0x1100000, "
              "below 0x4000000; try a larger --mem");
}

TEST(ToolLinux, TheCommandLineFitsTheKernel)
{
    LinuxPlan plan = plan_for(64 * kMiB);
    plan.cmdline.assign(2047, 'x');
    EXPECT_EQ(placement_error(plan), "");
    plan.cmdline.assign(2048, 'x');
    EXPECT_EQ(placement_error(plan),
              "--cmdline: 2048 bytes are too long for this kernel, expected at most 2047");
    plan.image.cmdline_size = 0xffffffff;
    plan.cmdline.assign(0x10000, 'x');
    EXPECT_NE(placement_error(plan), "");
}

TEST(ToolLinux, TheZeroPageTellsTheMachine)
{
    const LinuxPlan plan = placed(plan_for(64 * kMiB, 5000));
    const GuestMemory memory = build_linux_ram(plan);
    const auto at = [](std::uint64_t offset) { return kZeroPage + offset; };
    EXPECT_EQ(memory.load<std::uint32_t>(at(setup::kMagic)), 0x53726448u);
    EXPECT_EQ(memory.load<std::uint8_t>(at(setup::kTypeOfLoader)), 0xff);
    EXPECT_EQ(memory.load<std::uint32_t>(at(setup::kRamdiskImage)), plan.initrd_at);
    EXPECT_EQ(memory.load<std::uint32_t>(at(setup::kRamdiskSize)), 5000u);
    EXPECT_EQ(memory.load<std::uint64_t>(at(0x70)), kAcpiTables);
    const auto cmdline = memory.load<std::uint32_t>(at(setup::kCmdLinePtr));
    EXPECT_STREQ(reinterpret_cast<const char *>(memory.range(cmdline, 14).data()), "console=ttyS0");
    EXPECT_EQ(memory.load<std::uint8_t>(plan.initrd_at), 0x5a);
    EXPECT_EQ(memory.load<std::uint8_t>(plan.initrd_at + 4999), 0x5a);
    EXPECT_EQ(memory.load<std::uint8_t>(plan.kernel_at + 4095), plan.image.kernel.back());
}

TEST(ToolLinux, TheMemoryMapHasAllMemoryAndNoOverlap)
{
    const LinuxPlan plan = placed(plan_for(64 * kMiB));
    const GuestMemory memory = build_linux_ram(plan);
    std::uint64_t end = 0;
    const unsigned count = memory.load<std::uint8_t>(kZeroPage + 0x1e8);
    ASSERT_GE(count, 2u);
    for (unsigned i = 0; i < count; i++) {
        const std::uint64_t at = kZeroPage + 0x2d0 + i * 20;
        const auto first = memory.load<std::uint64_t>(at);
        EXPECT_GE(first, end);
        end = first + memory.load<std::uint64_t>(at + 8);
        const bool ram = memory.load<std::uint32_t>(at + 16) == 1;
        EXPECT_FALSE(ram && first < 0x100000 && end > 0xa0000) << first;
    }
    EXPECT_EQ(end, 64 * kMiB);
}

unsigned sum(const GuestMemory &memory, std::uint64_t at, std::uint64_t length)
{
    const auto bytes = memory.range(at, length);
    return std::accumulate(bytes.begin(), bytes.end(), 0u) & 0xff;
}

/// A table's address, after its checksum was found right.
std::uint64_t checked(const GuestMemory &memory, std::uint64_t at, std::string_view signature)
{
    const auto name = memory.range(at, 4);
    EXPECT_EQ(std::string_view(reinterpret_cast<const char *>(name.data()), 4), signature);
    EXPECT_EQ(sum(memory, at, memory.load<std::uint32_t>(at + 4)), 0u) << signature;
    return at;
}

TEST(ToolLinux, AcpiTablesLeadToEachOther)
{
    const GuestMemory memory(0, kMiB);
    const std::uint64_t rsdp = write_acpi_tables(memory, 3);
    EXPECT_EQ(sum(memory, rsdp, 20), 0u);
    EXPECT_EQ(sum(memory, rsdp, 36), 0u);
    const auto xsdt = checked(memory, memory.load<std::uint64_t>(rsdp + 24), "XSDT");
    const auto fadt = checked(memory, memory.load<std::uint64_t>(xsdt + 36), "FACP");
    const auto madt = checked(memory, memory.load<std::uint64_t>(xsdt + 44), "APIC");
    EXPECT_EQ(memory.load<std::uint32_t>(fadt + 4), 244u);
    const auto dsdt = checked(memory, memory.load<std::uint64_t>(fadt + 140), "DSDT");
    EXPECT_EQ(memory.load<std::uint32_t>(fadt + 40), dsdt);
    EXPECT_EQ(memory.load<std::uint32_t>(fadt + 56), 0x600u);
    EXPECT_EQ(memory.load<std::uint32_t>(fadt + 64), 0x604u);
    EXPECT_EQ(memory.load<std::uint64_t>(fadt + 116 + 4), 0xcf9u);
    EXPECT_EQ(memory.load<std::uint8_t>(fadt + 128), 6);
    EXPECT_EQ(memory.load<std::uint64_t>(fadt + 148 + 4), 0x600u);
    EXPECT_EQ(memory.load<std::uint64_t>(fadt + 172 + 4), 0x604u);
    unsigned apics = 0;
    const std::uint64_t end = madt + memory.load<std::uint32_t>(madt + 4);
    std::uint64_t at = madt + 44;
    while (at < end) {
        ASSERT_GT(memory.load<std::uint8_t>(at + 1), 0);
        apics += memory.load<std::uint8_t>(at) == 0;
        at += memory.load<std::uint8_t>(at + 1);
    }
    EXPECT_EQ(at, end);
    EXPECT_EQ(apics, 3u);
}

TEST(ToolLinux, TablesForTheMostCpusFit)
{
    const GuestMemory memory(0, kMiB);
    EXPECT_EQ(write_acpi_tables(memory, 255), kAcpiTables);
}

TEST(ToolLinux, TheFirstCpuIsInLongModeAtTheEntry)
{
    const GuestMemory memory(0, kMiB);
    write_linux_tables(memory);
    const kvm_sregs sregs = linux_start_sregs({});
    EXPECT_EQ(sregs.cs.selector, 0x10);
    EXPECT_EQ(sregs.cs.l, 1);
    EXPECT_EQ(sregs.ds.selector, 0x18);
    EXPECT_EQ(sregs.efer, 0x500u);
    EXPECT_EQ(memory.load<std::uint64_t>(sregs.gdt.base + 0x10) >> 53 & 3, 1u); // L, not D
    EXPECT_EQ(memory.load<std::uint64_t>(sregs.gdt.base + 0x18) >> 53 & 3, 2u);
    EXPECT_EQ(memory.load<std::uint64_t>(sregs.cr3) & 3, 3u);
    const kvm_regs regs = linux_start_regs(0x1000000);
    EXPECT_EQ(regs.rip, 0x1000200u);
    EXPECT_EQ(regs.rsi, kZeroPage);
    EXPECT_EQ(regs.rflags, 2u);
}

} // namespace
} // namespace minivmx::tool
