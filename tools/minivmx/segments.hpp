// SPDX-License-Identifier: GPL-2.0-only
//
// Segments that cover all of memory, as a loader sets them up.
#pragma once

#include <minivmx.h>

#include <cstdint>

namespace minivmx::tool {

// Segment types: SDM Vol. 3A, table 3-1.
constexpr std::uint8_t kCodeSegment = 0xb; // execute, read, accessed
constexpr std::uint8_t kDataSegment = 0x3; // read, write, accessed

/// The register's contents for a segment with base 0 and the largest limit: 32-bit, or data.
kvm_segment flat_segment(std::uint16_t selector, std::uint8_t type);

/// The same as the code segment of 64-bit mode.
kvm_segment long_code_segment(std::uint16_t selector);

/// Its descriptor: SDM Vol. 3A, figure 3-8.
std::uint64_t flat_descriptor(std::uint8_t type, bool long_mode);

} // namespace minivmx::tool
