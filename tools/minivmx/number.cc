// SPDX-License-Identifier: GPL-2.0-only
#include "number.hpp"

#include "error.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>

namespace minivmx::tool {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

/// Takes the digits in front off `text`. Throws for none or for more than 64 bits.
std::uint64_t take_number(std::string_view option, std::string_view &text)
{
    const std::string_view whole = text;
    int base = 10;
    if (text.starts_with("0x") || text.starts_with("0X")) {
        base = 16;
        text.remove_prefix(2);
    }
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error == std::errc::result_out_of_range)
        fail_usage("{}: '{}' does not fit in 64 bits", option, whole);
    if (error != std::errc())
        fail_usage("{}: '{}' is not a number", option, whole);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

/// The factor that a unit stands for, 0 for an unknown one.
std::uint64_t unit_factor(std::string_view unit)
{
    std::string lower(unit);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (lower.empty())
        return 1;
    if (lower == "k" || lower == "kib")
        return std::uint64_t{1} << 10;
    if (lower == "m" || lower == "mib")
        return std::uint64_t{1} << 20;
    if (lower == "g" || lower == "gib")
        return std::uint64_t{1} << 30;
    return 0;
}

/// A size in the largest unit that leaves no remainder, as the user would type it.
std::string size_text(std::uint64_t bytes)
{
    constexpr std::array<const char *, 4> kUnits = {"", "K", "M", "G"};
    std::size_t unit = 0;
    while (unit + 1 < kUnits.size() && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    return fmt::format("{}{}", bytes, kUnits[unit]);
}

} // namespace

std::uint64_t parse_number(std::string_view option, std::string_view text, std::uint64_t least,
                           std::uint64_t most)
{
    std::string_view rest = text;
    const std::uint64_t value = take_number(option, rest);
    if (!rest.empty())
        fail_usage("{}: '{}' is not a number", option, text);
    if (value < least || value > most)
        fail_usage("{}: {} is out of range, expected {} to {}", option, text, least, most);
    return value;
}

std::uint64_t parse_size(std::string_view option, std::string_view text, std::uint64_t least,
                         std::uint64_t most)
{
    std::string_view rest = text;
    const std::uint64_t value = take_number(option, rest);
    const std::uint64_t factor = unit_factor(rest);
    if (factor == 0)
        fail_usage("{}: '{}' is not a size: '{}' is no unit, expected K, M or G", option, text,
                   rest);
    if (value > kMax / factor || value * factor < least || value * factor > most)
        fail_usage("{}: {} is out of range, expected {} to {}", option, text, size_text(least),
                   size_text(most));
    return value * factor;
}

std::uint64_t parse_seconds(std::string_view option, std::string_view text)
{
    constexpr double kMostSeconds = 86400.0 * 365;
    double seconds = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
    if (error != std::errc() || end != text.data() + text.size())
        fail_usage("{}: '{}' is not a number of seconds", option, text);
    // The comparison is written so that it refuses a NaN, too.
    if (!(seconds >= 0 && seconds <= kMostSeconds))
        fail_usage("{}: {} seconds is out of range, expected 0 to a year", option, text);
    const double milliseconds = seconds * 1000;
    const auto whole = static_cast<std::uint64_t>(milliseconds);
    return static_cast<double>(whole) < milliseconds ? whole + 1 : whole;
}

std::string grouped(std::uint64_t number)
{
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3; at -= 3)
        text.insert(at - 3, 1, ',');
    return text;
}

} // namespace minivmx::tool
