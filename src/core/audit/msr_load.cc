// SPDX-License-Identifier: GPL-2.0-only
//
// SDM Vol. 3C, 27.4 "Loading MSRs": each entry of the VM-entry MSR-load area.
#include "view.hpp"

namespace minivmx::audit {

namespace {

constexpr u32 kSmmMonitorCtl = 0x9b, kUpdateTrigger = 0x79, kMtrrCap = 0xfe, kDsArea = 0x600;

u64 entry_reserved(const AuditView &v)
{
    return fault_if(v.msr_entry().reserved != 0);
}

u64 entry_segment_base(const AuditView &v)
{
    const u32 index = v.msr_entry().index;
    return fault_if(index == MSR_FS_BASE || index == MSR_GS_BASE);
}

u64 entry_x2apic(const AuditView &v)
{
    return fault_if(v.msr_entry().index >> 8 == 8);
}

u64 entry_smm(const AuditView &v)
{
    return fault_if(v.msr_entry().index == kSmmMonitorCtl);
}

u64 entry_microcode(const AuditView &v)
{
    const u32 index = v.msr_entry().index;
    return fault_if(index == kUpdateTrigger || index == MSR_IA32_UCODE_REV);
}

/// What WRMSR takes of an MSR whose bits are the same on all CPUs, and of no other. SDM Vol. 4,
/// table 2-2.
u64 entry_writable(const AuditView &v)
{
    const AuditMsrEntry entry = v.msr_entry();
    switch (entry.index) {
    case MSR_IA32_PAT:
        return fault_if(wrong_memory_types(entry.value) != 0);
    case MSR_EFER:
        return fault_if(efer_reserved(v, entry.value) != 0);
    case MSR_IA32_SYSENTER_ESP:
    case MSR_IA32_SYSENTER_EIP:
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_KERNEL_GS_BASE:
    case kDsArea:
        return fault_if(!v.canonical(entry.value));
    case MSR_IA32_SYSENTER_CS:
    case MSR_STAR:
    case MSR_IA32_TSC:
        return 0;
    case kMtrrCap:
    case MSR_IA32_ARCH_CAPABILITIES:
        return kWholeValue; // read only
    default:
        if (entry.index >= kFirstVmxMsr && entry.index <= kLastVmxMsr)
            return kWholeValue; // so are these
        v.miss(AuditFact::kCpuFeatures);
        return 0;
    }
}

// clang-format off
constexpr AuditCheck kMsrLoadRows[] = {
    msr_load_check("msr-load-reserved", "bits 63:32 of an entry of the VM-entry MSR-load area must be 0", entry_reserved),
    msr_load_check("msr-load-segment-base", "the VM-entry MSR-load area must not have IA32_FS_BASE or IA32_GS_BASE", entry_segment_base),
    msr_load_check("msr-load-x2apic", "the VM-entry MSR-load area must not have an MSR of the x2APIC: 0x800 to 0x8ff", entry_x2apic),
    msr_load_check("msr-load-smm", "the VM-entry MSR-load area must not have IA32_SMM_MONITOR_CTL outside SMM", entry_smm),
    msr_load_check("msr-load-microcode", "the VM-entry MSR-load area must not have an MSR of microcode updates", entry_microcode),
    msr_load_check("msr-load-writable", "WRMSR must take each entry of the VM-entry MSR-load area", entry_writable),
};
// clang-format on

} // namespace

constinit const Span<const AuditCheck> kMsrLoadChecks{kMsrLoadRows};

} // namespace minivmx::audit
