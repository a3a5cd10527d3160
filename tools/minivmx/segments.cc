// SPDX-License-Identifier: GPL-2.0-only
#include "segments.hpp"

namespace minivmx::tool {

kvm_segment flat_segment(std::uint16_t selector, std::uint8_t type)
{
    kvm_segment segment = {};
    segment.limit = 0xffffffff;
    segment.selector = selector;
    segment.type = type;
    segment.present = 1;
    segment.db = 1;
    segment.s = 1;
    segment.g = 1;
    return segment;
}

kvm_segment long_code_segment(std::uint16_t selector)
{
    kvm_segment segment = flat_segment(selector, kCodeSegment);
    segment.l = 1;
    segment.db = 0;
    return segment;
}

std::uint64_t flat_descriptor(std::uint8_t type, bool long_mode)
{
    constexpr std::uint64_t kLimit = 0x000f00000000ffff;
    constexpr std::uint64_t kCodeOrDataPresent = std::uint64_t{0x90} << 40;
    constexpr std::uint64_t kGranularity = std::uint64_t{1} << 55;
    const std::uint64_t width = std::uint64_t{1} << (long_mode ? 53 : 54); // L or D/B
    return kLimit | kCodeOrDataPresent | kGranularity | width | std::uint64_t{type} << 40;
}

} // namespace minivmx::tool
