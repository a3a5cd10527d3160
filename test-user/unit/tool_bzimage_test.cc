// SPDX-License-Identifier: GPL-2.0-only
//
// Kernel files, good and hostile.
#include "tool_bzimage.hpp"
#include "tool_support.hpp"

#include <gtest/gtest.h>

#include <random>

namespace minivmx::tool {
namespace {

using File = std::vector<std::uint8_t>;

/// What is said of the small kernel with one field changed.
template <typename T>
std::string complaint(std::size_t offset, T value)
{
    File file = small_bzimage();
    put<T>(file, offset, value);
    return usage_error([&] { parse_bzimage("k", file); });
}

TEST(ToolBzImage, AGoodOneIsTakenApart)
{
    const File file = small_bzimage();
    const BzImage image = parse_bzimage("k", file);
    EXPECT_EQ(image.kernel, File(file.begin() + 1024, file.end()));
    EXPECT_EQ(image.header, File(file.begin() + 0x1f1, file.begin() + 0x26c));
    EXPECT_EQ(image.preferred, 0x1000000u);
    EXPECT_EQ(image.alignment, 0x200000u);
    EXPECT_EQ(image.memory, 0x100000u);
    EXPECT_TRUE(image.relocatable);
    EXPECT_EQ(image.initrd_end, 0x80000000u);
    EXPECT_EQ(image.cmdline_size, 2047u);
}

TEST(ToolBzImage, NoSetupSectorsMeanFour)
{
    File file = small_bzimage();
    put<std::uint8_t>(file, setup::kSetupSects, 0);
    EXPECT_EQ(parse_bzimage("k", file).kernel.size(), file.size() - 5 * 512);
}

TEST(ToolBzImage, OtherFilesAreRefused)
{
    EXPECT_EQ(usage_error([] { parse_bzimage("k", File(100)); }),
              "k: 100 bytes are too few for a Linux kernel");
    EXPECT_EQ(usage_error([] { parse_bzimage("k", File(100000)); }),
              "k: not a Linux bzImage (no boot signature and setup header)");
    EXPECT_NE(complaint<std::uint16_t>(setup::kBootFlag, 0), "");
    EXPECT_NE(complaint<std::uint32_t>(setup::kMagic, 0x12345678), "");
    EXPECT_EQ(complaint<std::uint16_t>(setup::kVersion, 0x0209),
              "k: boot protocol 2.09, expected 2.12 or newer (Linux 3.8)");
    EXPECT_EQ(complaint<std::uint8_t>(setup::kLoadFlags, 0),
              "k: a zImage, which is loaded below 1 MiB; expected a bzImage");
    EXPECT_EQ(complaint<std::uint16_t>(setup::kXloadFlags, 2),
              "k: a kernel without a 64-bit entry point");
}

TEST(ToolBzImage, NumbersThatMakeNoSenseAreRefused)
{
    EXPECT_NE(complaint<std::uint8_t>(setup::kJumpLength, 0), "");
    EXPECT_NE(complaint<std::uint8_t>(setup::kJumpLength, 0x61), "");
    EXPECT_EQ(complaint<std::uint8_t>(setup::kJumpLength, 0x62), "");
    EXPECT_EQ(complaint<std::uint8_t>(setup::kJumpLength, 0xff), "");
    EXPECT_NE(complaint<std::uint8_t>(setup::kSetupSects, 255), "");
    EXPECT_NE(complaint<std::uint8_t>(setup::kSetupSects, 9), "");
    for (const std::uint32_t alignment : {0u, 1u, 0x800u, 0x300000u, 0xffffffffu})
        EXPECT_NE(complaint<std::uint32_t>(setup::kKernelAlignment, alignment), "") << alignment;
    for (const std::uint64_t address :
         {std::uint64_t{0}, std::uint64_t{0xff000}, std::uint64_t{0x1000001},
          std::uint64_t{1} << 32, ~std::uint64_t{0}, ~std::uint64_t{0xfff}})
        EXPECT_NE(complaint<std::uint64_t>(setup::kPrefAddress, address), "") << address;
    EXPECT_NE(complaint<std::uint32_t>(setup::kInitSize, 0), "");
    EXPECT_NE(complaint<std::uint32_t>(setup::kInitSize, 4095), "");
    EXPECT_EQ(complaint<std::uint32_t>(setup::kInitSize, 4096), "");
    EXPECT_EQ(complaint<std::uint32_t>(setup::kInitSize, 0xffffffff), "");
}

TEST(ToolBzImage, TheHeaderNeverReachesTheMemoryMap)
{
    File file = small_bzimage();
    put<std::uint8_t>(file, setup::kJumpLength, 0xff);
    EXPECT_LE(setup::kHeader + parse_bzimage("k", file).header.size(), setup::kMostHeader);
}

TEST(ToolBzImage, CutShortAnywhereItIsRefusedOrConsistent)
{
    const File whole = small_bzimage();
    for (std::size_t size = 0; size < whole.size(); size += 13) {
        const File cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        const std::string error = usage_error([&] { parse_bzimage("k", cut); });
        EXPECT_EQ(error.empty(), size > 1024 + 0x200) << size;
    }
}

TEST(ToolBzImage, RandomHeadersDoNoHarm)
{
    std::mt19937 random(1);
    for (int round = 0; round < 2000; round++) {
        File file = small_bzimage();
        for (int change = 0; change < 4; change++)
            file.at(0x1f1 + random() % 0x80) = static_cast<std::uint8_t>(random());
        usage_error([&] {
            const BzImage image = parse_bzimage("k", file);
            EXPECT_LE(image.kernel.size(), image.memory);
            EXPECT_LT(image.kernel.size(), file.size());
        });
    }
}

} // namespace
} // namespace minivmx::tool
