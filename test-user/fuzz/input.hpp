// SPDX-License-Identifier: GPL-2.0-only
//
// A fuzzer's bytes, taken piece by piece. When they are used up, zeros follow.
#pragma once

#include <minivmx/types.hpp>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

namespace minivmx::fuzz {

class Input {
  public:
    Input(const u8 *bytes, usize size) : left_(bytes, size) {}

    bool empty() const { return left_.empty(); }
    usize left() const { return left_.size(); }

    void fill(void *to, usize size)
    {
        const usize taken = std::min(size, left_.size());
        if (size == 0)
            return;
        std::memset(to, 0, size);
        if (taken != 0)
            std::memcpy(to, left_.data(), taken);
        left_ = left_.subspan(taken);
    }
    template <class T>
    T take()
    {
        T value;
        fill(&value, sizeof(value));
        return value;
    }
    /// 0 .. count - 1; count is 256 at most.
    u8 below(u32 count) { return static_cast<u8>(take<u8>() % count); }
    bool flag() { return take<u8>() & 1; }

    template <class T, usize count>
    T one_of(const T (&values)[count])
    {
        return values[below(count)];
    }
    std::vector<u8> bytes(usize most)
    {
        std::vector<u8> result(std::min<usize>(take<u8>() % (most + 1), left_.size()));
        fill(result.data(), result.size());
        return result;
    }
    /// A value that matters more often than a random one: near a bound, a power of two, or small.
    u64 value()
    {
        const u8 kind = take<u8>();
        const u8 shift = kind & 63;
        switch (kind >> 6) {
        case 0:
            return take<u64>();
        case 1:
            return u64{1} << shift;
        case 2:
            return (u64{1} << shift) - 1;
        default:
            return take<u8>();
        }
    }

  private:
    std::span<const u8> left_;
};

} // namespace minivmx::fuzz
