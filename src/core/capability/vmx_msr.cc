// SPDX-License-Identifier: GPL-2.0-only
#include <minivmx/vmx_msr.hpp>

namespace minivmx {

namespace {

constexpr const char *kVmxMsrNames[kVmxMsrCount] = {
    "IA32_VMX_BASIC",           "IA32_VMX_PINBASED_CTLS",      "IA32_VMX_PROCBASED_CTLS",
    "IA32_VMX_EXIT_CTLS",       "IA32_VMX_ENTRY_CTLS",         "IA32_VMX_MISC",
    "IA32_VMX_CR0_FIXED0",      "IA32_VMX_CR0_FIXED1",         "IA32_VMX_CR4_FIXED0",
    "IA32_VMX_CR4_FIXED1",      "IA32_VMX_VMCS_ENUM",          "IA32_VMX_PROCBASED_CTLS2",
    "IA32_VMX_EPT_VPID_CAP",    "IA32_VMX_TRUE_PINBASED_CTLS", "IA32_VMX_TRUE_PROCBASED_CTLS",
    "IA32_VMX_TRUE_EXIT_CTLS",  "IA32_VMX_TRUE_ENTRY_CTLS",    "IA32_VMX_VMFUNC",
    "IA32_VMX_PROCBASED_CTLS3", "IA32_VMX_EXIT_CTLS2",
};

} // namespace

const char *msr_name(u32 msr)
{
    if (msr == MSR_IA32_FEATURE_CONTROL)
        return "IA32_FEATURE_CONTROL";
    if (msr >= kFirstVmxMsr && msr <= kLastVmxMsr)
        return kVmxMsrNames[msr - kFirstVmxMsr];
    return "MSR";
}

void VmxMsrs::read_all(const MsrReader &reader)
{
    *this = VmxMsrs{};
    u64 value = 0;
    if (reader.read(reader.context, MSR_IA32_FEATURE_CONTROL, &value))
        set(MSR_IA32_FEATURE_CONTROL, value);
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
        if (reader.read(reader.context, msr, &value))
            set(msr, value);
    }
}

} // namespace minivmx
