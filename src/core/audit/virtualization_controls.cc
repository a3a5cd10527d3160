// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.2.1.1 "VM-Execution Control Fields": what the secondary and the tertiary controls
// ask for.
#include "view.hpp"

namespace minivmx::audit {

namespace {

template <u32 control>
u64 page_if_secondary(const AuditView &v)
{
    return v.secondary(control) ? page_address(v) : 0;
}

/// A secondary control that means nothing without EPT.
template <u32 control>
u64 needs_ept(const AuditView &v)
{
    return v.secondary(control) && !v.secondary(SECONDARY_EXEC_ENABLE_EPT) ? control : 0;
}

template <u64 control>
u64 tertiary_needs_ept(const AuditView &v)
{
    return v.tertiary(control) && !v.secondary(SECONDARY_EXEC_ENABLE_EPT) ? control : 0;
}

u64 apic_virtualization_needs_tpr_shadow(const AuditView &v)
{
    constexpr u32 kNeedIt = SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
                            SECONDARY_EXEC_APIC_REGISTER_VIRT |
                            SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
    const bool secondary = v.primary(CPU_BASED_ACTIVATE_SECONDARY_CONTROLS);
    if (!secondary || v.primary(CPU_BASED_TPR_SHADOW))
        return 0;
    return v.value() & kNeedIt;
}

u64 ipi_virtualization_needs_tpr_shadow(const AuditView &v)
{
    return v.tertiary(TERTIARY_EXEC_IPI_VIRT) && !v.primary(CPU_BASED_TPR_SHADOW)
               ? TERTIARY_EXEC_IPI_VIRT
               : 0;
}

u64 x2apic_or_apic_accesses(const AuditView &v)
{
    constexpr u32 kBoth =
        SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE | SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES;
    return v.secondary(kBoth) ? kBoth : 0;
}

u64 delivery_needs_external_interrupt_exiting(const AuditView &v)
{
    return v.secondary(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) && !v.pin(PIN_BASED_EXT_INTR_MASK)
               ? PIN_BASED_EXT_INTR_MASK
               : 0;
}

u64 vpid_not_zero(const AuditView &v)
{
    return fault_if(v.secondary(SECONDARY_EXEC_ENABLE_VPID) && v.value() == 0);
}

bool ept(const AuditView &v)
{
    return v.secondary(SECONDARY_EXEC_ENABLE_EPT);
}

EptCapability ept_capability(const AuditView &v)
{
    return EptCapability{static_cast<u32>(v.msr(MSR_IA32_VMX_EPT_VPID_CAP))};
}

u64 ept_memory_type(const AuditView &v)
{
    constexpr u64 kUncached = 0, kWriteBack = 6, kBits = 7;
    if (!ept(v))
        return 0;
    const u64 type = v.value() & kBits;
    if (type != kUncached && type != kWriteBack)
        return kBits;
    const EptCapability cap = ept_capability(v);
    return (type == kUncached ? cap.type_uncached() : cap.type_write_back()) ? 0 : kBits;
}

u64 ept_walk_length(const AuditView &v)
{
    constexpr u64 kBits = 7 << 3;
    if (!ept(v))
        return 0;
    const u64 levels = (v.value() >> 3 & 7) + 1;
    if (levels != 4 && levels != 5)
        return kBits;
    const EptCapability cap = ept_capability(v);
    return (levels == 4 ? cap.walk_4_levels() : cap.walk_5_levels()) ? 0 : kBits;
}

u64 ept_accessed_dirty(const AuditView &v)
{
    const u64 enabled = ept(v) ? v.value() & bit64(6) : 0;
    return enabled && !ept_capability(v).accessed_dirty() ? enabled : 0;
}

u64 ept_shadow_stack(const AuditView &v)
{
    const u64 enabled = ept(v) ? v.value() & bit64(7) : 0;
    return enabled && !ept_capability(v).supervisor_shadow_stack() ? enabled : 0;
}

u64 ept_reserved(const AuditView &v)
{
    constexpr u64 kReserved = 0xf00;
    if (!ept(v))
        return 0;
    const u64 reserved = v.value() & kReserved;
    return reserved != 0 ? reserved : v.beyond_physical_width(v.value());
}

bool vm_functions(const AuditView &v)
{
    return v.secondary(SECONDARY_EXEC_ENABLE_VMFUNC);
}

constexpr u64 kEptpSwitching = bit64(0);

u64 vm_functions_reserved(const AuditView &v)
{
    const u64 functions = vm_functions(v) ? v.value() : 0;
    return functions == 0 ? 0 : functions & ~v.msr(MSR_IA32_VMX_VMFUNC);
}

u64 eptp_switching_needs_ept(const AuditView &v)
{
    return vm_functions(v) && v.value() & kEptpSwitching && !ept(v) ? kEptpSwitching : 0;
}

u64 eptp_list(const AuditView &v)
{
    return vm_functions(v) && v[VM_FUNCTION_CONTROL] & kEptpSwitching ? page_address(v) : 0;
}

u64 tsc_multiplier(const AuditView &v)
{
    return fault_if(v.secondary(SECONDARY_EXEC_TSC_SCALING) && v.value() == 0);
}

u64 pt_guest_addresses_need_entry_control(const AuditView &v)
{
    return v.secondary(SECONDARY_EXEC_PT_USE_GPA) && !v.entry(VM_ENTRY_LOAD_IA32_RTIT_CTL)
               ? VM_ENTRY_LOAD_IA32_RTIT_CTL
               : 0;
}

u64 pt_guest_addresses_need_exit_control(const AuditView &v)
{
    return v.secondary(SECONDARY_EXEC_PT_USE_GPA) && !v.exit(VM_EXIT_CLEAR_IA32_RTIT_CTL)
               ? VM_EXIT_CLEAR_IA32_RTIT_CTL
               : 0;
}

u64 hlat_pointer(const AuditView &v)
{
    // Bits 4:3 are cache attributes: SDM Vol. 3C, 25.6.22.
    constexpr u64 kReserved = 0xfe7;
    if (!v.tertiary(TERTIARY_EXEC_ENABLE_HLAT))
        return 0;
    const u64 reserved = v.value() & kReserved;
    return reserved != 0 ? reserved : v.beyond_physical_width(v.value());
}

u64 pid_pointer_table(const AuditView &v)
{
    if (!v.tertiary(TERTIARY_EXEC_IPI_VIRT))
        return 0;
    const u64 table = v.value();
    if (const u64 misaligned = table & 7; misaligned != 0)
        return misaligned;
    if (const u64 beyond = v.beyond_physical_width(table); beyond != 0)
        return beyond;
    return fault_if(v.beyond_physical_width(table + 8 * u64{v[LAST_PID_POINTER_INDEX]} + 7) != 0);
}

// clang-format off
constexpr AuditCheck kVirtualizationRows[] = {
    control_check("27.2.1.1", APIC_ACCESS_ADDR, "apic-access-page",
        "the APIC-access page must be at a 4-KiB-aligned address within the physical-address width, if APIC accesses are virtualized",
        page_if_secondary<SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES>),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "apic-virtualization-needs-tpr-shadow",
        "virtualize x2APIC mode, APIC-register virtualization and virtual-interrupt delivery must be 0 while use TPR shadow is 0",
        apic_virtualization_needs_tpr_shadow),
    control_check("27.2.1.1", TERTIARY_VM_EXEC_CONTROL, "ipi-virtualization-needs-tpr-shadow",
        "IPI virtualization must be 0 while use TPR shadow is 0", ipi_virtualization_needs_tpr_shadow),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "x2apic-or-apic-accesses",
        "virtualize x2APIC mode and virtualize APIC accesses must not both be 1", x2apic_or_apic_accesses),
    control_check("27.2.1.1", PIN_BASED_VM_EXEC_CONTROL, "delivery-needs-external-interrupt-exiting",
        "external-interrupt exiting must be 1 while virtual-interrupt delivery is 1", delivery_needs_external_interrupt_exiting),
    control_check("27.2.1.1", VIRTUAL_PROCESSOR_ID, "vpid-not-zero", "the VPID must not be 0, if VPIDs are enabled", vpid_not_zero),
    control_check("27.2.1.1", EPT_POINTER, "eptp-memory-type",
        "the memory type of the EPT pointer must be one that IA32_VMX_EPT_VPID_CAP has: 0 (uncacheable) or 6 (write-back)", ept_memory_type),
    control_check("27.2.1.1", EPT_POINTER, "eptp-walk-length",
        "the page-walk length less 1 in the EPT pointer must be one that IA32_VMX_EPT_VPID_CAP has: 3 or 4", ept_walk_length),
    control_check("27.2.1.1", EPT_POINTER, "eptp-accessed-dirty",
        "accessed and dirty flags for EPT must be off where IA32_VMX_EPT_VPID_CAP[21] is 0", ept_accessed_dirty),
    control_check("27.2.1.1", EPT_POINTER, "eptp-shadow-stack",
        "supervisor shadow-stack control in the EPT pointer must be off where IA32_VMX_EPT_VPID_CAP[23] is 0", ept_shadow_stack),
    control_check("27.2.1.1", EPT_POINTER, "eptp-reserved",
        "bits 11:8 of the EPT pointer and those beyond the physical-address width must be 0", ept_reserved),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "unrestricted-guest-needs-ept",
        "unrestricted guest must be 0 while enable EPT is 0", needs_ept<SECONDARY_EXEC_UNRESTRICTED_GUEST>),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "mode-based-execute-needs-ept",
        "mode-based execute control for EPT must be 0 while enable EPT is 0", needs_ept<SECONDARY_EXEC_MODE_BASED_EPT_EXEC>),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "pml-needs-ept",
        "enable PML must be 0 while enable EPT is 0", needs_ept<SECONDARY_EXEC_ENABLE_PML>),
    control_check("27.2.1.1", PML_ADDRESS, "pml-address",
        "the page-modification log must be at a 4-KiB-aligned address within the physical-address width, if PML is enabled",
        page_if_secondary<SECONDARY_EXEC_ENABLE_PML>),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "sub-page-write-needs-ept",
        "sub-page write permissions for EPT must be 0 while enable EPT is 0", needs_ept<SECONDARY_EXEC_SUB_PAGE_WRITE>),
    control_check("27.2.1.1", SPP_TABLE_POINTER, "sub-page-write-table",
        "the sub-page-permission table must be at a 4-KiB-aligned address within the physical-address width, if sub-page write permissions are used",
        page_if_secondary<SECONDARY_EXEC_SUB_PAGE_WRITE>),
    control_check("27.2.1.1", SECONDARY_VM_EXEC_CONTROL, "pt-guest-addresses-need-ept",
        "Intel PT uses guest physical addresses must be 0 while enable EPT is 0", needs_ept<SECONDARY_EXEC_PT_USE_GPA>),
    control_check("27.2.1.1", VM_ENTRY_CONTROLS, "pt-guest-addresses-need-entry-control",
        "load IA32_RTIT_CTL must be 1 while Intel PT uses guest physical addresses is 1", pt_guest_addresses_need_entry_control),
    control_check("27.2.1.1", VM_EXIT_CONTROLS, "pt-guest-addresses-need-exit-control",
        "clear IA32_RTIT_CTL must be 1 while Intel PT uses guest physical addresses is 1", pt_guest_addresses_need_exit_control),
    control_check("27.2.1.1", VM_FUNCTION_CONTROL, "vm-functions-reserved",
        "VM functions that IA32_VMX_VMFUNC has as 0 must be 0", vm_functions_reserved),
    control_check("27.2.1.1", VM_FUNCTION_CONTROL, "eptp-switching-needs-ept",
        "EPTP switching must be 0 while enable EPT is 0", eptp_switching_needs_ept),
    control_check("27.2.1.1", EPTP_LIST_ADDRESS, "eptp-list",
        "the EPTP list must be at a 4-KiB-aligned address within the physical-address width, if EPTP switching is enabled", eptp_list),
    control_check("27.2.1.1", VMREAD_BITMAP, "vmread-bitmap",
        "the VMREAD bitmap must be at a 4-KiB-aligned address within the physical-address width, with VMCS shadowing",
        page_if_secondary<SECONDARY_EXEC_SHADOW_VMCS>),
    control_check("27.2.1.1", VMWRITE_BITMAP, "vmwrite-bitmap",
        "the VMWRITE bitmap must be at a 4-KiB-aligned address within the physical-address width, with VMCS shadowing",
        page_if_secondary<SECONDARY_EXEC_SHADOW_VMCS>),
    control_check("27.2.1.1", VE_INFO_ADDRESS, "virtualization-exception-area",
        "the virtualization-exception information area must be at a 4-KiB-aligned address within the physical-address width, with EPT-violation #VE",
        page_if_secondary<SECONDARY_EXEC_EPT_VIOLATION_VE>),
    control_check("27.2.1.1", LOW_PASID_DIRECTORY, "low-pasid-directory",
        "the low PASID directory must be at a 4-KiB-aligned address within the physical-address width, with PASID translation",
        page_if_secondary<SECONDARY_EXEC_PASID_TRANSLATION>),
    control_check("27.2.1.1", HIGH_PASID_DIRECTORY, "high-pasid-directory",
        "the high PASID directory must be at a 4-KiB-aligned address within the physical-address width, with PASID translation",
        page_if_secondary<SECONDARY_EXEC_PASID_TRANSLATION>),
    control_check("27.2.1.1", TSC_MULTIPLIER, "tsc-multiplier", "the TSC multiplier must not be 0, if the TSC is scaled", tsc_multiplier),
    control_check("27.2.1.1", TERTIARY_VM_EXEC_CONTROL, "hlat-needs-ept",
        "enable HLAT must be 0 while enable EPT is 0", tertiary_needs_ept<TERTIARY_EXEC_ENABLE_HLAT>),
    control_check("27.2.1.1", HLAT_POINTER, "hlat-pointer",
        "bits 2:0 and 11:5 of the HLAT pointer and those beyond the physical-address width must be 0, if HLAT is enabled", hlat_pointer),
    control_check("27.2.1.1", TERTIARY_VM_EXEC_CONTROL, "ept-paging-write-needs-ept",
        "EPT paging-write control must be 0 while enable EPT is 0", tertiary_needs_ept<TERTIARY_EXEC_EPT_PAGING_WRITE>),
    control_check("27.2.1.1", TERTIARY_VM_EXEC_CONTROL, "guest-paging-verification-needs-ept",
        "guest-paging verification must be 0 while enable EPT is 0", tertiary_needs_ept<TERTIARY_EXEC_GUEST_PAGING_VERIFICATION>),
    control_check("27.2.1.1", PID_POINTER_TABLE, "pid-pointer-table",
        "the PID-pointer table must be 8-byte aligned and end within the physical-address width, with IPI virtualization", pid_pointer_table),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kVirtualizationControlChecks{kVirtualizationRows};

} // namespace minivmx::audit
