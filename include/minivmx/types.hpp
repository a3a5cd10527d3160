// SPDX-License-Identifier: GPL-2.0-only
//
// Integer names, a borrowed range, and bit arithmetic: what every other header of the core uses.
// Nothing here links against anything; it is the same in the kernel and in userspace.
#pragma once

#include <cstddef>
#include <cstdint>

namespace minivmx {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using usize = std::size_t;

constexpr u32 bit32(unsigned n)
{
    return u32{1} << n;
}

constexpr u64 bit64(unsigned n)
{
    return u64{1} << n;
}

/// The low `size` (1, 2, 4 or 8) bytes of `value` as a signed number.
constexpr u64 sign_extend(u64 value, u32 size)
{
    switch (size) {
    case 1:
        return static_cast<u64>(static_cast<s8>(value));
    case 2:
        return static_cast<u64>(static_cast<s16>(value));
    case 4:
        return static_cast<u64>(static_cast<s32>(value));
    default:
        return value;
    }
}

/// Bits `high` down to `low` of `value`, moved down to bit 0. Requires high >= low, high <= 63.
constexpr u64 bit_field(u64 value, unsigned high, unsigned low)
{
    const unsigned width = high - low + 1;
    const u64 mask = width == 64 ? ~u64{0} : (u64{1} << width) - 1;
    return (value >> low) & mask;
}

/// How many bits of `value` are 1. Written out because the compiler's builtin becomes a call into
/// libgcc (which the kernel does not have) on CPUs without POPCNT.
constexpr unsigned count_bits(u64 value)
{
    unsigned n = 0;
    for (; value != 0; value &= value - 1)
        n++;
    return n;
}

/// Number of the lowest bit that is 1. `value` must not be 0.
constexpr unsigned lowest_bit(u64 value)
{
    unsigned n = 0;
    while ((value & 1) == 0) {
        value >>= 1;
        n++;
    }
    return n;
}

/// A borrowed range: pointer and length. Never owns, never allocates.
template <typename T>
class Span {
  public:
    constexpr Span() = default;
    constexpr Span(T *data, usize size) : data_(data), size_(size) {}
    template <usize N>
    constexpr Span(T (&array)[N]) : data_(array), size_(N)
    {}

    constexpr T *begin() const { return data_; }
    constexpr T *end() const { return data_ + size_; }
    constexpr T *data() const { return data_; }
    constexpr usize size() const { return size_; }
    constexpr bool empty() const { return size_ == 0; }
    constexpr T &operator[](usize i) const { return data_[i]; }

  private:
    T *data_ = nullptr;
    usize size_ = 0;
};

} // namespace minivmx
