// SPDX-License-Identifier: GPL-2.0-only
//
// The lines of a VMCS dump, as data.
#pragma once

#include <minivmx/types.hpp>
#include <minivmx/vmcs_field.hpp>

#include <array>
#include <optional>
#include <span>
#include <string_view>

namespace minivmx::tool {

enum class DumpSection { kNone, kGuest, kHost, kControl, kOther };

/// A line, or a part of one. In `text`, # stands for a hexadecimal number, with or without 0x; a
/// blank for any number of blanks and commas.
struct DumpPattern {
    DumpSection section;
    std::string_view text;
    std::array<u32, 7> fields; ///< encoding of the field of each #, or kNoField
    bool always;               ///< it is in every dump
};

inline constexpr u32 kNoField = ~u32{0};

std::span<const DumpPattern> dump_patterns();

struct DumpHeading {
    std::string_view text;
    DumpSection section;
};
std::span<const DumpHeading> dump_headings();

/// What a pattern found at the beginning of a text.
struct DumpMatch {
    std::array<u64, 7> values;
    std::size_t length; ///< of the text that it covers
};
std::optional<DumpMatch> match_pattern(std::string_view pattern, std::string_view text);

/// Whether the text begins like the pattern, as far as its first number.
bool begins_like(std::string_view pattern, std::string_view text);

} // namespace minivmx::tool
