// SPDX-License-Identifier: GPL-2.0-only
#include "error.hpp"
#include "msr_formats.hpp"
#include "nearest.hpp"
#include "text_lines.hpp"

#include <limits>

namespace minivmx::tool {
namespace {

constexpr std::string_view kSeparators = " \t\r:=,()";

[[noreturn]] void not_understood(const NamedText &file, unsigned line, std::string_view text)
{
    fail_usage("{}:{}: expected an MSR's number and value in hexadecimal, like 0x480 "
               "0x00da040000000004, got {}",
               file.path, line, in_quotes(trim(text)));
}

/// "0x480", "480", "IA32_VMX_BASIC", "MSR_IA32_VMX_BASIC".
std::optional<u32> parse_msr_number(std::string_view text)
{
    if (const std::optional<u64> number = parse_hex(text))
        return *number <= std::numeric_limits<u32>::max() ? std::optional(static_cast<u32>(*number))
                                                          : std::nullopt;
    std::string name = lower_case(text);
    if (name.starts_with("msr_"))
        name.erase(0, 4);
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++)
        if (name == lower_case(msr_name(msr)))
            return msr;
    return name == "ia32_feature_control" ? std::optional(MSR_IA32_FEATURE_CONTROL) : std::nullopt;
}

/// The MSR that a command line of rdmsr reads, or that it says it cannot read: the last number.
std::optional<u32> number_of_rdmsr(std::string_view line)
{
    std::optional<u32> number;
    for (const std::string_view word : split(line, kSeparators))
        if (const std::optional<u64> value = parse_hex(word); value && *value <= 0xffffffff)
            number = static_cast<u32>(*value);
    return number;
}

class LineParser {
  public:
    LineParser(const NamedText &file, VmxMsrs &msrs) : file_(file), msrs_(msrs) {}

    void take(unsigned number, std::string_view line)
    {
        // "# rdmsr 0x480" is root's prompt, any other # begins a comment.
        const bool command = line.find("rdmsr") != std::string_view::npos;
        const std::string_view text = trim(command ? line : line.substr(0, line.find('#')));
        if (text.empty())
            return;
        if (command)
            take_command(number, text);
        else if (answer_is_next_)
            take_answer(number, text);
        else
            take_pair(number, text);
    }
    void end(unsigned number) const
    {
        if (answer_is_next_)
            fail_usage("{}:{}: expected the value of MSR {:#x}, got the end of the file",
                       file_.path, number, asked_);
    }

  private:
    void take_command(unsigned number, std::string_view text)
    {
        const std::optional<u32> msr = number_of_rdmsr(text);
        if (!msr)
            not_understood(file_, number, text);
        asked_ = *msr;
        answer_is_next_ = text.find("cannot read") == std::string_view::npos;
    }
    void take_answer(unsigned number, std::string_view text)
    {
        const std::optional<u64> value = parse_hex(text);
        if (!value)
            fail_usage("{}:{}: expected the value of MSR {:#x} in hexadecimal, got {}", file_.path,
                       number, asked_, in_quotes(text));
        msrs_.set(asked_, *value);
        answer_is_next_ = false;
    }
    void take_pair(unsigned number, std::string_view text)
    {
        std::vector<std::string_view> words = split(text, kSeparators);
        if (!words.empty() && lower_case(words.front()) == "msr")
            words.erase(words.begin());
        if (words.size() < 2)
            not_understood(file_, number, text);
        const std::optional<u32> msr = parse_msr_number(words.front());
        const std::optional<u64> value = parse_hex(words.back());
        // "IA32_VMX_BASIC (0x480) = 0x..." has both a name and a number.
        const bool right_length =
            words.size() == 2 || (words.size() == 3 && parse_msr_number(words[1]) == msr);
        if (!msr || !right_length || (!value && words.back() != "gp"))
            not_understood(file_, number, text);
        if (value)
            msrs_.set(*msr, *value);
    }

    const NamedText &file_;
    VmxMsrs &msrs_;
    u32 asked_ = 0; ///< by rdmsr
    bool answer_is_next_ = false;
};

} // namespace

profiles::CpuProfile parse_msr_lines(const NamedText &file)
{
    profiles::CpuProfile cpu;
    cpu.name = cpu.cpu = file.path;
    cpu.vendor = "GenuineIntel";
    LineParser parser(file, cpu.msr);
    TextLines lines(file.text);
    while (const std::optional<std::string_view> line = lines.next())
        parser.take(lines.number(), *line);
    parser.end(lines.number());
    return cpu;
}

} // namespace minivmx::tool
