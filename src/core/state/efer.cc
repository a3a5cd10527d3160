// SPDX-License-Identifier: GPL-2.0-only
// IA32_EFER, and the MSRs that hold the guest's values while it runs. SDM Vol. 3A, 2.2.1.
#include <minivmx/capabilities.hpp>
#include <minivmx/control_shadow.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

// What VM entry loads where it can: LME counts only together with LMA, the CPU sets both from the
// entry control "IA-32e mode guest" (SDM Vol. 3C, 27.3.2.1).
u64 efer_while_running(const vcpu_vmx &vmx)
{
    u64 efer = vmx.efer;
    if (!hardware.params.ept)
        efer |= EFER_NX; // shadow page tables use it
    if (!(efer & EFER_LMA))
        efer &= ~EFER_LME;
    return efer;
}

// Loading EFER at entry and exit costs time, so only while guest and host differ.
void switch_by_entry_and_exit(vcpu_vmx &vmx)
{
    const u64 efer = efer_while_running(vmx);
    if (efer == hardware.info.efer) {
        vm_entry_controls_clearbit<VM_ENTRY_LOAD_IA32_EFER>(vmx.vmcs01);
        vm_exit_controls_clearbit<VM_EXIT_LOAD_IA32_EFER>(vmx.vmcs01);
        return;
    }
    vmcs_write(GUEST_IA32_EFER, efer);
    vm_entry_controls_setbit<VM_ENTRY_LOAD_IA32_EFER>(vmx.vmcs01);
    vm_exit_controls_setbit<VM_EXIT_LOAD_IA32_EFER>(vmx.vmcs01);
}

// On CPUs whose VM entry can't load EFER (none of them has EPT), the guest's SCE is loaded like the
// other MSRs of SYSCALL, and only where SYSCALL exists: in IA-32e mode. LMA and LME are the entry
// control's, and NX has to stay as the host has it: the kernel's own page tables use it.
void switch_in_software(vcpu_vmx &vmx)
{
    vmx.area->uret[URET_EFER] = vmx.efer;
    vmx.area->uret_mask[URET_EFER] = vmx.efer & EFER_LMA ? EFER_SCE : 0;
}

void switch_msr(vcpu_vmx &vmx, vcpu_uret_msr msr, bool on)
{
    vmx.area->uret_mask[msr] = on ? ~0ull : 0;
}

} // namespace

void update_switched_msrs(vcpu_vmx &vmx)
{
    // SYSCALL's MSRs mean something only in IA-32e mode with SCE set. CSTAR is AMD's alone: an
    // Intel CPU never reads it.
    const bool syscall = (vmx.efer & EFER_LMA) != 0 && (vmx.efer & EFER_SCE) != 0;
    switch_msr(vmx, URET_STAR, syscall);
    switch_msr(vmx, URET_LSTAR, syscall);
    switch_msr(vmx, URET_SYSCALL_MASK, syscall);
    switch_msr(vmx, URET_TSC_AUX,
               vmx.cpuid.has(CpuidFeature::kRdtscp) || vmx.cpuid.has(CpuidFeature::kRdpid));
    if (cpu_has_load_ia32_efer(hardware.config))
        switch_by_entry_and_exit(vmx);
    else
        switch_in_software(vmx);
    vmx.area->uret_dirty = 1;
}

void write_efer(vcpu_vmx &vmx, u64 efer)
{
    if (!hardware.params.ept && (vmx.efer ^ efer) & (EFER_NX | EFER_LMA))
        paging_mode_changed(vmx);
    vmx.efer = efer;
    if (efer & EFER_LMA)
        vm_entry_controls_setbit<VM_ENTRY_IA32E_MODE>(vmx.vmcs01);
    else
        vm_entry_controls_clearbit<VM_ENTRY_IA32E_MODE>(vmx.vmcs01);
    update_switched_msrs(vmx);
}

// WRMSR to EFER: SDM Vol. 3A, 2.2.1 and 10.8.5. LME may not change while paging is on; LMA is
// read-only.
bool set_efer(vcpu_vmx &vmx, u64 value)
{
    const u64 defined =
        EFER_SCE | EFER_LME | EFER_LMA | (supports(CpuidFeature::kNx) ? EFER_NX : 0);
    if (value & ~defined)
        return false;
    // What the guest's CPUID and its state say doesn't bind the VMM.
    if (vmx.msr_access_by_host) {
        write_efer(vmx, (value & ~EFER_LMA) | (vmx.efer & EFER_LMA));
        return true;
    }
    if (value & (EFER_LME | EFER_LMA) && !vmx.cpuid.has(CpuidFeature::kLm))
        return false;
    if (value & EFER_NX && !vmx.cpuid.has(CpuidFeature::kNx))
        return false;
    if (is_paging(vmx) && (vmx.efer ^ value) & EFER_LME)
        return false;
    write_efer(vmx, (value & ~EFER_LMA) | (vmx.efer & EFER_LMA));
    return true;
}

} // namespace minivmx
