// SPDX-License-Identifier: GPL-2.0-only
//
// The steps behind a control word, replayed: see explain.hpp.
#include <minivmx/capabilities.hpp>
#include <minivmx/explain.hpp>

namespace minivmx {

namespace {

constexpr const char *kMsrUnknown = "unknown: the capability MSR is not among the values";

} // namespace

WordHistory::WordHistory(const Hardware &hw, ControlField field) : field_(field)
{
    negotiate(hw);
}

WordHistory::WordHistory(const Hardware &hw, ControlField field, const VcpuControlInputs &vcpu)
    : field_(field)
{
    negotiate(hw);
    value_ = 0; // creation starts with an empty word and sets what was negotiated
    const RuleSink sink{record, this};
    (void)vcpu_control_word(hw, field, vcpu, &sink);
    creation_count_ = count_;
}

void WordHistory::negotiate(const Hardware &hw)
{
    const RuleSink sink{record, this};
    SetupLog log;
    log.rules = &sink;
    vmcs_config conf;
    vmx_capability cap;
    // How it ends is known from the first time; only the steps are of interest now.
    (void)setup_vmcs_config(hw.host, hw.asked, conf, cap, log);
    negotiated_ = value_;
    negotiation_count_ = creation_count_ = count_;
}

void WordHistory::record(void *context, const RuleEvent &event)
{
    WordHistory &word = *static_cast<WordHistory *>(context);
    if (event.field != word.field_)
        return;
    word.value_ = event.set ? word.value_ | event.bits : word.value_ & ~event.bits;
    // Creation starts with what was negotiated, which goes on with its steps.
    if (event.rule != Rule::kNegotiated && word.count_ < kMaxEvents)
        word.events_[word.count_++] = event;
}

void WordHistory::observe(u64 word)
{
    const u64 sets = word & ~value_;
    const u64 clears = value_ & ~word;
    if (sets != 0)
        record(this, {field_, Rule::kToggledAtRunTime, true, Parameter::kNone, sets});
    if (clears != 0)
        record(this, {field_, Rule::kToggledAtRunTime, false, Parameter::kNone, clears});
}

Rule WordHistory::last_negotiated(unsigned bit) const
{
    for (unsigned i = negotiation_count_; i-- > 0;) {
        if ((events_[i].bits & bit64(bit)) != 0)
            return events_[i].rule;
    }
    return Rule::kCount;
}

BitHistory history_of(const Hardware &hw, const WordHistory &word, const ControlBit &row)
{
    const AllowedSettings allowed = true_allowed_settings(hw.host.msr, row.field);
    BitHistory bit;
    bit.row = &row;
    bit.may_be_0 = allowed.may_be_0(row.mask());
    bit.may_be_1 = allowed.may_be_1(row.mask());
    bit.negotiated = (word.negotiated() & row.mask()) != 0;
    bit.on = (word.value() & row.mask()) != 0;
    bit.count = 0;
    unsigned number = 0;
    for (const RuleEvent &event : word.events()) {
        const Stage stage = word.stage_of(number++);
        if ((event.bits & row.mask()) != 0 && bit.count < BitHistory::kMaxSteps)
            bit.steps[bit.count++] = {event.rule, event.set, stage, event.parameter};
    }
    return bit;
}

Standing standing_of(const Hardware &hw, const ControlBit &row)
{
    if (word_is_unknown(hw.host.msr, row.field))
        return Standing::kUnknown;
    if (!true_allowed_settings(hw.host.msr, row.field).may_be_1(row.mask()))
        return Standing::kAbsent;
    const bool applies = row.condition != ControlCondition::kHost64 || hw.host.is_64bit;
    if (row.use == ControlUse::kRequired && applies)
        return Standing::kRequired;
    return (hw.config.control(row.field) & row.mask()) != 0 ? Standing::kUsed
                                                            : Standing::kAvailable;
}

const char *standing_name(Standing standing)
{
    switch (standing) {
    case Standing::kAbsent:
        return "absent";
    case Standing::kAvailable:
        return "available";
    case Standing::kUsed:
        return "used";
    case Standing::kRequired:
        return "required";
    case Standing::kUnknown:
        break;
    }
    return "unknown";
}

const char *stage_name(Stage stage)
{
    switch (stage) {
    case Stage::kNegotiation:
        return "negotiation";
    case Stage::kCreation:
        return "vcpu";
    case Stage::kRunning:
        break;
    }
    return "running";
}

const char *freedom_name(const BitHistory &bit)
{
    if (!bit.may_be_1)
        return "0";
    return bit.may_be_0 ? "0/1" : "1";
}

const char *step_where(ControlField field, const BitStep &step)
{
    if (step.stage == Stage::kNegotiation)
        return rule_info(step.rule).where;
    if (step.stage == Stage::kRunning)
        return "KVM_RUN";
    switch (field) {
    case ControlField::kPin:
        return "vmx_pin_based_exec_ctrl";
    case ControlField::kPrimary:
        return "vmx_exec_control";
    case ControlField::kSecondary:
        return "vmx_secondary_exec_control";
    case ControlField::kTertiary:
        return "vmx_tertiary_exec_control";
    case ControlField::kExit:
    case ControlField::kExitSecondary:
        return "vmx_vmexit_ctrl";
    case ControlField::kEntry:
        break;
    }
    return "vmx_vmentry_ctrl";
}

void put_parameter(TextBuilder &out, const Hardware &hw, Parameter parameter)
{
    out.put(parameter_name(parameter), "=");
    if (parameter == Parameter::kPleGap)
        out.put(hw.params.ple_gap);
    else
        out.put(parameter_on(hw.params, parameter) ? '1' : '0');
}

void put_step_reason(TextBuilder &out, const Hardware &hw, ControlField field, const BitStep &step)
{
    if (step.rule == Rule::kNotAllowed && word_is_unknown(hw.host.msr, field)) {
        out.put(kMsrUnknown);
        return;
    }
    if (step.rule != Rule::kParameter) {
        out.put(rule_info(step.rule).text);
        return;
    }
    put_parameter(out, hw, step.parameter);
    const char *const why = hw.why_off[static_cast<unsigned>(step.parameter)];
    if (why != nullptr)
        out.put(", since ", why);
}

const char *why_untouched(const Hardware &hw, const BitHistory &bit)
{
    const ControlBit &row = *bit.row;
    if (bit.count != 0)
        return nullptr;
    if (word_is_unknown(hw.host.msr, row.field))
        return kMsrUnknown;
    if (!bit.may_be_1)
        return "not on this CPU";
    if (row.condition == ControlCondition::kHost64 && !hw.host.is_64bit)
        return "not asked for on a 32-bit host";
    if (row.use == ControlUse::kUnused)
        return "available, but minivmx has no use for it";
    return "available, but the controls that it belongs to are not activated";
}

void print_bit_history(const Hardware &hw, const BitHistory &bit, const LineSink &out)
{
    const ControlBit &row = *bit.row;
    Sentence line;
    line.put(row.bit < 10 ? "  " : " ", row.bit, bit.on ? " on  " : " off ", row.slug);
    out(line);
    line.clear();
    line.put("      ", padded(freedom_name(bit), 4),
             msr_name(deciding_msr(hw.host.msr, row.field)));
    out(line);
    for (const BitStep &step : bit.taken()) {
        line.clear();
        line.put("      ", step.set ? "on  " : "off ", rule_info(step.rule).id, ": ");
        put_step_reason(line, hw, row.field, step);
        line.put(" (", step_where(row.field, step), ")");
        out(line);
    }
    const char *const untouched = why_untouched(hw, bit);
    if (untouched == nullptr)
        return;
    line.clear();
    line.put("      -   ", untouched);
    out(line);
}

void print_vcpu_controls(const Hardware &hw, const VcpuControlInputs &vcpu,
                         const ControlWords &words, const LineSink &out)
{
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        const ControlWordInfo &info = control_word_info(field);
        const unsigned digits = info.width / 4;
        WordHistory word(hw, field, vcpu);
        word.observe(words.word[i]);

        Line line;
        line.put(info.slug, " ", hex(words.word[i], digits), ", negotiated ",
                 hex(word.negotiated(), digits));
        out(line);
        for (const ControlBit &row : control_bits_of(field))
            print_bit_history(hw, history_of(hw, word, row), out);
    }
}

} // namespace minivmx
