// SPDX-License-Identifier: GPL-2.0-only
#include "vmcs_fields.hpp"

#include <array>

#include <minivmx/controls.hpp>
#include <minivmx/vmcs_field.hpp>

namespace minivmx::sim {

namespace {

/// Fields `first` to `last` (even encodings) exist where one of two controls may be 1.
struct Condition {
    u32 first;
    u32 last;
    ControlField field;
    u64 mask;
    ControlField other_field;
    u64 other_mask;
};

constexpr Condition when(u32 first, u32 last, ControlField field, u64 mask)
{
    return Condition{first, last, field, mask, field, 0};
}

constexpr Condition when_either(u32 first, u32 last, ControlField field, u64 mask,
                                ControlField other_field, u64 other_mask)
{
    return Condition{first, last, field, mask, other_field, other_mask};
}

constexpr ControlField kPin = ControlField::kPin;
constexpr ControlField kPrimary = ControlField::kPrimary;
constexpr ControlField kSecondary = ControlField::kSecondary;
constexpr ControlField kTertiary = ControlField::kTertiary;
constexpr ControlField kExit = ControlField::kExit;
constexpr ControlField kEntry = ControlField::kEntry;

// clang-format off
constexpr Condition kConditions[] = {
    when(0x0000, 0x0000, kSecondary, SECONDARY_EXEC_ENABLE_VPID),
    when(0x0002, 0x0002, kPin, PIN_BASED_POSTED_INTR),
    when(0x0004, 0x0004, kSecondary, SECONDARY_EXEC_EPT_VIOLATION_VE),
    when(0x0006, 0x0006, kTertiary, TERTIARY_EXEC_ENABLE_HLAT),
    when(0x0008, 0x0008, kTertiary, TERTIARY_EXEC_IPI_VIRT),
    when(0x0810, 0x0810, kSecondary, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY),
    when(0x0812, 0x0812, kSecondary, SECONDARY_EXEC_ENABLE_PML),
    when(0x0814, 0x0814, kEntry, VM_ENTRY_LOAD_UINV),
    when(0x2004, 0x2004, kPrimary, CPU_BASED_USE_MSR_BITMAPS),
    when(0x200e, 0x200e, kSecondary, SECONDARY_EXEC_ENABLE_PML),
    when(0x2012, 0x2012, kPrimary, CPU_BASED_TPR_SHADOW),
    when(0x2014, 0x2014, kSecondary, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES),
    when(0x2016, 0x2016, kPin, PIN_BASED_POSTED_INTR),
    when(0x2018, 0x2018, kSecondary, SECONDARY_EXEC_ENABLE_VMFUNC),
    when(0x201a, 0x201a, kSecondary, SECONDARY_EXEC_ENABLE_EPT),
    when(0x201c, 0x2022, kSecondary, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY),
    when(0x2024, 0x2024, kSecondary, SECONDARY_EXEC_ENABLE_VMFUNC),
    when(0x2026, 0x2028, kSecondary, SECONDARY_EXEC_SHADOW_VMCS),
    when(0x202a, 0x202a, kSecondary, SECONDARY_EXEC_EPT_VIOLATION_VE),
    when(0x202c, 0x202c, kSecondary, SECONDARY_EXEC_XSAVES),
    when(0x202e, 0x202e, kSecondary, SECONDARY_EXEC_ENCLS_EXITING),
    when(0x2030, 0x2030, kSecondary, SECONDARY_EXEC_SUB_PAGE_WRITE),
    when(0x2032, 0x2032, kSecondary, SECONDARY_EXEC_TSC_SCALING),
    when(0x2034, 0x2034, kPrimary, CPU_BASED_ACTIVATE_TERTIARY_CONTROLS),
    when(0x2036, 0x2036, kSecondary, SECONDARY_EXEC_ENCLV_EXITING),
    when(0x2038, 0x203a, kSecondary, SECONDARY_EXEC_PASID_TRANSLATION),
    when(0x2040, 0x2040, kTertiary, TERTIARY_EXEC_ENABLE_HLAT),
    when(0x2042, 0x2042, kTertiary, TERTIARY_EXEC_IPI_VIRT),
    when(0x2044, 0x2044, kExit, VM_EXIT_ACTIVATE_SECONDARY_CONTROLS),
    when(0x2400, 0x2400, kSecondary, SECONDARY_EXEC_ENABLE_EPT),
    when_either(0x2804, 0x2804, kEntry, VM_ENTRY_LOAD_IA32_PAT, kExit, VM_EXIT_SAVE_IA32_PAT),
    when_either(0x2806, 0x2806, kEntry, VM_ENTRY_LOAD_IA32_EFER, kExit, VM_EXIT_SAVE_IA32_EFER),
    when(0x2808, 0x2808, kEntry, VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL),
    when(0x280a, 0x2810, kSecondary, SECONDARY_EXEC_ENABLE_EPT),
    when_either(0x2812, 0x2812, kEntry, VM_ENTRY_LOAD_BNDCFGS, kExit, VM_EXIT_CLEAR_BNDCFGS),
    when_either(0x2814, 0x2814, kEntry, VM_ENTRY_LOAD_IA32_RTIT_CTL, kExit, VM_EXIT_CLEAR_IA32_RTIT_CTL),
    when(0x2816, 0x2816, kEntry, VM_ENTRY_LOAD_IA32_LBR_CTL),
    when(0x2818, 0x2818, kEntry, VM_ENTRY_LOAD_IA32_PKRS),
    when(0x281a, 0x2828, kEntry, VM_ENTRY_LOAD_FRED),
    when(0x2c00, 0x2c00, kExit, VM_EXIT_LOAD_IA32_PAT),
    when(0x2c02, 0x2c02, kExit, VM_EXIT_LOAD_IA32_EFER),
    when(0x2c04, 0x2c04, kExit, VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL),
    when(0x2c06, 0x2c06, kExit, VM_EXIT_LOAD_IA32_PKRS),
    when(0x2c08, 0x2c16, ControlField::kExitSecondary, SECONDARY_VM_EXIT_LOAD_FRED),
    when(0x401c, 0x401c, kPrimary, CPU_BASED_TPR_SHADOW),
    when(0x401e, 0x401e, kPrimary, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS),
    when(0x4020, 0x4022, kSecondary, SECONDARY_EXEC_PAUSE_LOOP_EXITING),
    when(0x4024, 0x4024, kSecondary, SECONDARY_EXEC_NOTIFY_VM_EXITING),
    when(0x482e, 0x482e, kPin, PIN_BASED_VMX_PREEMPTION_TIMER),
    when(0x6828, 0x682c, kEntry, VM_ENTRY_LOAD_CET_STATE),
    when(0x6c18, 0x6c1c, kExit, VM_EXIT_LOAD_CET_STATE),
};
// clang-format on

bool may_be_1(const VmxMsrs &msrs, ControlField field, u64 mask)
{
    return mask != 0 && allowed_settings(msrs, field).may_be_1(mask);
}

bool encoding_known(u32 encoding)
{
#define MINIVMX_SIM_CASE(width, name, number) case number:
    switch (encoding) {
        MINIVMX_VMCS_FIELDS(MINIVMX_SIM_CASE)
        return true;
    default:
        return false;
    }
#undef MINIVMX_SIM_CASE
}

/// The condition of a field, or null. Each VMREAD and VMWRITE asks: looked up, not searched.
const Condition *condition_of(u32 encoding)
{
    using Index = std::array<const Condition *, 0x8000>;
    static const Index index = [] {
        Index made{};
        for (const Condition &c : kConditions)
            for (u32 field = c.first; field <= c.last; field++)
                if (!made[field])
                    made[field] = &c;
        return made;
    }();
    return encoding < index.size() ? index[encoding] : nullptr;
}

} // namespace

bool field_exists(u32 encoding, const VmxMsrs &msrs)
{
    const u32 full = encoding & ~1u;
    const bool high_half = (encoding & 1) != 0;
    if (!encoding_known(full) || (high_half && vmcs_width(full) != VmcsWidth::k64))
        return false;
    const Condition *c = condition_of(full);
    return !c || may_be_1(msrs, c->field, c->mask) || may_be_1(msrs, c->other_field, c->other_mask);
}

bool field_writable(u32 encoding, const VmxMsrs &msrs)
{
    if (!field_exists(encoding, msrs))
        return false;
    return vmcs_kind(encoding) != VmcsKind::kExitInfo ||
           VmxMisc{msrs[MSR_IA32_VMX_MISC]}.vmwrite_any_field();
}

u64 truncate_to_field(u32 encoding, u64 value)
{
    switch (vmcs_width(encoding)) {
    case VmcsWidth::k16:
        return value & 0xffff;
    case VmcsWidth::k32:
        return value & 0xffffffff;
    case VmcsWidth::k64:
    case VmcsWidth::kNatural:
        break;
    }
    return (encoding & 1) != 0 ? value & 0xffffffff : value;
}

} // namespace minivmx::sim
