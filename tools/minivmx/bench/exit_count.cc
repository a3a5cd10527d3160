// SPDX-License-Identifier: GPL-2.0-only
#include "exit_count.hpp"

#include "text_lines.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace minivmx::tool {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> decimal(std::string_view text)
{
    text = trim(text.substr(0, text.find('\n')));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return number;
}

std::optional<std::string> contents(const fs::path &path)
{
    std::ifstream file(path);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file.is_open() || file.bad())
        return std::nullopt;
    return text;
}

} // namespace

std::uint64_t exits_of_reasons(std::string_view text)
{
    std::uint64_t sum = 0;
    TextLines lines(text);
    while (const auto line = lines.next()) {
        const auto words = split(*line, " \t");
        if (words.size() == 2 && words[0] != "EXTERNAL_INTERRUPT")
            sum += decimal(words[1]).value_or(0);
    }
    return sum;
}

std::optional<std::uint64_t> exits_of_counts(std::string_view exits, std::string_view irq_exits)
{
    const auto all = decimal(exits), interrupts = decimal(irq_exits);
    if (!all || !interrupts || *interrupts > *all)
        return std::nullopt;
    return *all - *interrupts;
}

std::optional<std::uint64_t> count_exits(int vm_fd, const std::string &debugfs)
{
    const long pid = getpid();
    std::error_code error;
    for (fs::directory_iterator vm(fmt::format("{}/minivmx/{}", debugfs, pid), error), end;
         !error && vm != end; vm.increment(error))
        if (const auto text = contents(vm->path() / "exits"))
            return exits_of_reasons(*text);
    const fs::path kvm = fmt::format("{}/kvm/{}-{}", debugfs, pid, vm_fd);
    const auto exits = contents(kvm / "exits"), irq_exits = contents(kvm / "irq_exits");
    return exits && irq_exits ? exits_of_counts(*exits, *irq_exits) : std::nullopt;
}

} // namespace minivmx::tool
