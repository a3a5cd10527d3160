// SPDX-License-Identifier: GPL-2.0-only
//
// Numbers, sizes and times on the command line.
#include "tool_support.hpp"

#include <number.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

std::uint64_t size(const char *text)
{
    return parse_size("--mem", text, 0, kMax);
}

TEST(ToolNumber, SizesTakeUnitsOf1024InAnyCase)
{
    EXPECT_EQ(size("0"), 0u);
    EXPECT_EQ(size("4096"), 4096u);
    EXPECT_EQ(size("0x1000"), 4096u);
    EXPECT_EQ(size("64M"), 64 * kMiB);
    EXPECT_EQ(size("64m"), 64 * kMiB);
    EXPECT_EQ(size("64MiB"), 64 * kMiB);
    EXPECT_EQ(size("1k"), 1024u);
    EXPECT_EQ(size("0x10K"), 16384u);
    EXPECT_EQ(size("3G"), 3072 * kMiB);
    EXPECT_EQ(size("0xffffffffffffffff"), kMax);
    EXPECT_EQ(size("17179869183G"), kMax - (1024 * kMiB - 1));
}

TEST(ToolNumber, WrongSizesAreNamedWithTheirOption)
{
    EXPECT_EQ(usage_error([] { size("64Q"); }),
              "--mem: '64Q' is not a size: 'Q' is no unit, expected K, M or G");
    EXPECT_EQ(usage_error([] { size(""); }), "--mem: '' is not a number");
    EXPECT_EQ(usage_error([] { size("M"); }), "--mem: 'M' is not a number");
    EXPECT_EQ(usage_error([] { size("-1"); }), "--mem: '-1' is not a number");
    EXPECT_EQ(usage_error([] { size(" 1"); }), "--mem: ' 1' is not a number");
    EXPECT_EQ(usage_error([] { size("0x"); }), "--mem: '0x' is not a number");
    EXPECT_EQ(usage_error([] { size("1.5G"); }),
              "--mem: '1.5G' is not a size: '.5G' is no unit, expected K, M or G");
    EXPECT_EQ(usage_error([] { size("18446744073709551616"); }),
              "--mem: '18446744073709551616' does not fit in 64 bits");
}

TEST(ToolNumber, AProductThatOverflowsIsOutOfRange)
{
    EXPECT_EQ(usage_error([] { parse_size("--mem", "17179869184G", 0, kMax - 1); }),
              "--mem: 17179869184G is out of range, expected 0 to 18446744073709551614");
    // 2^54 K wraps to 0 in 64 bits.
    EXPECT_NE(usage_error([] { parse_size("--mem", "18014398509481984K", 0, 64 * kMiB); }), "");
}

TEST(ToolNumber, BoundsBelongToTheRange)
{
    EXPECT_EQ(parse_size("--mem", "1M", kMiB, 2 * kMiB), kMiB);
    EXPECT_EQ(parse_size("--mem", "2M", kMiB, 2 * kMiB), 2 * kMiB);
    EXPECT_EQ(usage_error([] { parse_size("--mem", "1023K", kMiB, 2 * kMiB); }),
              "--mem: 1023K is out of range, expected 1M to 2M");
    EXPECT_EQ(usage_error([] { parse_size("--mem", "2049K", kMiB, 2 * kMiB); }),
              "--mem: 2049K is out of range, expected 1M to 2M");
    EXPECT_EQ(parse_number("--cpus", "16", 1, 16), 16u);
    EXPECT_EQ(usage_error([] { parse_number("--cpus", "17", 1, 16); }),
              "--cpus: 17 is out of range, expected 1 to 16");
    EXPECT_EQ(usage_error([] { parse_number("--cpus", "1K", 1, 16); }),
              "--cpus: '1K' is not a number");
}

TEST(ToolNumber, SecondsMayHaveAFractionAndAreRoundedUp)
{
    EXPECT_EQ(parse_seconds("--timeout", "0"), 0u);
    EXPECT_EQ(parse_seconds("--timeout", "2"), 2000u);
    EXPECT_EQ(parse_seconds("--timeout", "0.5"), 500u);
    // Not 0, which would mean "no limit".
    EXPECT_EQ(parse_seconds("--timeout", "0.0001"), 1u);
    for (const char *wrong : {"", "1s", "-1", "nan", "inf", "1e3", "99999999999"})
        EXPECT_NE(usage_error([wrong] { parse_seconds("--timeout", wrong); }), "") << wrong;
}

} // namespace
} // namespace minivmx::tool
