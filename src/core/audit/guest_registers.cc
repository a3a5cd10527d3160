// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.3.1.1 "Checks on Guest Control Registers, Debug Registers, and MSRs", 27.3.1.3
// "Checks on Guest Descriptor-Table Registers", 27.3.1.4 "Checks on Guest RIP, RFLAGS, and SSP".
#include "view.hpp"

namespace minivmx::audit {

namespace {

u64 guest_cr0(const AuditView &v)
{
    // VM entry doesn't change NW and CD.
    u64 unchecked = X86_CR0_NW | X86_CR0_CD;
    if (v.unrestricted_guest())
        unchecked |= X86_CR0_PE | X86_CR0_PG;
    return cr_unsupported(v, MSR_IA32_VMX_CR0_FIXED0, MSR_IA32_VMX_CR0_FIXED1, unchecked);
}

u64 guest_cr4(const AuditView &v)
{
    return cr_unsupported(v, MSR_IA32_VMX_CR4_FIXED0, MSR_IA32_VMX_CR4_FIXED1, 0);
}

u64 paging_needs_protection(const AuditView &v)
{
    return v.value() & X86_CR0_PG ? ~v.value() & X86_CR0_PE : 0;
}

u64 guest_cet_needs_wp(const AuditView &v)
{
    return v[GUEST_CR4] & X86_CR4_CET && !(v.value() & X86_CR0_WP) ? X86_CR0_WP : 0;
}

u64 debugctl(const AuditView &v)
{
    // LBR, BTF, TR, BTS, BTINT, BTS_OFF_*, FREEZE_*, ENABLE_UNCORE_PMI: SDM Vol. 4, table 2-2.
    constexpr u64 kCommon = 0x7fc3, kBusLock = bit64(2), kRtm = bit64(15);
    if (!v.entry(VM_ENTRY_LOAD_DEBUG_CONTROLS))
        return 0;
    const u64 value = v.value();
    if (const u64 never = value & ~(kCommon | kBusLock | kRtm); never != 0)
        return never;
    u64 wrong = 0;
    if (value & kBusLock && !v.has(&AuditFeatures::bus_lock))
        wrong |= kBusLock;
    if (value & kRtm && !v.has(&AuditFeatures::rtm))
        wrong |= kRtm;
    return wrong;
}

u64 ia32e_needs_paging(const AuditView &v)
{
    return v.ia32e_guest() ? ~v.value() & X86_CR0_PG : 0;
}

u64 ia32e_needs_pae(const AuditView &v)
{
    return v.ia32e_guest() ? ~v.value() & X86_CR4_PAE : 0;
}

u64 pcide_needs_ia32e(const AuditView &v)
{
    return v.ia32e_guest() ? 0 : v.value() & X86_CR4_PCIDE;
}

u64 fred_needs_ia32e(const AuditView &v)
{
    constexpr u64 kFred = bit64(32);
    return v.ia32e_guest() ? 0 : v.value() & kFred;
}

u64 guest_dr7(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_DEBUG_CONTROLS) ? v.value() & kHighHalf : 0;
}

u64 guest_perf_global_ctrl(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL) ? perf_global_ctrl_reserved(v) : 0;
}

u64 guest_pat(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_IA32_PAT) ? wrong_memory_types(v.value()) : 0;
}

u64 guest_efer_reserved(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_IA32_EFER) ? efer_reserved(v, v.value()) : 0;
}

u64 guest_efer_lma(const AuditView &v)
{
    if (!v.entry(VM_ENTRY_LOAD_IA32_EFER))
        return 0;
    return (v.value() ^ (v.ia32e_guest() ? EFER_LMA : 0)) & EFER_LMA;
}

u64 guest_efer_lme(const AuditView &v)
{
    if (!v.entry(VM_ENTRY_LOAD_IA32_EFER) || !(v[GUEST_CR0] & X86_CR0_PG))
        return 0;
    const u64 efer = v.value();
    return ((efer & EFER_LMA) != 0) == ((efer & EFER_LME) != 0) ? 0 : EFER_LME;
}

u64 bndcfgs(const AuditView &v)
{
    constexpr u64 kReserved = 0xffc;
    if (!v.entry(VM_ENTRY_LOAD_BNDCFGS))
        return 0;
    const u64 reserved = v.value() & kReserved;
    return reserved != 0 ? reserved : canonical_address(v);
}

// Which bits of these two are reserved varies with CPUID.14H, 1CH and 19H; 0 is always valid.
u64 rtit_ctl(const AuditView &v)
{
    if (v.entry(VM_ENTRY_LOAD_IA32_RTIT_CTL) && v.value() != 0)
        v.miss(AuditFact::kCpuFeatures);
    return 0;
}

u64 lbr_ctl(const AuditView &v)
{
    constexpr u64 kReserved = ~u64{0x7f000f}; // SDM Vol. 4, table 2-2, IA32_LBR_CTL
    if (!v.entry(VM_ENTRY_LOAD_IA32_LBR_CTL) || v.value() == 0)
        return 0;
    if (const u64 reserved = v.value() & kReserved; reserved != 0)
        return reserved;
    v.miss(AuditFact::kCpuFeatures);
    return 0;
}

bool loads_guest_cet(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_CET_STATE);
}

u64 guest_s_cet(const AuditView &v)
{
    return loads_guest_cet(v) ? supervisor_cet(v) : 0;
}

u64 guest_s_cet_32bit(const AuditView &v)
{
    return loads_guest_cet(v) && !v.ia32e_guest() ? v.value() & kHighHalf : 0;
}

u64 guest_ssp_table(const AuditView &v)
{
    return loads_guest_cet(v) ? canonical_address(v) : 0;
}

u64 guest_pkrs(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_IA32_PKRS) ? v.value() & kHighHalf : 0;
}

u64 guest_uinv(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_UINV) ? v.value() & 0xff00 : 0;
}

u64 guest_fred_config(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_FRED) ? fred_config_reserved(v) : 0;
}

u64 guest_fred_rsp(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_FRED) ? fred_stack(v, 0x3f) : 0;
}

u64 guest_fred_ssp(const AuditView &v)
{
    return v.entry(VM_ENTRY_LOAD_FRED) ? fred_stack(v, 7) : 0;
}

u64 table_limit(const AuditView &v)
{
    return v.value() & 0xffff0000;
}

u64 guest_rip_32bit(const AuditView &v)
{
    return v.value() >> 32 == 0 || v.guest_64bit() ? 0 : v.value() & kHighHalf;
}

u64 guest_rip_64bit(const AuditView &v)
{
    return fault_if(v.guest_64bit() && !v.nearly_canonical(v.value()));
}

u64 rflags_reserved(const AuditView &v)
{
    // Bits 63:22, 15, 5 and 3 must be 0, bit 1 must be 1.
    constexpr u64 kZero = ~u64{0x3fffff} | bit64(15) | bit64(5) | bit64(3);
    return (v.value() & kZero) | (~v.value() & X86_EFLAGS_FIXED);
}

u64 rflags_vm(const AuditView &v)
{
    const u64 vm = v.value() & X86_EFLAGS_VM;
    return vm != 0 && (v.ia32e_guest() || !(v[GUEST_CR0] & X86_CR0_PE)) ? vm : 0;
}

u64 rflags_if(const AuditView &v)
{
    return entry_event(v).is(INTR_TYPE_EXT_INTR) ? ~v.value() & X86_EFLAGS_IF : 0;
}

u64 guest_ssp_aligned(const AuditView &v)
{
    return loads_guest_cet(v) ? v.value() & 3 : 0;
}

u64 guest_ssp_canonical(const AuditView &v)
{
    return fault_if(loads_guest_cet(v) && !v.nearly_canonical(v.value()));
}

u64 guest_ssp_32bit(const AuditView &v)
{
    return loads_guest_cet(v) && !v.ia32e_guest() ? v.value() & kHighHalf : 0;
}

// clang-format off
constexpr AuditCheck kGuestRegisterRows[] = {
    guest_check("27.3.1.1", GUEST_CR0, "guest-cr0-fixed",
        "bits of CR0 must be 1 where IA32_VMX_CR0_FIXED0 has 1 and 0 where FIXED1 has 0 (NW and CD are free, with unrestricted guest PE and PG, too)", guest_cr0),
    guest_check("27.3.1.1", GUEST_CR0, "guest-paging-needs-protection", "CR0.PE must be 1 while CR0.PG is 1", paging_needs_protection),
    guest_check("27.3.1.1", GUEST_CR4, "guest-cr4-fixed",
        "bits of CR4 must be 1 where IA32_VMX_CR4_FIXED0 has 1 and 0 where FIXED1 has 0", guest_cr4),
    guest_check("27.3.1.1", GUEST_CR0, "guest-cet-needs-wp", "CR0.WP must be 1 while CR4.CET is 1", guest_cet_needs_wp),
    guest_check("27.3.1.1", GUEST_IA32_DEBUGCTL, "guest-debugctl", "reserved bits of IA32_DEBUGCTL must be 0, if VM entry loads debug controls", debugctl),
    guest_check("27.3.1.1", GUEST_CR0, "ia32e-guest-needs-paging", "CR0.PG must be 1 while IA-32e mode guest is 1", ia32e_needs_paging),
    guest_check("27.3.1.1", GUEST_CR4, "ia32e-guest-needs-pae", "CR4.PAE must be 1 while IA-32e mode guest is 1", ia32e_needs_pae),
    guest_check("27.3.1.1", GUEST_CR4, "guest-pcide-needs-ia32e", "CR4.PCIDE must be 0 while IA-32e mode guest is 0", pcide_needs_ia32e),
    guest_check("27.3.1.1", GUEST_CR4, "guest-fred-needs-ia32e", "CR4.FRED must be 0 while IA-32e mode guest is 0", fred_needs_ia32e),
    guest_check("27.3.1.1", GUEST_CR3, "guest-cr3-reserved", "bits of CR3 beyond the physical-address width must be 0", cr3_reserved),
    guest_check("27.3.1.1", GUEST_DR7, "guest-dr7", "bits 63:32 of DR7 must be 0, if VM entry loads debug controls", guest_dr7),
    guest_check("27.3.1.1", GUEST_SYSENTER_ESP, "guest-sysenter-esp-canonical", "IA32_SYSENTER_ESP must be canonical", canonical_address),
    guest_check("27.3.1.1", GUEST_SYSENTER_EIP, "guest-sysenter-eip-canonical", "IA32_SYSENTER_EIP must be canonical", canonical_address),
    guest_check("27.3.1.1", GUEST_IA32_PERF_GLOBAL_CTRL, "guest-perf-global-ctrl",
        "reserved bits of IA32_PERF_GLOBAL_CTRL must be 0, if VM entry loads it", guest_perf_global_ctrl),
    guest_check("27.3.1.1", GUEST_IA32_PAT, "guest-pat",
        "each byte of IA32_PAT must be 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) or 7 (UC-), if VM entry loads it", guest_pat),
    guest_check("27.3.1.1", GUEST_IA32_EFER, "guest-efer-reserved",
        "bits of IA32_EFER other than SCE, LME, LMA and NXE must be 0, if VM entry loads it", guest_efer_reserved),
    guest_check("27.3.1.1", GUEST_IA32_EFER, "guest-efer-lma", "IA32_EFER.LMA must equal the control IA-32e mode guest, if VM entry loads it", guest_efer_lma),
    guest_check("27.3.1.1", GUEST_IA32_EFER, "guest-efer-lme", "IA32_EFER.LME must equal LMA while CR0.PG is 1, if VM entry loads it", guest_efer_lme),
    guest_check("27.3.1.1", GUEST_BNDCFGS, "guest-bndcfgs", "IA32_BNDCFGS must have bits 11:2 clear and a canonical address, if VM entry loads it", bndcfgs),
    guest_check("27.3.1.1", GUEST_IA32_RTIT_CTL, "guest-rtit-ctl", "reserved bits of IA32_RTIT_CTL must be 0, if VM entry loads it", rtit_ctl),
    guest_check("27.3.1.1", GUEST_IA32_LBR_CTL, "guest-lbr-ctl", "reserved bits of IA32_LBR_CTL must be 0, if VM entry loads it", lbr_ctl),
    guest_check("27.3.1.1", GUEST_S_CET, "guest-s-cet",
        "IA32_S_CET must have bits 9:6 clear, not both SUPPRESS and TRACKER, and a canonical address, if VM entry loads CET state", guest_s_cet),
    guest_check("27.3.1.1", GUEST_S_CET, "guest-s-cet-32bit",
        "bits 63:32 of IA32_S_CET must be 0 while IA-32e mode guest is 0, if VM entry loads CET state", guest_s_cet_32bit),
    guest_check("27.3.1.1", GUEST_INTR_SSP_TABLE, "guest-intr-ssp-table-canonical",
        "IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical, if VM entry loads CET state", guest_ssp_table),
    guest_check("27.3.1.1", GUEST_IA32_PKRS, "guest-pkrs", "bits 63:32 of IA32_PKRS must be 0, if VM entry loads it", guest_pkrs),
    guest_check("27.3.1.1", GUEST_UINV, "guest-uinv", "bits 15:8 of UINV must be 0, if VM entry loads it", guest_uinv),
    guest_check("27.3.1.1", GUEST_IA32_FRED_CONFIG, "guest-fred-config", "reserved bits of IA32_FRED_CONFIG must be 0, if VM entry loads FRED state", guest_fred_config),
    guest_check("27.3.1.1", GUEST_IA32_FRED_RSP1, "guest-fred-rsp1", "IA32_FRED_RSP1 must be canonical and 64-byte aligned, if VM entry loads FRED state", guest_fred_rsp),
    guest_check("27.3.1.1", GUEST_IA32_FRED_RSP2, "guest-fred-rsp2", "IA32_FRED_RSP2 must be canonical and 64-byte aligned, if VM entry loads FRED state", guest_fred_rsp),
    guest_check("27.3.1.1", GUEST_IA32_FRED_RSP3, "guest-fred-rsp3", "IA32_FRED_RSP3 must be canonical and 64-byte aligned, if VM entry loads FRED state", guest_fred_rsp),
    guest_check("27.3.1.1", GUEST_IA32_FRED_SSP1, "guest-fred-ssp1", "IA32_FRED_SSP1 must be canonical and 8-byte aligned, if VM entry loads FRED state", guest_fred_ssp),
    guest_check("27.3.1.1", GUEST_IA32_FRED_SSP2, "guest-fred-ssp2", "IA32_FRED_SSP2 must be canonical and 8-byte aligned, if VM entry loads FRED state", guest_fred_ssp),
    guest_check("27.3.1.1", GUEST_IA32_FRED_SSP3, "guest-fred-ssp3", "IA32_FRED_SSP3 must be canonical and 8-byte aligned, if VM entry loads FRED state", guest_fred_ssp),

    guest_check("27.3.1.3", GUEST_GDTR_BASE, "guest-gdtr-base-canonical", "the base of GDTR must be canonical", canonical_address),
    guest_check("27.3.1.3", GUEST_IDTR_BASE, "guest-idtr-base-canonical", "the base of IDTR must be canonical", canonical_address),
    guest_check("27.3.1.3", GUEST_GDTR_LIMIT, "guest-gdtr-limit", "bits 31:16 of the limit of GDTR must be 0", table_limit),
    guest_check("27.3.1.3", GUEST_IDTR_LIMIT, "guest-idtr-limit", "bits 31:16 of the limit of IDTR must be 0", table_limit),

    guest_check("27.3.1.4", GUEST_RIP, "guest-rip-32bit", "bits 63:32 of RIP must be 0 outside 64-bit mode", guest_rip_32bit),
    guest_check("27.3.1.4", GUEST_RIP, "guest-rip-64bit", "bits of RIP above the linear-address width must be equal in 64-bit mode", guest_rip_64bit),
    guest_check("27.3.1.4", GUEST_RFLAGS, "guest-rflags-reserved", "bits 63:22, 15, 5 and 3 of RFLAGS must be 0, bit 1 must be 1", rflags_reserved),
    guest_check("27.3.1.4", GUEST_RFLAGS, "guest-rflags-vm", "RFLAGS.VM must be 0 while IA-32e mode guest is 1 or CR0.PE is 0", rflags_vm),
    guest_check("27.3.1.4", GUEST_RFLAGS, "guest-rflags-if", "RFLAGS.IF must be 1 when an external interrupt is injected", rflags_if),
    guest_check("27.3.1.4", GUEST_SSP, "guest-ssp-aligned", "bits 1:0 of SSP must be 0, if VM entry loads CET state", guest_ssp_aligned),
    guest_check("27.3.1.4", GUEST_SSP, "guest-ssp-canonical",
        "bits of SSP above the linear-address width must be equal, if VM entry loads CET state", guest_ssp_canonical),
    guest_check("27.3.1.4", GUEST_SSP, "guest-ssp-32bit",
        "bits 63:32 of SSP must be 0 while IA-32e mode guest is 0, if VM entry loads CET state", guest_ssp_32bit),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kGuestRegisterChecks{kGuestRegisterRows};

} // namespace minivmx::audit
