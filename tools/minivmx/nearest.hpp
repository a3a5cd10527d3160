// SPDX-License-Identifier: GPL-2.0-only
//
// "Did you mean ...?"
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace minivmx::tool {

std::string lower_case(std::string_view text);

/// The candidates that a person who typed `text` may have meant, likeliest first: those that it is
/// part of, and those that few typing errors turn into it. Upper and lower case count as the same.
std::vector<std::string> nearest(std::string_view text, const std::vector<std::string> &candidates,
                                 std::size_t most = 5);

/// "; did you mean a, b or c?", or nothing without names.
std::string did_you_mean(const std::vector<std::string> &names);

} // namespace minivmx::tool
