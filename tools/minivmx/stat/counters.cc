// SPDX-License-Identifier: GPL-2.0-only
#include "stat/counters.hpp"

#include "error.hpp"
#include "text_lines.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace minivmx::tool {
namespace {

namespace fs = std::filesystem;

/// The whole of `text` as a decimal number.
std::optional<std::uint64_t> decimal(std::string_view text)
{
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return number;
}

/// The whole file, or nothing when it is gone, as files of a VM go with it.
std::optional<std::string> contents(const fs::path &path)
{
    std::ifstream file(path);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file.is_open() || file.bad())
        return std::nullopt;
    return text;
}

/// The subdirectories whose names are numbers, in their order.
std::vector<std::uint64_t> numbered(const fs::path &directory)
{
    std::vector<std::uint64_t> numbers;
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error))
        if (const auto number = decimal(entry->path().filename().string()))
            numbers.push_back(*number);
    std::sort(numbers.begin(), numbers.end());
    return numbers;
}

std::string process_name(std::uint64_t pid)
{
    const auto text = contents(fmt::format("/proc/{}/comm", pid));
    return text ? process_name_text(*text) : "";
}

std::optional<VcpuCounters> read_vcpu(const fs::path &directory, const VcpuName &name)
{
    const fs::path exits = directory / "exits", events = directory / "events";
    const auto exits_text = contents(exits), events_text = contents(events);
    if (!exits_text || !events_text)
        return std::nullopt;
    return VcpuCounters{.name = name,
                        .process = process_name(name.pid),
                        .exits = parse_counters(exits.string(), *exits_text),
                        .events = parse_counters(events.string(), *events_text)};
}

void require_readable(const std::string &directory)
{
    std::error_code error;
    const fs::directory_iterator probe(directory, error);
    if (error == std::errc::permission_denied)
        fail("cannot read {}: only root may", directory);
    if (error)
        fail("cannot read {}: {}; load the module, and mount debugfs (mount -t debugfs debugfs "
             "/sys/kernel/debug)",
             directory, error.message());
}

} // namespace

std::string VcpuName::text() const
{
    return fmt::format("{}/{}/{}", pid, vm, vcpu);
}

bool VcpuSelection::has(const VcpuName &name) const
{
    return (!pid || *pid == name.pid) && (!vm || *vm == name.vm) && (!vcpu || *vcpu == name.vcpu);
}

std::string process_name_text(std::string_view comm)
{
    std::string name(comm.substr(0, comm.find('\n')));
    for (char &c : name)
        if (static_cast<unsigned char>(c) < ' ' || c == 0x7f)
            c = '?';
    return name;
}

VcpuSelection parse_vcpu_selection(std::string_view text)
{
    VcpuSelection selection;
    if (text.empty())
        return selection;
    std::optional<std::uint64_t> *const parts[] = {&selection.pid, &selection.vm, &selection.vcpu};
    std::string_view rest = text;
    for (std::optional<std::uint64_t> *part : parts) {
        const std::size_t slash = rest.find('/');
        *part = decimal(rest.substr(0, slash));
        if (!*part)
            break;
        if (slash == std::string_view::npos)
            return selection;
        rest.remove_prefix(slash + 1);
    }
    fail_usage("{}: expected PID, PID/VM or PID/VM/VCPU, as the directories of {}", in_quotes(text),
               kCountersDirectory);
}

Counters parse_counters(const std::string &path, std::string_view text)
{
    Counters counters;
    TextLines lines(text);
    while (const auto line = lines.next()) {
        const std::vector<std::string_view> words = split(*line, " ");
        const auto count = words.size() == 2 ? decimal(words[1]) : std::nullopt;
        if (!count)
            fail("{}, line {}: expected a name and a number, got {}", path, lines.number(),
                 in_quotes(*line));
        counters[std::string(words[0])] = *count;
    }
    return counters;
}

std::vector<VcpuCounters> read_counters(const VcpuSelection &selection,
                                        const std::string &directory)
{
    require_readable(directory);
    std::vector<VcpuCounters> all;
    for (const std::uint64_t pid : numbered(directory)) {
        const fs::path process = fs::path(directory) / std::to_string(pid);
        for (const std::uint64_t vm : numbered(process)) {
            const fs::path machine = process / std::to_string(vm);
            for (const std::uint64_t vcpu : numbered(machine)) {
                const VcpuName name{pid, vm, vcpu};
                if (!selection.has(name))
                    continue;
                if (auto counters = read_vcpu(machine / std::to_string(vcpu), name))
                    all.push_back(std::move(*counters));
            }
        }
    }
    return all;
}

} // namespace minivmx::tool
