// SPDX-License-Identifier: GPL-2.0-only
#include "text_lines.hpp"

#include <algorithm>
#include <charconv>

namespace minivmx::tool {

std::string_view trim(std::string_view text)
{
    constexpr std::string_view kBlank = " \t\r\v\f";
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos)
        return {};
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

std::string squeezed(std::string_view text)
{
    std::string squeezed;
    for (const char c : text)
        if (c != ' ' || squeezed.empty() || squeezed.back() != ' ')
            squeezed += c;
    return squeezed;
}

std::optional<std::string_view> TextLines::next()
{
    if (rest_.empty())
        return std::nullopt;
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    number_++;
    return line;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators)
{
    std::vector<std::string_view> pieces;
    while (true) {
        const std::size_t first = text.find_first_not_of(separators);
        if (first == std::string_view::npos)
            return pieces;
        text.remove_prefix(first);
        const std::size_t end = std::min(text.find_first_of(separators), text.size());
        pieces.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
}

std::optional<u64> parse_hex(std::string_view text)
{
    if (text.starts_with("0x") || text.starts_with("0X"))
        text.remove_prefix(2);
    u64 value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

std::string printable(std::string_view text, std::size_t most)
{
    std::string clean;
    for (const char c : text.substr(0, most))
        clean += c >= ' ' && c <= '~' ? c : '?';
    return clean;
}

std::string in_quotes(std::string_view text)
{
    constexpr std::size_t kMost = 48;
    return "'" + printable(text, kMost) + (text.size() > kMost ? "..." : "") + "'";
}

} // namespace minivmx::tool
