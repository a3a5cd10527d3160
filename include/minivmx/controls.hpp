// SPDX-License-Identifier: GPL-2.0-only
//
// Every bit of every control word as data: what it is called, where the architecture defines it,
// whether this hypervisor requires it, takes it when it is there, or leaves it alone, and what
// turns it off. Negotiation (setup_vmcs_config), the report in dmesg and every explanation read
// this one table; none of them keeps a list of its own.
#pragma once

#include <minivmx/control_table.hpp>
#include <minivmx/control_types.hpp>
#include <minivmx/text.hpp>
#include <minivmx/types.hpp>
#include <minivmx/vmx_msr.hpp>

namespace minivmx {

/// The hosts for which "required" and "optional" differ.
struct HostTraits {
    bool is_64bit = true;
    bool has_sgx = false;
};

const ControlWordInfo &control_word_info(ControlField field);
Span<const ControlBit> all_control_bits();
/// The table's rows of one word, lowest bit first.
Span<const ControlBit> control_bits_of(ControlField field);
/// nullptr when the table has no such bit.
const ControlBit *find_control(ControlField field, unsigned bit);
/// By slug ("cr3-load-exiting"), macro name or the architecture's name; nullptr when unknown.
const ControlBit *find_control(const char *name);
/// By slug ("secondary"); false when unknown.
bool find_control_field(const char *slug, ControlField *field);

/// What the MSRs say about this word's bits (the document's view: not the TRUE MSR).
AllowedSettings allowed_settings(const VmxMsrs &msrs, ControlField field);
/// What the hardware really accepts: the TRUE MSR's settings where IA32_VMX_BASIC[55] says that it
/// exists. SDM Vol. 3D, A.2.
AllowedSettings true_allowed_settings(const VmxMsrs &msrs, ControlField field);

/// The MSR that those come from.
u32 deciding_msr(const VmxMsrs &msrs, ControlField field);
/// The control that activates the word says that it exists, but its MSR is not among the values:
/// dumps of CPUs rarely have the newest MSRs.
bool word_is_unknown(const VmxMsrs &msrs, ControlField field);

/// "kvm_intel's name" of a parameter: "preemption_timer"; "" for kNone.
const char *parameter_name(Parameter parameter);

/// Appends the names of the bits of `mask`, separated by `separator`; bits the table does not have
/// as "bit N". Returns how many names it wrote.
unsigned put_control_names(TextBuilder &out, ControlField field, u64 mask, const char *separator);

/// The required (or optional) bits of a word, computed from the table.
constexpr u64 control_mask(ControlField field, ControlUse use, HostTraits host)
{
    u64 mask = 0;
    for (const ControlBit &row : kControlTable) {
        const bool applies = row.condition == ControlCondition::kAlways ||
                             (row.condition == ControlCondition::kHost64 && host.is_64bit) ||
                             (row.condition == ControlCondition::kSgx && host.has_sgx);
        if (row.field == field && row.use == use && applies)
            mask |= row.mask();
    }
    return mask;
}

/// Every bit of the word that negotiation may leave set on some host: what a vCPU's word may use.
constexpr u64 negotiable_mask(ControlField field)
{
    const HostTraits everything{true, true};
    return control_mask(field, ControlUse::kRequired, everything) |
           control_mask(field, ControlUse::kOptional, everything);
}

/// The bits whose VMCS fields Hyper-V's enlightened VMCS does not have.
constexpr u64 enlightened_vmcs_unsupported(ControlField field)
{
    u64 mask = 0;
    for (const ControlBit &row : kControlTable) {
        if (row.field == field && row.not_in_evmcs)
            mask |= row.mask();
    }
    return mask;
}

/// The bits that creating a vCPU clears (or sets) while `parameter` is off.
constexpr u64 parameter_mask(ControlField field, Parameter parameter, WhenOff effect)
{
    u64 mask = 0;
    for (const ControlBit &row : kControlTable) {
        if (row.field == field && row.parameter == parameter && row.when_off == effect)
            mask |= row.mask();
    }
    return mask;
}

} // namespace minivmx
