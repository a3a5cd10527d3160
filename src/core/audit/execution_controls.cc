// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.2.1.1 "VM-Execution Control Fields": the control words themselves, and what the
// pin-based and the primary controls ask for.
#include "view.hpp"

namespace minivmx::audit {

namespace {

/// The control word in this field.
ControlField control_field_of(u32 encoding)
{
    unsigned n = 0;
    while (control_word_info(static_cast<ControlField>(n)).vmcs_field != encoding)
        n++;
    return static_cast<ControlField>(n);
}

/// A word that is not activated is not looked at.
bool word_is_active(const AuditView &v, ControlField field)
{
    switch (field) {
    case ControlField::kSecondary:
        return v.primary(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
    case ControlField::kTertiary:
        return v.primary(CPU_BASED_ACTIVATE_TERTIARY_CONTROLS);
    case ControlField::kExitSecondary:
        return v.exit(VM_EXIT_ACTIVATE_SECONDARY_CONTROLS);
    default:
        return true;
    }
}

} // namespace

u64 controls_that_must_be_1(const AuditView &v)
{
    const ControlField field = control_field_of(v.check().field);
    return word_is_active(v, field) ? v.allowed(field).allowed0 & ~v.value() : 0;
}

u64 controls_that_must_be_0(const AuditView &v)
{
    const ControlField field = control_field_of(v.check().field);
    if (!word_is_active(v, field))
        return 0;
    const u64 word = v.value();
    return word == 0 ? 0 : word & ~v.allowed(field).allowed1;
}

namespace {

u64 io_bitmap(const AuditView &v)
{
    return v.primary(CPU_BASED_USE_IO_BITMAPS) ? page_address(v) : 0;
}

u64 msr_bitmap(const AuditView &v)
{
    return v.primary(CPU_BASED_USE_MSR_BITMAPS) ? page_address(v) : 0;
}

u64 virtual_apic_page(const AuditView &v)
{
    return v.primary(CPU_BASED_TPR_SHADOW) ? page_address(v) : 0;
}

bool uses_tpr_threshold(const AuditView &v)
{
    return v.primary(CPU_BASED_TPR_SHADOW) && !v.secondary(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
}

u64 tpr_threshold_reserved(const AuditView &v)
{
    return uses_tpr_threshold(v) ? v.value() & 0xfffffff0 : 0;
}

u64 tpr_threshold_above_tpr(const AuditView &v)
{
    constexpr u64 kVtprOffset = 0x80;
    if (!uses_tpr_threshold(v) || v.secondary(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES))
        return 0;
    const u64 threshold = v.value() & 0xf;
    if (threshold == 0)
        return 0;
    u8 vtpr = 0;
    v.memory(v[VIRTUAL_APIC_PAGE_ADDR] + kVtprOffset, &vtpr, sizeof(vtpr));
    return threshold > vtpr >> 4 ? u64{0xf} : 0;
}

u64 cr3_targets(const AuditView &v)
{
    // As many as every CPU has; beyond that IA32_VMX_MISC knows.
    constexpr u64 kCommon = 4;
    const u64 count = v.value();
    if (count == 0)
        return 0;
    return fault_if(count > kCommon || count > VmxMisc{v.msr(MSR_IA32_VMX_MISC)}.cr3_targets());
}

u64 virtual_nmis(const AuditView &v)
{
    return !v.pin(PIN_BASED_NMI_EXITING) && v.pin(PIN_BASED_VIRTUAL_NMIS) ? PIN_BASED_VIRTUAL_NMIS
                                                                          : 0;
}

u64 nmi_window(const AuditView &v)
{
    return !v.pin(PIN_BASED_VIRTUAL_NMIS) && v.primary(CPU_BASED_NMI_WINDOW_EXITING)
               ? CPU_BASED_NMI_WINDOW_EXITING
               : 0;
}

u64 posted_interrupts_need_delivery(const AuditView &v)
{
    return v.pin(PIN_BASED_POSTED_INTR) && !v.secondary(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)
               ? PIN_BASED_POSTED_INTR
               : 0;
}

u64 posted_interrupts_need_acknowledge(const AuditView &v)
{
    return v.pin(PIN_BASED_POSTED_INTR) && !v.exit(VM_EXIT_ACK_INTR_ON_EXIT)
               ? VM_EXIT_ACK_INTR_ON_EXIT
               : 0;
}

u64 notification_vector(const AuditView &v)
{
    return v.pin(PIN_BASED_POSTED_INTR) ? v.value() & 0xff00 : 0;
}

u64 posted_interrupt_descriptor(const AuditView &v)
{
    if (!v.pin(PIN_BASED_POSTED_INTR))
        return 0;
    const u64 offset = v.value() & 0x3f;
    return offset != 0 ? offset : v.beyond_physical_width(v.value());
}

// clang-format off
constexpr AuditCheck kExecutionRows[] = {
    control_check("27.2.1.1", PIN_BASED_VM_EXEC_CONTROL, "pin-must-be-1",
        "pin-based controls that IA32_VMX_(TRUE_)PINBASED_CTLS[31:0] has as 1 must be 1", controls_that_must_be_1),
    control_check("27.2.1.1", PIN_BASED_VM_EXEC_CONTROL, "pin-must-be-0",
        "pin-based controls that IA32_VMX_(TRUE_)PINBASED_CTLS[63:32] has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.1", CPU_BASED_VM_EXEC_CONTROL, "primary-must-be-1",
        "primary controls that IA32_VMX_(TRUE_)PROCBASED_CTLS[31:0] has as 1 must be 1", controls_that_must_be_1),
    control_check("27.2.1.1", CPU_BASED_VM_EXEC_CONTROL, "primary-must-be-0",
        "primary controls that IA32_VMX_(TRUE_)PROCBASED_CTLS[63:32] has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "secondary-must-be-1",
        "secondary controls that IA32_VMX_PROCBASED_CTLS2[31:0] has as 1 must be 1", controls_that_must_be_1),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "secondary-must-be-0",
        "secondary controls that IA32_VMX_PROCBASED_CTLS2[63:32] has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.1", TERTIARY_VM_EXEC_CONTROL, "tertiary-must-be-0",
        "tertiary controls that IA32_VMX_PROCBASED_CTLS3 has as 0 must be 0", controls_that_must_be_0),
    control_check("27.2.1.1", CR3_TARGET_COUNT, "cr3-target-count",
        "there must be no more CR3 targets than IA32_VMX_MISC[24:16] says, at most 4", cr3_targets),
    control_check("27.2.1.1", IO_BITMAP_A, "io-bitmap-a",
        "I/O bitmap A must be at a 4-KiB-aligned address within the physical-address width, if I/O bitmaps are used", io_bitmap),
    control_check("27.2.1.1", IO_BITMAP_B, "io-bitmap-b",
        "I/O bitmap B must be at a 4-KiB-aligned address within the physical-address width, if I/O bitmaps are used", io_bitmap),
    control_check("27.2.1.1", MSR_BITMAP, "msr-bitmap",
        "the MSR bitmap must be at a 4-KiB-aligned address within the physical-address width, if MSR bitmaps are used", msr_bitmap),
    control_check("27.2.1.1", VIRTUAL_APIC_PAGE_ADDR, "virtual-apic-page",
        "the virtual-APIC page must be at a 4-KiB-aligned address within the physical-address width, if the TPR shadow is used", virtual_apic_page),
    control_check("27.2.1.1", TPR_THRESHOLD, "tpr-threshold-reserved",
        "bits 31:4 of the TPR threshold must be 0, with TPR shadow and without virtual-interrupt delivery", tpr_threshold_reserved),
    control_check("27.2.1.1", TPR_THRESHOLD, "tpr-threshold-above-tpr",
        "the TPR threshold must not be above bits 7:4 of the virtual TPR, with TPR shadow, without virtualized APIC accesses and virtual-interrupt delivery", tpr_threshold_above_tpr),
    control_check("27.2.1.1", PIN_BASED_VM_EXEC_CONTROL, "virtual-nmis-need-nmi-exiting",
        "virtual NMIs must be 0 while NMI exiting is 0", virtual_nmis),
    control_check("27.2.1.1", CPU_BASED_VM_EXEC_CONTROL, "nmi-window-needs-virtual-nmis",
        "NMI-window exiting must be 0 while virtual NMIs is 0", nmi_window),
    control_check("27.2.1.1", PIN_BASED_VM_EXEC_CONTROL, "posted-interrupts-need-delivery",
        "process posted interrupts must be 0 while virtual-interrupt delivery is 0", posted_interrupts_need_delivery),
    control_check("27.2.1.1", VM_EXIT_CONTROLS, "posted-interrupts-need-acknowledge",
        "acknowledge interrupt on exit must be 1 while process posted interrupts is 1", posted_interrupts_need_acknowledge),
    control_check("27.2.1.1", POSTED_INTR_NV, "posted-interrupt-vector",
        "bits 15:8 of the posted-interrupt notification vector must be 0, if posted interrupts are processed", notification_vector),
    control_check("27.2.1.1", POSTED_INTR_DESC_ADDR, "posted-interrupt-descriptor",
        "the posted-interrupt descriptor must be at a 64-byte-aligned address within the physical-address width, if posted interrupts are processed", posted_interrupt_descriptor),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kExecutionControlChecks{kExecutionRows};

} // namespace minivmx::audit
