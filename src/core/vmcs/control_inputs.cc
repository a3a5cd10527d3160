// SPDX-License-Identifier: GPL-2.0-only
// What decides over one vCPU's control words, its words as they are, and its exception bitmap.
#include <minivmx/dirty_log.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

bool cpu_need_tpr_shadow(const vcpu_vmx &vmx)
{
    // A TPR shadow shows the guest the TPR of an APIC that the hypervisor holds.
    return hardware.config.cpu_based_exec_ctrl & CPU_BASED_TPR_SHADOW && vmx.has_apic;
}

bool cpu_need_virtualize_apic_accesses(const vcpu_vmx &vmx)
{
    return hardware.params.flexpriority && vmx.has_apic;
}

bool kvm_vcpu_apicv_active(const vcpu_vmx &vmx)
{
    return vmx.has_apic && vmx.apicv_active;
}

VcpuControlInputs vcpu_control_inputs(const vcpu_vmx &vmx)
{
    const Cpuid &cpuid = vmx.cpuid;
    return {
        .debugreg_wont_exit = (vmx.area->switch_db_regs & KVM_DEBUGREG_WONT_EXIT) != 0,
        .need_tpr_shadow = cpu_need_tpr_shadow(vmx),
        .virtualize_apic_accesses = cpu_need_virtualize_apic_accesses(vmx),
        .xapic_mode = vmx.has_apic && apic_mode(*vmx.apic) == ApicMode::kXapic,
        .x2apic_mode = vmx.has_apic && apic_mode(*vmx.apic) == ApicMode::kX2apic,
        .apicv_active = kvm_vcpu_apicv_active(vmx),
        .mwait_in_guest = vmx.kvm->mwait_in_guest,
        .hlt_in_guest = vmx.kvm->hlt_in_guest,
        .pause_in_guest = vmx.kvm->pause_in_guest,
        .has_vpid = vmx.vpid != 0,
        .dirty_logging = uses_pml(*vmx.kvm),
        .emulates_umip = umip_is_emulated() && (vmx.cr4 & X86_CR4_UMIP) != 0,
        .xsaves = cpuid.has(CpuidFeature::kXsave) && cpuid.has(CpuidFeature::kXsaves),
        .rdtscp = cpuid.has(CpuidFeature::kRdtscp),
        .rdpid = cpuid.has(CpuidFeature::kRdpid),
        .invpcid = cpuid.has(CpuidFeature::kInvpcid),
        .rdrand = cpuid.has(CpuidFeature::kRdrand),
        .rdseed = cpuid.has(CpuidFeature::kRdseed),
        .waitpkg = cpuid.has(CpuidFeature::kWaitpkg),
        .intercepts = vmx.intercepted_controls,
        .intercepts_ports = vmx.intercepts_ports,
    };
}

ControlWords vcpu_control_words(const vcpu_vmx &vmx)
{
    const controls_shadow &shadow = vmx.vmcs01.shadow;
    ControlWords words{};
    const auto put = [&](ControlField field, u64 value) {
        words.word[static_cast<unsigned>(field)] = value;
    };
    put(ControlField::kPin, shadow.pin);
    put(ControlField::kPrimary, shadow.exec);
    put(ControlField::kSecondary, shadow.secondary_exec);
    put(ControlField::kTertiary, shadow.tertiary_exec);
    put(ControlField::kExit, shadow.vm_exit);
    put(ControlField::kEntry, shadow.vm_entry);
    return words;
}

u32 vmx_exception_bitmap(const Hardware &hw, bool vm86_active, bool software_breakpoints,
                         u32 intercepted)
{
    // #UD: the guest may lack an instruction that the CPU has. #MC: is the host's. #DB and #AC: a
    // guest that makes their delivery raise them again would hold the CPU forever (CVE-2015-5307,
    // CVE-2015-8104). #PF: only to shadow the page tables.
    u32 bitmap = bit32(UD_VECTOR) | bit32(MC_VECTOR) | bit32(DB_VECTOR) | bit32(AC_VECTOR);
    if (software_breakpoints)
        bitmap |= bit32(BP_VECTOR);
    // In virtual-8086 mode every exception goes through the emulation of real mode.
    if (vm86_active)
        bitmap = ~0u;
    if (hw.params.ept)
        bitmap &= ~bit32(PF_VECTOR);
    else
        bitmap |= bit32(PF_VECTOR);
    return bitmap | intercepted;
}

} // namespace minivmx
