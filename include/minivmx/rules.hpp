// SPDX-License-Identifier: GPL-2.0-only
//
// Why a control bit is on or off. Whoever builds a control word does so through ControlWord, and
// each step names its rule; a step that changes bits is handed to a sink if there is one. So an
// explanation is a replay of the steps that acted, never a second description of them.
#pragma once

#include <minivmx/control_types.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

enum class Rule : u8 {
    // setup_vmcs_config(): what the CPU and the host decide.
    kRequired,
    kOptional,
    kNotAllowed,
    kMustBeOne,
    kTprShadowServesCr8,
    kTprShadowNeedsApicAccess,
    kApicVirtNeedsTprShadow,
    kEptMakesCr3ExitsNeedless,
    kNoSgx,
    kBrokenPreemptionTimer,
    kPostedNeedsDelivery,
    kEntryExitPair,
    kPerfGlobalCtrlErratum,
    kEnlightenedVmcs,
    // Creating a vCPU: what parameters, the VM and the vCPU decide.
    kParameter,
    kNegotiated,
    kUnusedByVcpu,
    kOnlyWhilePending,
    kDebugRegistersLoaded,
    kNoApicInKernel,
    kTprShadowOff,
    kTprShadowOn,
    kExitDisabled,
    kApicvInactive,
    kXapicInactive,
    kX2apicInactive,
    kNoVpid,
    kUmipNotEmulated,
    kDirtyLoggingOff,
    kGuestCpuidLacks,
    kGuestCpuidHas,
    kCapabilityNotEnabled,
    kProcessorTraceHostOnly,
    kToggledAtRunTime,
    kIntercepted,
    kCount,
};

struct RuleInfo {
    Rule rule;
    const char *id;    ///< "tpr-shadow-cr8"
    const char *where; ///< the function, under the document's name; nullptr: the word's own
    const char *brief; ///< a few words for the report: "EPT in use"
    const char *text;  ///< the rule in words; fits after "because"
};

const RuleInfo &rule_info(Rule rule);

/// One step that changed bits of a word.
struct RuleEvent {
    ControlField field;
    Rule rule;
    bool set;            ///< to 1; otherwise to 0
    Parameter parameter; ///< the parameter of kParameter
    u64 bits;            ///< the bits that changed
};

/// Who hears of the steps, in order. The event is valid only during the call.
struct RuleSink {
    void (*record)(void *context, const RuleEvent &event) = nullptr;
    void *context = nullptr;
};

/// A control word under construction. Steps that change nothing are not reported.
class ControlWord {
  public:
    explicit ControlWord(ControlField field, const RuleSink *sink = nullptr, u64 start = 0)
        : value_(start), sink_(sink), field_(field)
    {}

    void set(Rule why, u64 bits) { change(why, Parameter::kNone, bits & ~value_, true); }
    void clear(Rule why, u64 bits) { change(why, Parameter::kNone, bits & value_, false); }

    /// What this parameter does to the word while it is off, as the table of control bits says.
    void apply_parameter(Parameter parameter, bool on);

    bool has(u64 bits) const { return (value_ & bits) == bits; }
    bool has_any(u64 bits) const { return (value_ & bits) != 0; }
    u64 value() const { return value_; }
    u32 value32() const { return static_cast<u32>(value_); }
    ControlField field() const { return field_; }

  private:
    void change(Rule why, Parameter parameter, u64 bits, bool to_one)
    {
        if (bits == 0)
            return;
        value_ ^= bits;
        if (sink_ != nullptr && sink_->record != nullptr)
            sink_->record(sink_->context, RuleEvent{field_, why, to_one, parameter, bits});
    }

    u64 value_;
    const RuleSink *sink_;
    ControlField field_;
};

} // namespace minivmx
