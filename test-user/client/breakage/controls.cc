// SPDX-License-Identifier: GPL-2.0-only
//
// VM-execution control fields: SDM Vol. 3C, 27.2.1.1.
#include "breakage.hpp"

#include <cpuid.h>

namespace breakage {

unsigned physical_bits()
{
    unsigned eax = 0, ebx, ecx, edx;
    __get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx);
    return eax & 0xff;
}

namespace {

constexpr uint64_t kLinkNone = ~0ULL;

Needs primary(uint32_t bits)
{
    return {MINIVMX_WORD_PRIMARY, bits};
}
Needs secondary(uint32_t bits)
{
    return {MINIVMX_WORD_SECONDARY, bits};
}

// The control words themselves, against what the CPU allows.
Group words()
{
    return {{"long", Shape::kLong},
            {{"pin-reserved-off", off(PIN_BASED_VM_EXEC_CONTROL, 1u << 1)},
             {"pin-reserved-off-2", off(PIN_BASED_VM_EXEC_CONTROL, 1u << 4)},
             {"pin-reserved-on", on(PIN_BASED_VM_EXEC_CONTROL, 1u << 31)},
             {"pin-nmi-exiting-off", off(PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_NMI_EXITING)},
             {"primary-reserved-off", off(CPU_BASED_VM_EXEC_CONTROL, 1u << 1)},
             {"primary-reserved-off-2", off(CPU_BASED_VM_EXEC_CONTROL, 1u << 26)},
             {"primary-reserved-on", on(CPU_BASED_VM_EXEC_CONTROL, 1u << 0)},
             {"primary-reserved-on-2", on(CPU_BASED_VM_EXEC_CONTROL, 1u << 18)},
             {"secondary-reserved-on", on(SECONDARY_VM_EXEC_CONTROL, 1u << 29)},
             {"secondary-reserved-on-2", on(SECONDARY_VM_EXEC_CONTROL, 1u << 31)},
             {"cr3-targets", set(CR3_TARGET_COUNT, 5)},
             {"cr3-targets-many", set(CR3_TARGET_COUNT, 0x100)},
             {"msr-bitmap-not-aligned", on(MSR_BITMAP, 0x800)},
             {"msr-bitmap-too-high", on(MSR_BITMAP, 1ULL << 51)},
             {"ept-pointer-memory-type", on(EPT_POINTER, 1)},
             {"ept-pointer-walk-length", off(EPT_POINTER, 0x38)},
             {"ept-pointer-reserved", on(EPT_POINTER, 0x100)},
             {"ept-pointer-too-high", on(EPT_POINTER, 1ULL << 51)},
             {"vpid-zero", set(VIRTUAL_PROCESSOR_ID, 0)},
             {"unrestricted-without-ept",
              off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_EPT),
              {},
              0,
              secondary(SECONDARY_EXEC_UNRESTRICTED_GUEST)},
             {"x2apic-without-tpr-shadow",
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE),
              {},
              0,
              secondary(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE)},
             {"apic-registers-without-tpr-shadow",
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_APIC_REGISTER_VIRT),
              {},
              0,
              secondary(SECONDARY_EXEC_APIC_REGISTER_VIRT)},
             {"interrupt-delivery-without-tpr-shadow",
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY),
              {},
              0,
              secondary(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)}}};
}

Group io_bitmaps()
{
    return {{"long, with I/O bitmaps",
             Shape::kLong,
             {page(IO_BITMAP_A), page(IO_BITMAP_B),
              on(CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_USE_IO_BITMAPS)},
             primary(CPU_BASED_USE_IO_BITMAPS),
             {~0ULL, ~0ULL, ~0ULL, ~0ULL}},
            {{"io-bitmap-a-not-aligned", page(IO_BITMAP_A, 1)},
             {"io-bitmap-a-too-high", set(IO_BITMAP_A, 1ULL << 51)},
             {"io-bitmap-b-not-aligned", page(IO_BITMAP_B, 0x10)},
             {"io-bitmap-b-too-high", set(IO_BITMAP_B, 1ULL << 51)}}};
}

Group nmi_window()
{
    return {{"long, without virtual NMIs",
             Shape::kLong,
             {off(PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_VIRTUAL_NMIS)}},
            {{"nmi-window-without-virtual-nmis",
              on(CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_NMI_WINDOW_EXITING)}}};
}

Group vmcs_shadowing()
{
    return {{"long, with VMCS shadowing",
             Shape::kLong,
             {page(VMREAD_BITMAP), page(VMWRITE_BITMAP), set(VMCS_LINK_POINTER, kLinkNone),
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_SHADOW_VMCS)},
             secondary(SECONDARY_EXEC_SHADOW_VMCS)},
            {{"vmread-bitmap-not-aligned", page(VMREAD_BITMAP, 8)},
             {"vmread-bitmap-too-high", set(VMREAD_BITMAP, 1ULL << 51)},
             {"vmwrite-bitmap-not-aligned", page(VMWRITE_BITMAP, 0x800)},
             {"vmwrite-bitmap-too-high", set(VMWRITE_BITMAP, 1ULL << 51)},
             {"link-pointer-no-shadow-vmcs", page(VMCS_LINK_POINTER)}}};
}

Group virtualization_exceptions()
{
    return {
        {"long, with virtualization exceptions",
         Shape::kLong,
         {page(VE_INFO_ADDRESS), on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_EPT_VIOLATION_VE)},
         secondary(SECONDARY_EXEC_EPT_VIOLATION_VE)},
        {{"ve-information-not-aligned", page(VE_INFO_ADDRESS, 0x40)},
         {"ve-information-too-high", set(VE_INFO_ADDRESS, 1ULL << 51)}}};
}

std::vector<Write> tpr_shadow_writes()
{
    return {page(VIRTUAL_APIC_PAGE_ADDR), set(TPR_THRESHOLD, 0),
            on(CPU_BASED_VM_EXEC_CONTROL, CPU_BASED_TPR_SHADOW)};
}

std::vector<Write> tpr_shadow_and(uint32_t controls)
{
    std::vector<Write> writes = tpr_shadow_writes();
    writes.push_back(on(SECONDARY_VM_EXEC_CONTROL, controls));
    return writes;
}

Group tpr_shadow()
{
    return {{"long, with a TPR shadow", Shape::kLong, tpr_shadow_writes(),
             primary(CPU_BASED_TPR_SHADOW)},
            {{"virtual-apic-not-aligned", page(VIRTUAL_APIC_PAGE_ADDR, 0x80)},
             {"virtual-apic-too-high", set(VIRTUAL_APIC_PAGE_ADDR, 1ULL << 51)},
             {"tpr-threshold-too-big", set(TPR_THRESHOLD, 0x10)},
             {"tpr-threshold-above-tpr", set(TPR_THRESHOLD, 1)}}};
}

Group interrupt_delivery()
{
    return {{"long, with virtual-interrupt delivery", Shape::kLong,
             tpr_shadow_and(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY),
             secondary(SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)},
            {{"interrupt-delivery-without-interrupt-exiting",
              off(PIN_BASED_VM_EXEC_CONTROL, PIN_BASED_EXT_INTR_MASK)}}};
}

Group apic_accesses()
{
    Base base = {"long, with virtualized APIC accesses", Shape::kLong,
                 tpr_shadow_and(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES),
                 secondary(SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES)};
    base.writes.push_back(page(APIC_ACCESS_ADDR));
    return {base,
            {{"apic-access-not-aligned", page(APIC_ACCESS_ADDR, 0x20)},
             {"apic-access-too-high", set(APIC_ACCESS_ADDR, 1ULL << 51)},
             {"apic-accesses-and-x2apic",
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE),
              {},
              0,
              secondary(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE)}}};
}

Group vm_functions()
{
    return {{"long, with VM functions",
             Shape::kLong,
             {set(VM_FUNCTION_CONTROL, 0), page(EPTP_LIST_ADDRESS),
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_VMFUNC)},
             secondary(SECONDARY_EXEC_ENABLE_VMFUNC)},
            {{"vm-function-reserved", set(VM_FUNCTION_CONTROL, 2)},
             {"vm-function-reserved-high", set(VM_FUNCTION_CONTROL, 1ULL << 63)}}};
}

Group eptp_switching()
{
    return {{"long, with EPTP switching",
             Shape::kLong,
             {set(VM_FUNCTION_CONTROL, 1), page(EPTP_LIST_ADDRESS),
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_VMFUNC),
              off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_UNRESTRICTED_GUEST)},
             secondary(SECONDARY_EXEC_ENABLE_VMFUNC)},
            {{"eptp-list-not-aligned", page(EPTP_LIST_ADDRESS, 8)},
             {"eptp-list-too-high", set(EPTP_LIST_ADDRESS, 1ULL << 51)},
             {"eptp-switching-without-ept",
              off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_EPT),
              {},
              VM_FUNCTION_CONTROL.encoding}}};
}

// Without "unrestricted guest", whose own check would come first when EPT goes.
Group page_modification_logging()
{
    return {{"long, with page-modification logging",
             Shape::kLong,
             {page(PML_ADDRESS), set(GUEST_PML_INDEX, 511),
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_PML),
              off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_UNRESTRICTED_GUEST)},
             secondary(SECONDARY_EXEC_ENABLE_PML)},
            {{"pml-address-not-aligned", page(PML_ADDRESS, 0x100)},
             {"pml-address-too-high", set(PML_ADDRESS, 1ULL << 51)},
             {"pml-without-ept", off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_EPT)}}};
}

Group sub_page_permissions()
{
    return {{"long, with sub-page write permissions",
             Shape::kLong,
             {page(SPP_TABLE_POINTER), on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_SUB_PAGE_WRITE),
              off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_UNRESTRICTED_GUEST)},
             secondary(SECONDARY_EXEC_SUB_PAGE_WRITE)},
            {{"spp-table-not-aligned", page(SPP_TABLE_POINTER, 0x10)},
             {"spp-table-too-high", set(SPP_TABLE_POINTER, 1ULL << 51)},
             {"spp-without-ept", off(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_ENABLE_EPT)}}};
}

Group tsc_scaling()
{
    return {{"long, with TSC scaling",
             Shape::kLong,
             {set(TSC_MULTIPLIER, 1ULL << 48),
              on(SECONDARY_VM_EXEC_CONTROL, SECONDARY_EXEC_TSC_SCALING)},
             secondary(SECONDARY_EXEC_TSC_SCALING)},
            {{"tsc-multiplier-zero", set(TSC_MULTIPLIER, 0)}}};
}

} // namespace

std::vector<Group> control_groups()
{
    return {words(),
            io_bitmaps(),
            nmi_window(),
            vmcs_shadowing(),
            virtualization_exceptions(),
            tpr_shadow(),
            interrupt_delivery(),
            apic_accesses(),
            vm_functions(),
            eptp_switching(),
            page_modification_logging(),
            sub_page_permissions(),
            tsc_scaling()};
}

} // namespace breakage
