// SPDX-License-Identifier: GPL-2.0-only
//
// Why each bit of a control word is on or off. The steps that made the word are taken once more
// with somebody listening, so what is told is what acted: `minivmx explain`, the file `controls` in
// debugfs and MINIVMX_GET_CONTROLS all print or carry what is found here.
#pragma once

#include <minivmx/controls.hpp>
#include <minivmx/rules.hpp>
#include <minivmx/text.hpp>
#include <minivmx/vcpu_controls.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

/// When a step is taken.
enum class Stage : u8 {
    kNegotiation, ///< module initialisation
    kCreation,    ///< of a vCPU, or a change of what decides over its words
    kRunning,     ///< since then
};
/// "negotiation", "vcpu", "running".
const char *stage_name(Stage stage);

/// The steps that made one control word, in order: module initialisation, and then, where a vCPU is
/// described, its creation.
class WordHistory {
  public:
    /// Negotiates again for `hw`, and stops there.
    WordHistory(const Hardware &hw, ControlField field);
    /// And builds the word of a vCPU that `vcpu` describes.
    WordHistory(const Hardware &hw, ControlField field, const VcpuControlInputs &vcpu);

    /// A living vCPU's word is this: where it differs from what its creation made, somebody
    /// switched bits since, which becomes the last step.
    void observe(u64 word);

    ControlField field() const { return field_; }
    u64 negotiated() const { return negotiated_; }
    u64 value() const { return value_; }
    /// Taken one after the other from 0 they give value(). Rule::kNegotiated is not among them.
    Span<const RuleEvent> events() const { return Span<const RuleEvent>(events_, count_); }
    Stage stage_of(unsigned event) const
    {
        return event < negotiation_count_ ? Stage::kNegotiation
               : event < creation_count_  ? Stage::kCreation
                                          : Stage::kRunning;
    }
    /// The rule that decided the bit last in module initialisation; Rule::kCount when none did.
    Rule last_negotiated(unsigned bit) const;

  private:
    static void record(void *context, const RuleEvent &event);

    void negotiate(const Hardware &hw);

    static constexpr unsigned kMaxEvents = 34;

    RuleEvent events_[kMaxEvents] = {};
    unsigned count_ = 0;
    unsigned negotiation_count_ = 0; ///< events_ from here on are creation's
    unsigned creation_count_ = 0;    ///< events_ from here on are of a living vCPU
    u64 negotiated_ = 0;
    u64 value_ = 0;
    ControlField field_;
};

/// One step of one bit.
struct BitStep {
    Rule rule;
    bool set; ///< to 1; otherwise to 0
    Stage stage;
    Parameter parameter; ///< of Rule::kParameter
};

/// How one bit came to be what it is.
struct BitHistory {
    static constexpr unsigned kMaxSteps = 12;

    const ControlBit *row;
    bool may_be_0, may_be_1; ///< what the CPU accepts
    bool negotiated;         ///< on after module initialisation
    bool on;                 ///< on at the end
    unsigned count;
    BitStep steps[kMaxSteps];

    Span<const BitStep> taken() const { return Span<const BitStep>(steps, count); }
};
BitHistory history_of(const Hardware &hw, const WordHistory &word, const ControlBit &row);

/// What a control is to minivmx on one CPU, in a word.
enum class Standing : u8 {
    kUnknown,   ///< the MSR that would say so is not among the values (dumps of real CPUs)
    kAbsent,    ///< the CPU does not have it
    kAvailable, ///< the CPU has it, minivmx leaves it alone or had to turn it off
    kUsed,      ///< optional, and negotiated
    kRequired,  ///< required, and there
};
Standing standing_of(const Hardware &hw, const ControlBit &row);
/// "unknown", "absent", "available", "used", "required".
const char *standing_name(Standing standing);

/// What the CPU lets the bit be: "0", "1", "0/1".
const char *freedom_name(const BitHistory &bit);
/// The function that takes the step, under the document's name.
const char *step_where(ControlField field, const BitStep &step);
/// Appends the parameter and its value: "ept=0".
void put_parameter(TextBuilder &out, const Hardware &hw, Parameter parameter);
/// Appends the step's reason, such as "ept=0: this CPU has no EPT" or
/// "with EPT the guest owns its page tables: ...".
void put_step_reason(TextBuilder &out, const Hardware &hw, ControlField field, const BitStep &step);
/// Why no step touched the bit, or nullptr when one did.
const char *why_untouched(const Hardware &hw, const BitHistory &bit);

/// The bit in lines for a person and for `minivmx explain --vcpu`, which reads them again:
///    15 off cr3-load-exiting
///         0/1 IA32_VMX_TRUE_PROCBASED_CTLS
///         on  required: minivmx can't do without it (adjust_vmx_controls)
///         off ept-cr3-invlpg: with EPT the guest owns ... (setup_vmcs_config)
void print_bit_history(const Hardware &hw, const BitHistory &bit, const LineSink &out);

/// The text of debugfs's file `controls`: every bit of every word of a vCPU. Does not sleep.
void print_vcpu_controls(const Hardware &hw, const VcpuControlInputs &vcpu,
                         const ControlWords &words, const LineSink &out);

} // namespace minivmx
