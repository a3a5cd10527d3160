// SPDX-License-Identifier: GPL-2.0-only
#include "counters.hpp"

#include <minivmx/exit_name.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace minivmx::tool {
namespace {

/// The reason whose word this is; -1 for none.
int reason_of(std::string_view word)
{
    for (std::uint32_t reason = 0; reason < kExitReasonNameCount; reason++) {
        const char *name = exit_reason_constant(reason);
        if (name != nullptr && word == name)
            return static_cast<int>(reason);
    }
    return -1;
}

void parse_line(std::string_view line, ExitCounts &counts)
{
    const std::size_t word_end = line.find_first_of(" \t");
    const std::size_t count_at = line.find_last_of(" \t");
    if (word_end == std::string_view::npos)
        return;
    const int reason = reason_of(line.substr(0, word_end));
    const std::string_view text = line.substr(count_at + 1);
    std::uint64_t count = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), count);
    if (reason >= 0 && parsed.ec == std::errc() && parsed.ptr == text.data() + text.size())
        counts[static_cast<std::uint32_t>(reason)] = count;
}

/// The directory of this process's newest VM: their names are numbers.
std::optional<std::filesystem::path> newest_vm()
{
    const std::filesystem::path process =
        fmt::format("/sys/kernel/debug/minivmx/{}", static_cast<long>(getpid()));
    std::error_code error;
    std::optional<std::filesystem::path> newest;
    unsigned long highest = 0;
    for (const auto &entry : std::filesystem::directory_iterator(process, error)) {
        const std::string name = entry.path().filename().string();
        unsigned long number = 0;
        const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
        if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size())
            continue;
        if (!newest || number > highest) {
            newest = entry.path();
            highest = number;
        }
    }
    return newest;
}

} // namespace

ExitCounts parse_exit_counts(std::string_view text)
{
    ExitCounts counts;
    while (!text.empty()) {
        const std::size_t end = text.find('\n');
        parse_line(text.substr(0, end), counts);
        text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    }
    return counts;
}

std::optional<ExitCounts> read_exit_counts()
{
    const std::optional<std::filesystem::path> vm = newest_vm();
    if (!vm)
        return std::nullopt;
    std::ifstream file(*vm / "0" / "exits");
    if (!file)
        return std::nullopt;
    return parse_exit_counts(std::string(std::istreambuf_iterator<char>(file), {}));
}

ExitCounts counts_since(const ExitCounts &before, const ExitCounts &after)
{
    ExitCounts more;
    for (const auto &[reason, count] : after) {
        const auto found = before.find(reason);
        const std::uint64_t had = found == before.end() ? 0 : found->second;
        if (count > had)
            more[reason] = count - had;
    }
    return more;
}

} // namespace minivmx::tool
