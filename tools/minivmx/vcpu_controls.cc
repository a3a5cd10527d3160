// SPDX-License-Identifier: GPL-2.0-only
#include "vcpu_controls.hpp"

#include "error.hpp"
#include "image.hpp"
#include "nearest.hpp"
#include "text_lines.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <system_error>

namespace minivmx::tool {
namespace {

constexpr std::string_view kFreedom[] = {"0", "1", "0/1"};

/// Takes `word` off the front of `text`, with the space behind it.
bool take_word(std::string_view &text, std::string_view word)
{
    if (!text.starts_with(word))
        return false;
    text.remove_prefix(word.size());
    if (!text.empty() && text.front() != ' ')
        return false;
    text = trim(text);
    return true;
}

class ControlsParser {
  public:
    ControlsParser(const std::string &path, std::string_view text)
        : path_(path), lines_(text), ends_in_newline_(text.ends_with('\n'))
    {}

    Explanation parse()
    {
        while (const std::optional<std::string_view> line = lines_.next()) {
            const std::size_t indent = std::min(line->find_first_not_of(' '), line->size());
            const std::string_view text = trim(*line);
            if (indent == 0)
                take_word_line(text);
            else if (indent < kStepIndent)
                take_bit_line(text);
            else
                take_step_line(text);
        }
        if (answer_.words.size() != kControlFieldCount)
            expected(fmt::format("{} control words", kControlFieldCount),
                     fmt::format("{}", answer_.words.size()));
        end_word();
        if (!ends_in_newline_)
            expected("the whole line", "the end of the file");
        answer_.usable = true;
        return answer_;
    }

  private:
    static constexpr std::size_t kStepIndent = 6;

    [[noreturn]] void expected(const std::string &what, std::string_view got) const
    {
        fail_usage("{}:{}: expected {}, got {}", path_, lines_.number(), what, in_quotes(got));
    }

    u64 hex_of(std::string_view text, std::string_view line) const
    {
        const std::optional<u64> value = parse_hex(text);
        if (!value)
            expected("a word in hexadecimal", line);
        return *value;
    }

    /// No word ends before it had all its bits, and no bit before it had a reason.
    void end_word() const
    {
        if (answer_.words.empty())
            return;
        end_bit();
        const ExplainedWord &word = answer_.words.back();
        if (word.bits.size() != control_bits_of(word.info->field).size())
            expected(fmt::format("all bits of the {} controls", word.info->name),
                     fmt::format("{}", word.bits.size()));
    }
    void end_bit() const
    {
        const std::vector<ExplainedBit> &bits = answer_.words.back().bits;
        if (!bits.empty() && bits.back().steps.empty() && bits.back().untouched.empty())
            expected(fmt::format("why {} is as it is", bits.back().row->slug), "nothing");
    }

    /// "primary 0xb5a06dfa, negotiated 0xb5986dfa"
    void take_word_line(std::string_view line)
    {
        end_word();
        const std::vector<std::string_view> words = split(line, " ,");
        const auto next = static_cast<ControlField>(answer_.words.size());
        if (answer_.words.size() == kControlFieldCount)
            expected("the end of the file", line);
        const ControlWordInfo &info = control_word_info(next);
        if (words.size() != 4 || words[0] != info.slug || words[2] != "negotiated")
            expected(fmt::format("\"{} 0x..., negotiated 0x...\"", info.slug), line);
        ExplainedWord word;
        word.info = &info;
        word.deciding_msr = info.msr;
        word.value = hex_of(words[1], line);
        word.negotiated = hex_of(words[3], line);
        answer_.words.push_back(word);
    }

    /// "15 off cr3-load-exiting"
    void take_bit_line(std::string_view line)
    {
        const std::vector<std::string_view> words = split(line, " ");
        if (answer_.words.empty() || words.size() != 3)
            expected("a bit, \"15 off cr3-load-exiting\"", line);
        end_bit();
        ExplainedWord &word = answer_.words.back();
        const Span<const ControlBit> rows = control_bits_of(word.info->field);
        const ControlBit *const row =
            word.bits.size() < rows.size() ? &rows[word.bits.size()] : nullptr;
        if (row == nullptr || row->slug != words[2] || std::to_string(row->bit) != words[0])
            expected(fmt::format("the next bit of the {} controls", word.info->name), line);
        if (words[1] != "on" && words[1] != "off")
            expected("on or off", words[1]);
        ExplainedBit bit;
        bit.row = row;
        bit.on = words[1] == "on";
        bit.negotiated = (word.negotiated & row->mask()) != 0;
        word.bits.push_back(bit);
    }

    /// "0/1 IA32_VMX_TRUE_PROCBASED_CTLS", "on  required: ... (adjust_vmx_controls)", "-   why"
    void take_step_line(std::string_view line)
    {
        if (answer_.words.empty() || answer_.words.back().bits.empty())
            expected("a bit before its steps", line);
        ExplainedBit &bit = answer_.words.back().bits.back();
        std::string_view rest = line;
        for (const std::string_view freedom : kFreedom)
            if (take_word(rest = line, freedom))
                return take_freedom(bit, freedom, rest);
        if (take_word(rest = line, "-"))
            bit.untouched = rest;
        else if (take_word(rest = line, "on"))
            take_step(bit, true, rest);
        else if (take_word(rest = line, "off"))
            take_step(bit, false, rest);
        else
            expected("a step, \"on  required: ...\"", line);
    }

    void take_freedom(ExplainedBit &bit, std::string_view freedom, std::string_view msr)
    {
        bit.may_be_0 = freedom != "1";
        bit.may_be_1 = freedom != "0";
        bit.standing = !bit.may_be_1                           ? Standing::kAbsent
                       : bit.row->use == ControlUse::kRequired ? Standing::kRequired
                       : bit.negotiated                        ? Standing::kUsed
                                                               : Standing::kAvailable;
        ExplainedWord &word = answer_.words.back();
        if (msr == msr_name(word.info->true_msr) && word.info->true_msr != 0)
            word.deciding_msr = word.info->true_msr;
    }

    void take_step(ExplainedBit &bit, bool to_one, std::string_view rest)
    {
        const std::size_t colon = rest.find(": ");
        const std::size_t open = rest.rfind(" (");
        if (colon == std::string_view::npos || open == std::string_view::npos || open < colon + 2 ||
            !rest.ends_with(")"))
            expected("a step, \"rule: reason (function)\"", rest);
        ExplainedStep step;
        step.to_one = to_one;
        step.rule = rest.substr(0, colon);
        step.reason = rest.substr(colon + 2, open - colon - 2);
        step.where = rest.substr(open + 2, rest.size() - open - 3);
        bit.steps.push_back(step);
    }

    const std::string &path_;
    TextLines lines_;
    bool ends_in_newline_;
    Explanation answer_;
};

/// "1234/0/1" -> three numbers, nothing else: it becomes part of a path.
bool is_vcpu_name(const std::string &name)
{
    const std::vector<std::string_view> parts = split(name, "/");
    const bool numbers = std::all_of(parts.begin(), parts.end(), [](std::string_view part) {
        return part.size() <= 10 && part.find_first_not_of("0123456789") == std::string_view::npos;
    });
    return parts.size() == 3 && numbers && name.find("//") == std::string::npos &&
           name.front() != '/' && name.back() != '/';
}

/// The vCPUs that there are, by their names.
std::vector<std::string> vcpu_names(const std::string &directory)
{
    namespace fs = std::filesystem;
    std::vector<std::string> names;
    std::error_code error;
    for (fs::recursive_directory_iterator entry(directory, error), end; entry != end && !error;
         entry.increment(error)) {
        const std::string name =
            fs::relative(entry->path().parent_path(), directory, error).string();
        if (entry->path().filename() == "controls" && is_vcpu_name(name))
            names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

[[noreturn]] void no_such_vcpu(const std::string &name, const std::string &directory)
{
    std::error_code error;
    if (!std::filesystem::exists(directory, error))
        fail("{}: {}; it needs root, debugfs mounted at /sys/kernel/debug, and the module loaded",
             directory, error ? error.message() : errno_text(ENOENT));
    const std::vector<std::string> names = vcpu_names(directory);
    if (names.empty())
        fail("--vcpu: there is no vCPU {}; no virtual machine runs on minivmx", name);
    fail("--vcpu: there is no vCPU {}; there are {}", name, fmt::join(names, ", "));
}

} // namespace

Explanation parse_vcpu_controls(const std::string &path, std::string_view text)
{
    return ControlsParser(path, text).parse();
}

Explanation read_vcpu_controls(const std::string &name, const std::string &directory)
{
    constexpr std::uint64_t kMostBytes = 1 << 20;
    if (!is_vcpu_name(name))
        fail_usage("--vcpu: expected PID/VM/VCPU, three numbers like 1234/0/0, got {}",
                   in_quotes(name));
    const std::string path = directory + "/" + name + "/controls";
    std::error_code error;
    if (!std::filesystem::exists(path, error))
        no_such_vcpu(name, directory);
    const std::vector<std::uint8_t> bytes = read_image(path, kMostBytes);
    Explanation answer = parse_vcpu_controls(path, std::string(bytes.begin(), bytes.end()));
    answer.source = "vCPU " + name;
    return answer;
}

} // namespace minivmx::tool
