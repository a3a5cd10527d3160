// SPDX-License-Identifier: GPL-2.0-only
//
// Lookups in the table of control bits.
#include <minivmx/controls.hpp>

namespace minivmx {

namespace {

constexpr ControlWordInfo kControlWords[kControlFieldCount] = {
    {ControlField::kPin, "pin-based", "pin", "pin_based_exec_ctrl", MSR_IA32_VMX_PINBASED_CTLS,
     MSR_IA32_VMX_TRUE_PINBASED_CTLS, 0x4000, 32, "25.6.1", 0x00000016},
    {ControlField::kPrimary, "primary processor-based", "primary", "cpu_based_exec_ctrl",
     MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, 0x4002, 32, "25.6.2",
     0x0401e172},
    {ControlField::kSecondary, "secondary processor-based", "secondary", "cpu_based_2nd_exec_ctrl",
     MSR_IA32_VMX_PROCBASED_CTLS2, 0, 0x401e, 32, "25.6.2", 0},
    {ControlField::kTertiary, "tertiary processor-based", "tertiary", "cpu_based_3rd_exec_ctrl",
     MSR_IA32_VMX_PROCBASED_CTLS3, 0, 0x2034, 64, "25.6.2", 0},
    {ControlField::kExit, "VM-exit", "exit", "vmexit_ctrl", MSR_IA32_VMX_EXIT_CTLS,
     MSR_IA32_VMX_TRUE_EXIT_CTLS, 0x400c, 32, "25.7.1", 0x00036dff},
    {ControlField::kExitSecondary, "secondary VM-exit", "exit2", "", MSR_IA32_VMX_EXIT_CTLS2, 0,
     0x2044, 64, "25.7.1", 0},
    {ControlField::kEntry, "VM-entry", "entry", "vmentry_ctrl", MSR_IA32_VMX_ENTRY_CTLS,
     MSR_IA32_VMX_TRUE_ENTRY_CTLS, 0x4012, 32, "25.8.1", 0x000011ff},
};

constexpr const char *kParameterNames[kParameterCount] = {
    "",
    "vnmi",
    "preemption_timer",
    "ept",
    "eptad",
    "vpid",
    "unrestricted_guest",
    "flexpriority",
    "enable_apicv",
    "pml",
    "ple_gap",
};
static_assert(static_cast<unsigned>(Parameter::kPleGap) + 1 == kParameterCount);

AllowedSettings settings_of(const ControlWordInfo &word, u64 msr)
{
    return word.width == 64 ? AllowedSettings::of_64_bit_word(msr)
                            : AllowedSettings::of_32_bit_word(msr);
}

/// Like text_equal(), but upper and lower case count as the same.
bool equal_ignoring_case(const char *a, const char *b)
{
    const auto lower = [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

} // namespace

const ControlWordInfo &control_word_info(ControlField field)
{
    return kControlWords[static_cast<unsigned>(field)];
}

Span<const ControlBit> all_control_bits()
{
    return Span<const ControlBit>(kControlTable);
}

Span<const ControlBit> control_bits_of(ControlField field)
{
    usize first = 0;
    while (first < kControlCount && kControlTable[first].field != field)
        first++;
    usize end = first;
    while (end < kControlCount && kControlTable[end].field == field)
        end++;
    return Span<const ControlBit>(kControlTable + first, end - first);
}

const ControlBit *find_control(ControlField field, unsigned bit)
{
    for (const ControlBit &row : control_bits_of(field)) {
        if (row.bit == bit)
            return &row;
    }
    return nullptr;
}

const ControlBit *find_control(const char *name)
{
    for (const ControlBit &row : kControlTable) {
        if (equal_ignoring_case(name, row.slug) || equal_ignoring_case(name, row.macro))
            return &row;
    }
    for (const ControlBit &row : kControlTable) {
        if (equal_ignoring_case(name, row.name))
            return &row;
    }
    return nullptr;
}

bool find_control_field(const char *slug, ControlField *field)
{
    for (const ControlWordInfo &word : kControlWords) {
        if (text_equal(slug, word.slug)) {
            *field = word.field;
            return true;
        }
    }
    return false;
}

AllowedSettings allowed_settings(const VmxMsrs &msrs, ControlField field)
{
    const ControlWordInfo &word = control_word_info(field);
    return settings_of(word, msrs[word.msr]);
}

u32 deciding_msr(const VmxMsrs &msrs, ControlField field)
{
    const ControlWordInfo &word = control_word_info(field);
    const bool has_true = word.true_msr != 0 && VmxBasic{msrs[MSR_IA32_VMX_BASIC]}.true_controls();
    return has_true ? word.true_msr : word.msr;
}

AllowedSettings true_allowed_settings(const VmxMsrs &msrs, ControlField field)
{
    return settings_of(control_word_info(field), msrs[deciding_msr(msrs, field)]);
}

bool word_is_unknown(const VmxMsrs &msrs, ControlField field)
{
    ControlField by = ControlField::kPrimary;
    u64 activates = 0;
    switch (field) {
    case ControlField::kSecondary:
        activates = CPU_BASED_ACTIVATE_SECONDARY_CONTROLS;
        break;
    case ControlField::kTertiary:
        activates = CPU_BASED_ACTIVATE_TERTIARY_CONTROLS;
        break;
    case ControlField::kExitSecondary:
        by = ControlField::kExit;
        activates = VM_EXIT_ACTIVATE_SECONDARY_CONTROLS;
        break;
    default:
        return false;
    }
    return allowed_settings(msrs, by).may_be_1(activates) &&
           !msrs.present(control_word_info(field).msr);
}

const char *parameter_name(Parameter parameter)
{
    return kParameterNames[static_cast<unsigned>(parameter)];
}

unsigned put_control_names(TextBuilder &out, ControlField field, u64 mask, const char *separator)
{
    unsigned count = 0;
    for (; mask != 0; mask &= mask - 1) {
        if (count++ > 0)
            out.put(separator);
        const unsigned bit = lowest_bit(mask);
        const ControlBit *row = find_control(field, bit);
        if (row != nullptr)
            out.put(row->name);
        else
            out.put("bit ", bit);
    }
    return count;
}

} // namespace minivmx
