// SPDX-License-Identifier: GPL-2.0-only
#include "vmcs_dump.hpp"

#include "../error.hpp"
#include "../text_lines.hpp"
#include "dump_format.hpp"

#include <optional>
#include <set>

namespace minivmx::tool {
namespace {

/// Where the log's own prefix (time, host, program, quotation mark) may end.
std::vector<std::size_t> message_starts(std::string_view line)
{
    std::vector<std::size_t> starts = {0};
    for (std::size_t i = 1; i + 1 < line.size(); i++)
        if ((line[i - 1] == ']' || line[i - 1] == ':' || line[i - 1] == '>') && line[i] == ' ')
            starts.push_back(i + 1);
    for (std::size_t &start : starts)
        while (start < line.size() && (line[start] == ' ' || line[start] == '\t'))
            start++;
    return starts;
}

/// A pattern as a person would write it.
std::string example(std::string_view pattern)
{
    std::string text;
    for (const char c : pattern)
        text += c == '#' ? "..." : std::string(1, c);
    return text;
}

unsigned bits_of(u32 encoding)
{
    switch (vmcs_width(encoding)) {
    case VmcsWidth::k16:
        return 16;
    case VmcsWidth::k32:
        return 32;
    default:
        return 64;
    }
}

class DumpParser {
  public:
    DumpParser(const std::string &path, std::string_view text) : path_(path), lines_(text) {}
    VmcsDumps parse();

  private:
    void take_line(std::string_view line);
    bool take_title(std::string_view message);
    bool take_heading(std::string_view message);
    bool take_msr_list(std::string_view message);
    bool take_other(std::string_view message);
    bool take_cpu(std::string_view message);
    bool take_patterns(std::string_view message);
    std::size_t take_pattern(std::string_view message);
    void take_values(const DumpPattern &pattern, const DumpMatch &match);
    void set_field(u32 encoding, u64 value);
    void begin();
    void end();

    const std::string &path_;
    TextLines lines_;
    VmcsDumps result_;
    std::string title_;
    unsigned title_line_ = 0;
    std::optional<VmcsDump> dump_; ///< the one that is being read
    DumpSection section_ = DumpSection::kNone;
    std::set<DumpSection> sections_;
    bool in_msr_list_ = false;
    u32 msr_count_ = 0; ///< the field with the number of the list's entries
};

void DumpParser::begin()
{
    dump_.emplace();
    dump_->line = title_.empty() ? lines_.number() : title_line_;
    dump_->title = title_;
    title_.clear();
    // kvm_intel prints these lists if they are not empty; minivmx prints the counts as well.
    for (u32 count : {VM_ENTRY_MSR_LOAD_COUNT.encoding, VM_EXIT_MSR_STORE_COUNT.encoding,
                      VM_EXIT_MSR_LOAD_COUNT.encoding})
        dump_->fields[count] = 0;
    sections_.clear();
}

/// Keeps the dump if it is complete.
void DumpParser::end()
{
    if (!dump_)
        return;
    for (const DumpPattern &pattern : dump_patterns()) {
        if (!pattern.always || dump_->fields.contains(pattern.fields[0]))
            continue;
        result_.notes.push_back(
            fmt::format("{}:{}: expected '{}' in the dump that begins here; it is cut off", path_,
                        dump_->line, example(pattern.text)));
        dump_.reset();
        return;
    }
    result_.dumps.push_back(std::move(*dump_));
    dump_.reset();
}

bool DumpParser::take_title(std::string_view message)
{
    if (!message.starts_with("VMCS ") ||
        message.find(", last attempted VM-entry on CPU") == std::string_view::npos)
        return false;
    end();
    section_ = DumpSection::kNone;
    constexpr std::size_t kLongest = 100;
    title_ = printable(message, kLongest);
    title_line_ = lines_.number();
    return true;
}

bool DumpParser::take_heading(std::string_view message)
{
    for (const DumpHeading &heading : dump_headings()) {
        if (!message.starts_with(heading.text))
            continue;
        if (heading.section == DumpSection::kGuest || !dump_) {
            end();
            begin();
        }
        if (!sections_.insert(heading.section).second)
            fail_usage(
                "{}:{}: '{}' comes a second time in the dump that begins in line {}; are two "
                "dumps mixed?",
                path_, lines_.number(), heading.text, dump_->line);
        section_ = heading.section;
        in_msr_list_ = false;
        return true;
    }
    return false;
}

bool DumpParser::take_msr_list(std::string_view message)
{
    struct List {
        std::string_view heading;
        u32 count;
    };
    static constexpr List kLists[] = {
        {"MSR guest autoload:", VM_ENTRY_MSR_LOAD_COUNT.encoding},
        {"MSR guest autostore:", VM_EXIT_MSR_STORE_COUNT.encoding},
        {"MSR host autoload:", VM_EXIT_MSR_LOAD_COUNT.encoding},
    };
    for (const List &list : kLists) {
        if (!message.starts_with(list.heading))
            continue;
        in_msr_list_ = true;
        msr_count_ = list.count;
        return true;
    }
    if (!in_msr_list_ || !begins_like("msr=#", message))
        return false;
    const auto match = match_pattern("msr=# value=#", message);
    if (!match || match->values[0] > 0xffffffff)
        fail_usage("{}:{}: expected 'msr=... value=...', got {}", path_, lines_.number(),
                   in_quotes(message));
    dump_->fields[msr_count_]++;
    if (msr_count_ == VM_ENTRY_MSR_LOAD_COUNT.encoding)
        dump_->entry_msrs.push_back({static_cast<u32>(match->values[0]), 0, match->values[1]});
    return true;
}

AuditHas has_feature(u64 value)
{
    return value != 0 ? AuditHas::kYes : AuditHas::kNo;
}

bool DumpParser::take_cpu(std::string_view message)
{
    if (const auto msr = match_pattern("MSR # = #", message)) {
        dump_->msr.set(static_cast<u32>(msr->values[0]), msr->values[1]);
        return true;
    }
    if (const auto address = match_pattern("VMCS address = #", message)) {
        dump_->vmcs_address = address->values[0];
        return true;
    }
    if (const auto widths = match_pattern("physical bits = # linear bits = #", message)) {
        dump_->physical_bits = static_cast<u32>(widths->values[0] & 0xff);
        dump_->linear_bits = static_cast<u32>(widths->values[1] & 0xff);
        return true;
    }
    const auto features =
        match_pattern("nx = # rtm = # sgx = # bus lock = # lam = # counters = #", message);
    if (!features)
        return false;
    const auto &v = features->values;
    dump_->features = {has_feature(v[0]),
                       has_feature(v[1]),
                       has_feature(v[2]),
                       has_feature(v[3]),
                       has_feature(v[4]),
                       AuditHas::kYes,
                       v[5]};
    return true;
}

/// What only minivmx prints: any field by its name, the capability MSRs, the address widths.
bool DumpParser::take_other(std::string_view message)
{
    if (section_ != DumpSection::kOther)
        return false;
    if (take_cpu(message))
        return true;
    const std::string name(message.substr(0, message.find(' ')));
    u32 encoding = 0;
    if (!find_vmcs_field(name.c_str(), &encoding))
        return false;
    const auto match = match_pattern(" = #", message.substr(name.size()));
    if (!match)
        fail_usage("{}:{}: expected '{} = ...', got {}", path_, lines_.number(), name,
                   in_quotes(message));
    set_field(encoding, match->values[0]);
    return true;
}

void DumpParser::set_field(u32 encoding, u64 value)
{
    if (encoding == kNoField)
        return;
    const unsigned bits = bits_of(encoding);
    if (bits < 64 && value >> bits != 0)
        fail_usage("{}:{}: expected {} bits for {}, got {:#x}", path_, lines_.number(), bits,
                   vmcs_field_name(encoding), value);
    dump_->fields[encoding] = value;
}

void DumpParser::take_values(const DumpPattern &pattern, const DumpMatch &match)
{
    if (pattern.fields[0] != kNoField && dump_->fields.contains(pattern.fields[0]))
        fail_usage("{}:{}: '{}' comes a second time in the dump that begins in line {}; are two "
                   "dumps mixed?",
                   path_, lines_.number(), example(pattern.text), dump_->line);
    for (std::size_t i = 0; i < pattern.fields.size(); i++)
        set_field(pattern.fields[i], match.values[i]);
}

/// How much of the message it took.
std::size_t DumpParser::take_pattern(std::string_view message)
{
    const DumpPattern *malformed = nullptr;
    for (const DumpPattern &pattern : dump_patterns()) {
        if (pattern.section != section_ || !begins_like(pattern.text, message))
            continue;
        if (const auto match = match_pattern(pattern.text, message)) {
            take_values(pattern, *match);
            return match->length;
        }
        malformed = &pattern;
    }
    if (malformed != nullptr)
        fail_usage("{}:{}: expected '{}' with hexadecimal numbers, got {}", path_, lines_.number(),
                   example(malformed->text), in_quotes(message));
    return 0;
}

bool DumpParser::take_patterns(std::string_view message)
{
    bool any = false;
    while (const std::size_t taken = take_pattern(message)) {
        any = true;
        message.remove_prefix(taken);
        while (!message.empty() && message.front() == ' ')
            message.remove_prefix(1);
    }
    return any;
}

void DumpParser::take_line(std::string_view line)
{
    for (const std::size_t start : message_starts(line)) {
        const std::string_view message = line.substr(start);
        if (take_title(message) || take_heading(message))
            return;
        if (dump_ && section_ != DumpSection::kNone &&
            (take_msr_list(message) || take_other(message) || take_patterns(message)))
            return;
    }
}

VmcsDumps DumpParser::parse()
{
    while (const auto line = lines_.next())
        take_line(trim(*line));
    end();
    if (!result_.dumps.empty())
        return std::move(result_);
    if (!result_.notes.empty())
        throw Error(ExitStatus::kUsage, result_.notes.front());
    fail_usage(
        "{}: expected the dump of a VMCS ('*** Guest State ***' ...), which kvm_intel prints "
        "to dmesg with dump_invalid_vmcs=1, but there is none",
        path_);
}

} // namespace

VmcsDumps parse_vmcs_dumps(const std::string &path, std::string_view text)
{
    return DumpParser(path, text).parse();
}

} // namespace minivmx::tool
