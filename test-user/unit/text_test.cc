// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/result.hpp>
#include <minivmx/text.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace minivmx {
namespace {

TEST(Text, PutsStringsAndNumbers)
{
    Text<80> text;
    text.put("CPU ", 3u, ' ', -5, " ", hex(0xab), " ", hex(0xab, 8), " ", u8{255});
    EXPECT_STREQ(text.c_str(), "CPU 3 -5 0xab 0x000000ab 255");
    EXPECT_EQ(text.length(), std::strlen(text.c_str()));
    EXPECT_FALSE(text.truncated());
}

TEST(Text, WritesExtremeNumbers)
{
    Text<80> text;
    text.put(~u64{0}, " ", s64{-9223372036854775807 - 1}, " ", hex(~u64{0}), " ", hex(0), " ", 0u);
    EXPECT_STREQ(text.c_str(),
                 "18446744073709551615 -9223372036854775808 0xffffffffffffffff 0x0 0");
}

TEST(Text, IsEmptyAtFirstAndAfterClear)
{
    Text<8> text;
    EXPECT_STREQ(text.c_str(), "");
    EXPECT_TRUE(text.empty());
    text.put("far too long");
    EXPECT_TRUE(text.truncated());
    text.clear();
    EXPECT_STREQ(text.c_str(), "");
    EXPECT_FALSE(text.truncated());
    text.put("ok");
    EXPECT_STREQ(text.c_str(), "ok");
}

TEST(Text, ExactFitIsNotTruncated)
{
    Text<6> text;
    text.put("12345");
    EXPECT_STREQ(text.c_str(), "12345");
    EXPECT_FALSE(text.truncated());
    text.put("");
    EXPECT_FALSE(text.truncated());
    text.put('6');
    EXPECT_TRUE(text.truncated());
    EXPECT_STREQ(text.c_str(), "12...");
}

// Whatever is put into whatever size, nothing is written behind the buffer and the text ends.
TEST(Text, NeverLeavesItsBuffer)
{
    for (usize capacity = 4; capacity < 40; capacity++) {
        char buffer[64];
        std::memset(buffer, 0x5a, sizeof(buffer));
        TextBuilder text(buffer, capacity);
        for (int i = 0; i < 20; i++)
            text.put("abc", 123456u, hex(0xdeadbeef, 16), padded("x", 7));
        text.pad_to(50);
        EXPECT_LT(text.length(), capacity);
        EXPECT_EQ(std::strlen(buffer), text.length());
        EXPECT_EQ(std::string(buffer).substr(text.length() - 3), "...");
        for (usize i = capacity; i < sizeof(buffer); i++)
            ASSERT_EQ(buffer[i], 0x5a) << "capacity " << capacity << ", offset " << i;
    }
}

TEST(Text, PadsToColumns)
{
    Text<40> text;
    text.put(padded("ab", 5), "c");
    text.pad_to(10);
    text.put("d");
    EXPECT_STREQ(text.c_str(), "ab   c    d");
    text.pad_to(3);
    text.put("e");
    EXPECT_STREQ(text.c_str(), "ab   c    d e");
}

TEST(Text, TakesOtherTextsAndNull)
{
    Text<40> inner;
    inner.put("in");
    Text<40> text;
    text.put(inner, static_cast<const char *>(nullptr));
    EXPECT_STREQ(text.c_str(), "in(none)");
}

TEST(LineSink, WithoutAFunctionDropsLines)
{
    const LineSink nobody;
    nobody("lost");
}

TEST(Status, CarriesErrnoAndReason)
{
    EXPECT_TRUE(Status::success().ok());
    EXPECT_EQ(Status::success().code(), 0);
    EXPECT_STREQ(Status::success().why(), "");
    const Status failure = Status::failure(Errno::kBusy, "taken");
    EXPECT_TRUE(failure.failed());
    EXPECT_EQ(failure.code(), -EBUSY);
    EXPECT_STREQ(failure.why(), "taken");
}

TEST(Status, ErrnosAreLinuxs)
{
    EXPECT_EQ(static_cast<int>(Errno::kIo), EIO);
    EXPECT_EQ(static_cast<int>(Errno::kOpNotSupp), EOPNOTSUPP);
    EXPECT_EQ(static_cast<int>(Errno::kInval), EINVAL);
    EXPECT_EQ(static_cast<int>(Errno::kNoMem), ENOMEM);
    EXPECT_EQ(static_cast<int>(Errno::kFault), EFAULT);
    EXPECT_EQ(static_cast<int>(Errno::kNoTty), ENOTTY);
    EXPECT_EQ(static_cast<int>(Errno::kTooBig), E2BIG);
    EXPECT_EQ(static_cast<int>(Errno::kNxIo), ENXIO);
}

TEST(Result, HoldsAValueOrAStatus)
{
    const Result<int> good = 7;
    EXPECT_TRUE(good.ok());
    EXPECT_EQ(good.value(), 7);
    const Result<int> bad = Status::failure(Errno::kInval, "no");
    EXPECT_TRUE(bad.failed());
    EXPECT_EQ(bad.code(), -EINVAL);
}

TEST(Bits, FieldsAndCounts)
{
    EXPECT_EQ(bit_field(0xabcd, 15, 8), 0xabu);
    EXPECT_EQ(bit_field(~u64{0}, 63, 0), ~u64{0});
    EXPECT_EQ(count_bits(0), 0u);
    EXPECT_EQ(count_bits(~u64{0}), 64u);
    EXPECT_EQ(lowest_bit(0x8000000000000000), 63u);
}

} // namespace
} // namespace minivmx
