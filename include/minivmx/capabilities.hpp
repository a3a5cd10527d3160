// SPDX-License-Identifier: GPL-2.0-only
//
// Questions to the negotiated configuration, under kvm_intel's names.
#pragma once

#include <minivmx/control_bits.hpp>
#include <minivmx/vmcs_config.hpp>

namespace minivmx {

inline bool cpu_has_vmx_tpr_shadow(const vmcs_config &c)
{
    return (c.cpu_based_exec_ctrl & CPU_BASED_TPR_SHADOW) != 0;
}
inline bool cpu_has_vmx_msr_bitmap(const vmcs_config &c)
{
    return (c.cpu_based_exec_ctrl & CPU_BASED_USE_MSR_BITMAPS) != 0;
}
inline bool cpu_has_secondary_exec_ctrls(const vmcs_config &c)
{
    return (c.cpu_based_exec_ctrl & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) != 0;
}
inline bool cpu_has_tertiary_exec_ctrls(const vmcs_config &c)
{
    return (c.cpu_based_exec_ctrl & CPU_BASED_ACTIVATE_TERTIARY_CONTROLS) != 0;
}
/// NMI-window exiting comes with virtual NMIs or not at all (SDM Vol. 3C, 27.2.1.1); a CPU that
/// has only one of them can't use either.
inline bool cpu_has_virtual_nmis(const vmcs_config &c)
{
    return (c.pin_based_exec_ctrl & PIN_BASED_VIRTUAL_NMIS) != 0 &&
           (c.cpu_based_exec_ctrl & CPU_BASED_NMI_WINDOW_EXITING) != 0;
}
inline bool cpu_has_vmx_preemption_timer(const vmcs_config &c)
{
    return (c.pin_based_exec_ctrl & PIN_BASED_VMX_PREEMPTION_TIMER) != 0;
}
inline bool cpu_has_vmx_posted_intr(const vmcs_config &c)
{
    return (c.pin_based_exec_ctrl & PIN_BASED_POSTED_INTR) != 0;
}
inline bool cpu_has_load_ia32_efer(const vmcs_config &c)
{
    return (c.vmentry_ctrl & VM_ENTRY_LOAD_IA32_EFER) != 0;
}
inline bool cpu_has_load_perf_global_ctrl(const vmcs_config &c)
{
    return (c.vmentry_ctrl & VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL) != 0;
}

/// Whether a bit of the secondary word was negotiated.
inline bool cpu_has_secondary(const vmcs_config &c, u32 bit)
{
    return (c.cpu_based_2nd_exec_ctrl & bit) != 0;
}
inline bool cpu_has_vmx_virtualize_apic_accesses(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
}
inline bool cpu_has_vmx_ept(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_EPT);
}
inline bool vmx_umip_emulated(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_DESC);
}
inline bool cpu_has_vmx_rdtscp(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_RDTSCP);
}
inline bool cpu_has_vmx_virtualize_x2apic_mode(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE);
}
inline bool cpu_has_vmx_vpid(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_VPID);
}
inline bool cpu_has_vmx_wbinvd_exit(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_WBINVD_EXITING);
}
inline bool cpu_has_vmx_unrestricted_guest(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_UNRESTRICTED_GUEST);
}
inline bool cpu_has_vmx_ple(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_PAUSE_LOOP_EXITING);
}
inline bool cpu_has_vmx_rdrand(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_RDRAND_EXITING);
}
inline bool cpu_has_vmx_invpcid(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_INVPCID);
}
inline bool cpu_has_vmx_vmfunc(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_VMFUNC);
}
inline bool cpu_has_vmx_encls_vmexit(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENCLS_EXITING);
}
inline bool cpu_has_vmx_rdseed(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_RDSEED_EXITING);
}
inline bool cpu_has_vmx_pml(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_PML);
}
inline bool cpu_has_vmx_xsaves(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_XSAVES);
}
inline bool cpu_has_vmx_waitpkg(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE);
}
inline bool cpu_has_vmx_tsc_scaling(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_TSC_SCALING);
}
inline bool cpu_has_vmx_bus_lock_detection(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_BUS_LOCK_DETECTION);
}
inline bool cpu_has_notify_vmexit(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_NOTIFY_VM_EXITING);
}
inline bool cpu_has_vmx_flexpriority(const vmcs_config &c)
{
    return cpu_has_vmx_tpr_shadow(c) && cpu_has_vmx_virtualize_apic_accesses(c);
}
inline bool cpu_has_vmx_apicv(const vmcs_config &c)
{
    return cpu_has_secondary(c, SECONDARY_EXEC_APIC_REGISTER_VIRT) &&
           cpu_has_secondary(c, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY) && cpu_has_vmx_posted_intr(c);
}

} // namespace minivmx
