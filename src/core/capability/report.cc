// SPDX-License-Identifier: GPL-2.0-only
//
// The report in dmesg.
#include <minivmx/capabilities.hpp>
#include <minivmx/report.hpp>

namespace minivmx {

namespace {

constexpr usize kReportWidth = 100;
constexpr usize kReportIndent = 13;

/// Puts items into lines of kReportWidth characters; an item is never broken.
class WrappedLines {
  public:
    WrappedLines(const LineSink &out, const char *heading) : out_(out)
    {
        line_.put(heading);
        line_.pad_to(kReportIndent);
    }
    ~WrappedLines()
    {
        if (!line_.empty())
            out_(line_);
    }
    WrappedLines(const WrappedLines &) = delete;
    WrappedLines &operator=(const WrappedLines &) = delete;

    void add(const TextBuilder &item)
    {
        const usize gap = first_ ? 0 : 2;
        if (!first_ && line_.length() + gap + item.length() > kReportWidth) {
            next_line();
        } else if (!first_) {
            line_.put("  ");
        }
        line_.put(item);
        first_ = false;
    }

  private:
    void next_line()
    {
        out_(line_);
        line_.clear();
        line_.pad_to(kReportIndent);
    }

    const LineSink &out_;
    Line line_;
    bool first_ = true;
};

/// The words whose bits are negotiated; the secondary VM-exit controls are never activated.
constexpr ControlField kReportedWords[] = {
    ControlField::kPin,      ControlField::kPrimary, ControlField::kSecondary,
    ControlField::kTertiary, ControlField::kExit,    ControlField::kEntry,
};

bool applies_to_host(const ControlBit &row, const HostDesc &host)
{
    return row.condition != ControlCondition::kHost64 || host.is_64bit;
}

/// One item of the short report: a mark, the name, and why it is not as one would expect.
void put_item(TextBuilder &item, const Hardware &hw, const ControlBit &row, const BitFate &fate)
{
    const bool by_parameter = fate.on != fate.negotiated;
    const char *mark = row.use == ControlUse::kRequired ? "*" : "+";
    if (!fate.allowed)
        mark = "-";
    else if (!fate.on)
        mark = "x";
    item.put(mark, row.name);
    if (by_parameter) {
        item.put(" (");
        put_parameter(item, hw, row.parameter);
        item.put(")");
    } else if (fate.allowed && !fate.on) {
        item.put(" (", rule_info(fate.rule).brief, ")");
    }
}

void put_word_value(TextBuilder &out, const Hardware &hw, ControlField field)
{
    const unsigned digits = control_word_info(field).width / 4;
    const u64 negotiated = hw.config.control(field);
    const u64 after = word_after_parameters(hw, field);
    out.put(hex(negotiated, digits));
    if (after != negotiated)
        out.put(" -> ", hex(after, digits));
}

void report_word_as_names(const Hardware &hw, ControlField field, const LineSink &out)
{
    const WordHistory history(hw, field);
    WrappedLines lines(out, control_word_info(field).slug);
    Line item;
    put_word_value(item, hw, field);
    lines.add(item);
    for (const ControlBit &row : control_bits_of(field)) {
        if (row.use == ControlUse::kUnused || !applies_to_host(row, hw.host))
            continue;
        item.clear();
        put_item(item, hw, row, fate_of(hw, history, row));
        lines.add(item);
    }
}

/// SDM Vol. 3D, A.10.
constexpr CapabilityName kEptNames[] = {
    {bit32(6), "4-level"},       {bit32(7), "5-level"},         {bit32(8), "uncached"},
    {bit32(14), "write-back"},   {bit32(16), "2 MiB pages"},    {bit32(17), "1 GiB pages"},
    {bit32(0), "execute-only"},  {bit32(21), "accessed/dirty"}, {bit32(22), "exit info"},
    {bit32(23), "shadow stack"}, {bit32(20), "INVEPT"},         {bit32(25), "single"},
    {bit32(26), "all"},
};
constexpr CapabilityName kVpidNames[] = {
    {bit32(0), "INVVPID"}, {bit32(8), "address"},          {bit32(9), "single"},
    {bit32(10), "all"},    {bit32(11), "all but globals"},
};

void report_capability(const char *heading, u32 value, Span<const CapabilityName> names,
                       const LineSink &out)
{
    WrappedLines lines(out, heading);
    Line item;
    item.put(hex(value, 8));
    lines.add(item);
    for (const CapabilityName &name : names) {
        if ((value & name.mask) == 0)
            continue;
        item.clear();
        item.put(name.name);
        lines.add(item);
    }
}

void report_cpu(const Hardware &hw, const LineSink &out)
{
    const HostDesc &host = hw.host;
    Line line;
    line.put(host.name[0] != '\0' ? host.name : host.vendor, ", family ", host.signature.family(),
             " model ", host.signature.model(), " stepping ", host.signature.stepping());
    out(line);
    line.clear();
    line.put("VMX revision ", hex(hw.config.revision_id), ", VMCS of ", hw.config.size,
             " bytes, preemption timer ticks every ", u64{1} << hw.preemption_timer_shift,
             hw.preemption_timer_shift == 0 ? " TSC tick" : " TSC ticks");
    if (host.enlightened_vmcs)
        line.put(", enlightened VMCS");
    out(line);
}

void report_parameters(const Hardware &hw, const LineSink &out)
{
    WrappedLines lines(out, "parameters");
    for (unsigned i = 1; i < kParameterCount; i++) {
        const Parameter parameter = static_cast<Parameter>(i);
        Line item;
        put_parameter(item, hw, parameter);
        if (hw.why_off[i] != nullptr)
            item.put(" (", hw.why_off[i], ")");
        lines.add(item);
    }
}

void report_screen(const Hardware &hw, const LineSink &out)
{
    report_cpu(hw, out);
    out("controls: *required  +optional, got  -not on this CPU  xturned off (why)  -> with "
        "parameters");
    for (const ControlField field : kReportedWords) {
        if (field == ControlField::kTertiary && !cpu_has_tertiary_exec_ctrls(hw.config))
            continue;
        if (field == ControlField::kSecondary && !cpu_has_secondary_exec_ctrls(hw.config))
            continue;
        report_word_as_names(hw, field, out);
    }
    if (hw.capability.ept != 0)
        report_capability("EPT", hw.capability.ept, ept_capability_names(), out);
    if (hw.capability.vpid != 0)
        report_capability("VPID", hw.capability.vpid, vpid_capability_names(), out);
    report_parameters(hw, out);
}

void put_bit(TextBuilder &line, const Hardware &hw, const WordHistory &history,
             const ControlBit &row)
{
    const BitFate fate = fate_of(hw, history, row);
    line.put("  ", row.bit < 10 ? " " : "", row.bit, fate.on ? "  on   " : "  off  ",
             padded(use_name(row.use), 9), padded(freedom_name(history_of(hw, history, row)), 4),
             padded(row.name, 39));
    put_reason(line, hw, row, fate);
}

void report_word_in_full(const Hardware &hw, ControlField field, const LineSink &out)
{
    const WordHistory history(hw, field);
    const ControlWordInfo &word = control_word_info(field);
    Line line;
    line.put(word.name, " controls: ");
    put_word_value(line, hw, field);
    out(line);
    line.clear();
    line.put("  ", msr_name(word.msr), " ");
    if (hw.host.msr.present(word.msr))
        line.put(hex(hw.host.msr[word.msr], 16));
    else
        line.put("does not exist");
    if (word.true_msr != 0 && hw.host.msr.present(word.true_msr))
        line.put(", ", msr_name(word.true_msr), " ", hex(hw.host.msr[word.true_msr], 16));
    out(line);
    for (const ControlBit &row : control_bits_of(field)) {
        line.clear();
        put_bit(line, hw, history, row);
        out(line);
    }
}

void report_every_bit(const Hardware &hw, const LineSink &out)
{
    report_cpu(hw, out);
    out("columns: bit, state, minivmx wants it, the CPU allows, name, reason");
    for (unsigned i = 0; i < kControlFieldCount; i++)
        report_word_in_full(hw, static_cast<ControlField>(i), out);
    report_capability("EPT", hw.capability.ept, ept_capability_names(), out);
    report_capability("VPID", hw.capability.vpid, vpid_capability_names(), out);
    report_parameters(hw, out);
}

} // namespace

BitFate fate_of(const Hardware &hw, const WordHistory &history, const ControlBit &row)
{
    ControlWord word(row.field, nullptr, hw.config.control(row.field));
    const bool negotiated = word.has(row.mask());
    word.apply_parameter(row.parameter, parameter_on(hw.params, row.parameter));
    const BitHistory bit = history_of(hw, history, row);
    return BitFate{negotiated, word.has(row.mask()), bit.may_be_1, history.last_negotiated(row.bit),
                   why_untouched(hw, bit)};
}

u64 word_after_parameters(const Hardware &hw, ControlField field)
{
    ControlWord word(field, nullptr, hw.config.control(field));
    for (unsigned i = 0; i < kParameterCount; i++) {
        const Parameter parameter = static_cast<Parameter>(i);
        word.apply_parameter(parameter, parameter_on(hw.params, parameter));
    }
    return word.value();
}

const char *use_name(ControlUse use)
{
    switch (use) {
    case ControlUse::kRequired:
        return "required";
    case ControlUse::kOptional:
        return "optional";
    case ControlUse::kUnused:
        break;
    }
    return "unused";
}

void put_reason(TextBuilder &line, const Hardware &hw, const ControlBit &row, const BitFate &fate)
{
    if (fate.on != fate.negotiated) {
        line.put("because ");
        put_parameter(line, hw, row.parameter);
        if (hw.why_off[static_cast<unsigned>(row.parameter)] != nullptr)
            line.put(": ", hw.why_off[static_cast<unsigned>(row.parameter)]);
        return;
    }
    if (fate.untouched != nullptr)
        line.put(fate.untouched);
    else if (fate.rule == Rule::kRequired || fate.rule == Rule::kOptional)
        line.put(row.summary);
    else if (fate.rule == Rule::kNotAllowed)
        line.put(rule_info(fate.rule).brief);
    else if (fate.rule != Rule::kCount)
        line.put("because ", rule_info(fate.rule).text);
}

Span<const CapabilityName> ept_capability_names()
{
    return Span<const CapabilityName>(kEptNames);
}

Span<const CapabilityName> vpid_capability_names()
{
    return Span<const CapabilityName>(kVpidNames);
}

void print_report(const Hardware &hardware, ReportLevel level, const LineSink &out)
{
    switch (level) {
    case ReportLevel::kNone:
        break;
    case ReportLevel::kScreen:
        report_screen(hardware, out);
        break;
    case ReportLevel::kEveryBit:
        report_every_bit(hardware, out);
        break;
    }
}

} // namespace minivmx
