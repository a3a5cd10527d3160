// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.2.2 "Checks on Host Control Registers, MSRs, and SSP", 27.2.3 "Checks on Host
// Segment and Descriptor-Table Registers", 27.2.4 "Checks Related to Address-Space Size".
#include "view.hpp"

namespace minivmx::audit {

namespace {

bool host_64bit(const AuditView &v)
{
    return v.exit(VM_EXIT_HOST_ADDR_SPACE_SIZE);
}

u64 host_cr0(const AuditView &v)
{
    // VM exits don't change these two.
    return cr_unsupported(v, MSR_IA32_VMX_CR0_FIXED0, MSR_IA32_VMX_CR0_FIXED1,
                          X86_CR0_NW | X86_CR0_CD);
}

u64 host_cr4(const AuditView &v)
{
    return cr_unsupported(v, MSR_IA32_VMX_CR4_FIXED0, MSR_IA32_VMX_CR4_FIXED1, 0);
}

u64 host_cet_needs_wp(const AuditView &v)
{
    return v[HOST_CR4] & X86_CR4_CET && !(v.value() & X86_CR0_WP) ? X86_CR0_WP : 0;
}

u64 host_perf_global_ctrl(const AuditView &v)
{
    return v.exit(VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL) ? perf_global_ctrl_reserved(v) : 0;
}

u64 host_pat(const AuditView &v)
{
    return v.exit(VM_EXIT_LOAD_IA32_PAT) ? wrong_memory_types(v.value()) : 0;
}

u64 host_efer_reserved(const AuditView &v)
{
    return v.exit(VM_EXIT_LOAD_IA32_EFER) ? efer_reserved(v, v.value()) : 0;
}

u64 host_efer_mode(const AuditView &v)
{
    constexpr u64 kMode = EFER_LMA | EFER_LME;
    if (!v.exit(VM_EXIT_LOAD_IA32_EFER))
        return 0;
    return (v.value() ^ (host_64bit(v) ? kMode : 0)) & kMode;
}

bool loads_cet(const AuditView &v)
{
    return v.exit(VM_EXIT_LOAD_CET_STATE);
}

u64 host_s_cet(const AuditView &v)
{
    return loads_cet(v) ? supervisor_cet(v) : 0;
}

u64 host_ssp_aligned(const AuditView &v)
{
    return loads_cet(v) ? v.value() & 3 : 0;
}

u64 host_cet_address(const AuditView &v)
{
    return loads_cet(v) ? canonical_address(v) : 0;
}

u64 host_cet_32bit(const AuditView &v)
{
    return loads_cet(v) && !host_64bit(v) ? v.value() & kHighHalf : 0;
}

u64 host_pkrs(const AuditView &v)
{
    return v.exit(VM_EXIT_LOAD_IA32_PKRS) ? v.value() & kHighHalf : 0;
}

bool loads_fred(const AuditView &v)
{
    return v.exit(VM_EXIT_ACTIVATE_SECONDARY_CONTROLS) &&
           (v[SECONDARY_VM_EXIT_CONTROLS] & SECONDARY_VM_EXIT_LOAD_FRED) != 0;
}

u64 host_fred_config(const AuditView &v)
{
    return loads_fred(v) ? fred_config_reserved(v) : 0;
}

u64 host_fred_rsp(const AuditView &v)
{
    return loads_fred(v) ? fred_stack(v, 0x3f) : 0;
}

u64 host_fred_ssp(const AuditView &v)
{
    return loads_fred(v) ? fred_stack(v, 7) : 0;
}

u64 selector_rpl_ti(const AuditView &v)
{
    return v.value() & 7;
}

u64 selector_not_null(const AuditView &v)
{
    return fault_if(v.value() == 0);
}

u64 host_ss_not_null(const AuditView &v)
{
    return fault_if(v.value() == 0 && !host_64bit(v));
}

u64 host_size_in_ia32e_mode(const AuditView &v)
{
    return !host_64bit(v) && v.host_mode() == AuditCpu::Mode::kIa32e ? VM_EXIT_HOST_ADDR_SPACE_SIZE
                                                                     : 0;
}

u64 host_size_in_legacy_mode(const AuditView &v)
{
    return host_64bit(v) && v.host_mode() == AuditCpu::Mode::kLegacy ? VM_EXIT_HOST_ADDR_SPACE_SIZE
                                                                     : 0;
}

u64 ia32e_guest_needs_64bit_host(const AuditView &v)
{
    return v.ia32e_guest() && !host_64bit(v) ? VM_ENTRY_IA32E_MODE : 0;
}

u64 host_cr4_pcide(const AuditView &v)
{
    return host_64bit(v) ? 0 : v.value() & X86_CR4_PCIDE;
}

u64 host_cr4_pae(const AuditView &v)
{
    return host_64bit(v) ? ~v.value() & X86_CR4_PAE : 0;
}

u64 host_rip_32bit(const AuditView &v)
{
    return host_64bit(v) ? 0 : v.value() & kHighHalf;
}

u64 host_rip_canonical(const AuditView &v)
{
    return host_64bit(v) ? canonical_address(v) : 0;
}

// clang-format off
constexpr AuditCheck kHostRows[] = {
    host_check("27.2.2", HOST_CR0, "host-cr0-fixed",
        "bits of CR0 must be 1 where IA32_VMX_CR0_FIXED0 has 1 and 0 where FIXED1 has 0 (NW and CD are free)", host_cr0),
    host_check("27.2.2", HOST_CR4, "host-cr4-fixed",
        "bits of CR4 must be 1 where IA32_VMX_CR4_FIXED0 has 1 and 0 where FIXED1 has 0", host_cr4),
    host_check("27.2.2", HOST_CR0, "host-cet-needs-wp", "CR0.WP must be 1 while CR4.CET is 1", host_cet_needs_wp),
    host_check("27.2.2", HOST_CR3, "host-cr3-reserved", "bits of CR3 beyond the physical-address width must be 0", cr3_reserved),
    host_check("27.2.2", HOST_IA32_SYSENTER_ESP, "host-sysenter-esp-canonical", "IA32_SYSENTER_ESP must be canonical", canonical_address),
    host_check("27.2.2", HOST_IA32_SYSENTER_EIP, "host-sysenter-eip-canonical", "IA32_SYSENTER_EIP must be canonical", canonical_address),
    host_check("27.2.2", HOST_IA32_PERF_GLOBAL_CTRL, "host-perf-global-ctrl",
        "reserved bits of IA32_PERF_GLOBAL_CTRL must be 0, if VM exits load it", host_perf_global_ctrl),
    host_check("27.2.2", HOST_IA32_PAT, "host-pat",
        "each byte of IA32_PAT must be 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) or 7 (UC-), if VM exits load it", host_pat),
    host_check("27.2.2", HOST_IA32_EFER, "host-efer-reserved",
        "bits of IA32_EFER other than SCE, LME, LMA and NXE must be 0, if VM exits load it", host_efer_reserved),
    host_check("27.2.2", HOST_IA32_EFER, "host-efer-mode",
        "LMA and LME of IA32_EFER must equal the control host address-space size, if VM exits load it", host_efer_mode),
    host_check("27.2.2", HOST_S_CET, "host-s-cet",
        "IA32_S_CET must have bits 9:6 clear, not both SUPPRESS and TRACKER, and a canonical address, if VM exits load CET state", host_s_cet),
    host_check("27.2.2", HOST_SSP, "host-ssp-aligned", "bits 1:0 of SSP must be 0, if VM exits load CET state", host_ssp_aligned),
    host_check("27.2.2", HOST_SSP, "host-ssp-canonical", "SSP must be canonical, if VM exits load CET state", host_cet_address),
    host_check("27.2.2", HOST_INTR_SSP_TABLE, "host-intr-ssp-table-canonical",
        "IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical, if VM exits load CET state", host_cet_address),
    host_check("27.2.2", HOST_IA32_PKRS, "host-pkrs", "bits 63:32 of IA32_PKRS must be 0, if VM exits load it", host_pkrs),
    host_check("27.2.2", HOST_IA32_FRED_CONFIG, "host-fred-config", "reserved bits of IA32_FRED_CONFIG must be 0, if VM exits load FRED state", host_fred_config),
    host_check("27.2.2", HOST_IA32_FRED_RSP1, "host-fred-rsp1", "IA32_FRED_RSP1 must be canonical and 64-byte aligned, if VM exits load FRED state", host_fred_rsp),
    host_check("27.2.2", HOST_IA32_FRED_RSP2, "host-fred-rsp2", "IA32_FRED_RSP2 must be canonical and 64-byte aligned, if VM exits load FRED state", host_fred_rsp),
    host_check("27.2.2", HOST_IA32_FRED_RSP3, "host-fred-rsp3", "IA32_FRED_RSP3 must be canonical and 64-byte aligned, if VM exits load FRED state", host_fred_rsp),
    host_check("27.2.2", HOST_IA32_FRED_SSP1, "host-fred-ssp1", "IA32_FRED_SSP1 must be canonical and 8-byte aligned, if VM exits load FRED state", host_fred_ssp),
    host_check("27.2.2", HOST_IA32_FRED_SSP2, "host-fred-ssp2", "IA32_FRED_SSP2 must be canonical and 8-byte aligned, if VM exits load FRED state", host_fred_ssp),
    host_check("27.2.2", HOST_IA32_FRED_SSP3, "host-fred-ssp3", "IA32_FRED_SSP3 must be canonical and 8-byte aligned, if VM exits load FRED state", host_fred_ssp),

    host_check("27.2.3", HOST_CS_SELECTOR, "host-cs-rpl-ti", "RPL and TI of CS must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_SS_SELECTOR, "host-ss-rpl-ti", "RPL and TI of SS must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_DS_SELECTOR, "host-ds-rpl-ti", "RPL and TI of DS must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_ES_SELECTOR, "host-es-rpl-ti", "RPL and TI of ES must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_FS_SELECTOR, "host-fs-rpl-ti", "RPL and TI of FS must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_GS_SELECTOR, "host-gs-rpl-ti", "RPL and TI of GS must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_TR_SELECTOR, "host-tr-rpl-ti", "RPL and TI of TR must be 0", selector_rpl_ti),
    host_check("27.2.3", HOST_CS_SELECTOR, "host-cs-not-null", "CS must not be 0", selector_not_null),
    host_check("27.2.3", HOST_TR_SELECTOR, "host-tr-not-null", "TR must not be 0", selector_not_null),
    host_check("27.2.3", HOST_SS_SELECTOR, "host-ss-not-null", "SS must not be 0 while host address-space size is 0", host_ss_not_null),
    host_check("27.2.3", HOST_FS_BASE, "host-fs-base-canonical", "the base of FS must be canonical", canonical_address),
    host_check("27.2.3", HOST_GS_BASE, "host-gs-base-canonical", "the base of GS must be canonical", canonical_address),
    host_check("27.2.3", HOST_GDTR_BASE, "host-gdtr-base-canonical", "the base of GDTR must be canonical", canonical_address),
    host_check("27.2.3", HOST_IDTR_BASE, "host-idtr-base-canonical", "the base of IDTR must be canonical", canonical_address),
    host_check("27.2.3", HOST_TR_BASE, "host-tr-base-canonical", "the base of TR must be canonical", canonical_address),

    host_check("27.2.4", VM_EXIT_CONTROLS, "host-size-in-ia32e-mode",
        "host address-space size must be 1 where the host is in IA-32e mode", host_size_in_ia32e_mode),
    host_check("27.2.4", VM_EXIT_CONTROLS, "host-size-in-legacy-mode",
        "host address-space size must be 0 where the host is not in IA-32e mode", host_size_in_legacy_mode),
    host_check("27.2.4", VM_ENTRY_CONTROLS, "ia32e-guest-needs-64bit-host",
        "IA-32e mode guest must be 0 while host address-space size is 0", ia32e_guest_needs_64bit_host),
    host_check("27.2.4", HOST_CR4, "host-cr4-pcide", "CR4.PCIDE must be 0 while host address-space size is 0", host_cr4_pcide),
    host_check("27.2.4", HOST_CR4, "host-cr4-pae", "CR4.PAE must be 1 while host address-space size is 1", host_cr4_pae),
    host_check("27.2.4", HOST_RIP, "host-rip-32bit", "bits 63:32 of RIP must be 0 while host address-space size is 0", host_rip_32bit),
    host_check("27.2.4", HOST_RIP, "host-rip-canonical", "RIP must be canonical while host address-space size is 1", host_rip_canonical),
    host_check("27.2.4", HOST_S_CET, "host-s-cet-32bit",
        "bits 63:32 of IA32_S_CET must be 0 while host address-space size is 0, if VM exits load CET state", host_cet_32bit),
    host_check("27.2.4", HOST_SSP, "host-ssp-32bit",
        "bits 63:32 of SSP must be 0 while host address-space size is 0, if VM exits load CET state", host_cet_32bit),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kHostChecks{kHostRows};

} // namespace minivmx::audit
