// SPDX-License-Identifier: GPL-2.0-only
// A vCPU from nothing to its reset state: the document's vmx_create_vcpu -> init_vmcs, and
// kvm_arch_vcpu_postcreate's part.
#include <minivmx/capabilities.hpp>
#include <minivmx/control_shadow.hpp>
#include <minivmx/dirty_log.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

// SDM Vol. 3C, 25.4.2: the link pointer is all ones unless VMCS shadowing is in use.
constexpr u64 kNoLinkedVmcs = ~0ull;

void write_controls(vcpu_vmx &vmx)
{
    const VcpuControlInputs in = vcpu_control_inputs(vmx);
    loaded_vmcs &v = vmx.vmcs01;

    pin_controls_set(v, vmx_pin_based_exec_ctrl(hardware, in));
    exec_controls_set(v, vmx_exec_control(hardware, in));
    if (cpu_has_secondary_exec_ctrls(hardware.config))
        secondary_exec_controls_set(v, vmx_secondary_exec_control(hardware, in));
    else
        v.shadow.secondary_exec = 0; // there is no such field; its controls are all off
    if (cpu_has_tertiary_exec_ctrls(hardware.config))
        tertiary_exec_controls_set(v, vmx_tertiary_exec_control(hardware, in));
    else
        v.shadow.tertiary_exec = 0;
    vm_exit_controls_set(v, vmx_vmexit_ctrl(hardware));
    vm_entry_controls_set(v, vmx_vmentry_ctrl(hardware));
}

// What the controls just written point to. A field exists only on CPUs that have its control.
void write_control_operands(vcpu_vmx &vmx)
{
    if (vmx.msr_bitmap)
        vmcs_write(MSR_BITMAP, host_page_phys(vmx.msr_bitmap));
    vmcs_write(VMCS_LINK_POINTER, kNoLinkedVmcs);
    if (hardware.params.ept)
        vmcs_write(EPT_POINTER, ept_pointer(vmx.kvm->ept));
    if (vmx.vpid)
        vmcs_write(VIRTUAL_PROCESSOR_ID, vmx.vpid);
    if (secondary_exec_controls_get(vmx.vmcs01) & SECONDARY_EXEC_PAUSE_LOOP_EXITING) {
        vmcs_write(PLE_GAP, hardware.params.ple_gap);
        vmcs_write(PLE_WINDOW, hardware.params.ple_window);
    }
    write_pml_fields(vmx);
    if (cpu_has_vmx_vmfunc(hardware.config))
        vmcs_write(VM_FUNCTION_CONTROL, 0);
    if (cpu_has_vmx_xsaves(hardware.config))
        vmcs_write(XSS_EXIT_BITMAP, 0);
    if (cpu_has_vmx_encls_vmexit(hardware.config))
        vmcs_write(ENCLS_EXITING_BITMAP, ~0ull);
    if (cpu_has_vmx_tpr_shadow(hardware.config)) {
        vmcs_write(VIRTUAL_APIC_PAGE_ADDR,
                   cpu_need_tpr_shadow(vmx) ? host_page_phys(vmx.apic->page) : 0);
        vmcs_write(TPR_THRESHOLD, 0);
    }
    if (cpu_need_virtualize_apic_accesses(vmx))
        vmcs_write(APIC_ACCESS_ADDR, apic_access_page_phys(*vmx.kvm));
    // Loaded at each entry (SDM Vol. 3C, 25.5.1): as far away as it goes, since nothing is timed
    // with it.
    if (pin_controls_get(vmx.vmcs01) & PIN_BASED_VMX_PREEMPTION_TIMER)
        vmcs_write(VMX_PREEMPTION_TIMER_VALUE, ~0u);
    vmcs_write(CR3_TARGET_COUNT, 0);
    vmcs_write(VM_EXIT_MSR_STORE_COUNT, 0);
    vmcs_write(VM_EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write(VM_ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write(VM_ENTRY_INTR_INFO_FIELD, 0);
}

// Host state that stays as it is while the module is loaded. What moves with the CPU is written by
// vmx_vcpu_load(), what moves with the task before each entry. SDM Vol. 3C, 27.2.2 and 27.2.3 have
// the checks that these values must pass.
void write_constant_host_state(vcpu_vmx &vmx)
{
    host_cpu_state state;
    host_get_cpu_state(&state);

    vmcs_write(HOST_CR0, state.cr0);
    vmcs_write(HOST_CS_SELECTOR, state.cs_sel);
    vmcs_write(HOST_SS_SELECTOR, state.ss_sel);
    vmcs_write(HOST_TR_SELECTOR, state.tr_sel);
    // Null is what 64-bit user code has in them, too, so the host mostly has nothing to bring back.
    vmcs_write(HOST_DS_SELECTOR, 0);
    vmcs_write(HOST_ES_SELECTOR, 0);
    vmcs_write(HOST_FS_SELECTOR, 0);
    vmcs_write(HOST_GS_SELECTOR, 0);
    vmcs_write(HOST_FS_BASE, 0);
    vmcs_write(HOST_GS_BASE, 0);
    vmcs_write(HOST_IDTR_BASE, state.idt_base);
    vmcs_write(HOST_RIP, state.exit_rip);
    vmcs_write(HOST_IA32_SYSENTER_CS, state.sysenter_cs);
    vmcs_write(HOST_IA32_SYSENTER_EIP, state.sysenter_eip);
    if (hardware.config.vmexit_ctrl & VM_EXIT_LOAD_IA32_PAT)
        vmcs_write(HOST_IA32_PAT, state.pat);
    if (cpu_has_load_ia32_efer(hardware.config))
        vmcs_write(HOST_IA32_EFER, state.efer);
    vmx.vmcs01.host_state = {};
    vmx.area->host_rsp = 0;
}

void write_guest_msr_fields(vcpu_vmx &vmx)
{
    vmcs_write(GUEST_SYSENTER_CS, 0);
    vmcs_write(GUEST_SYSENTER_ESP, 0);
    vmcs_write(GUEST_SYSENTER_EIP, 0);
    vmcs_write(GUEST_IA32_DEBUGCTL, 0);
    if (hardware.config.vmentry_ctrl & VM_ENTRY_LOAD_IA32_PAT)
        vmcs_write(GUEST_IA32_PAT, vmx.msrs.pat);
    if (hardware.config.vmentry_ctrl & VM_ENTRY_LOAD_BNDCFGS)
        vmcs_write(GUEST_BNDCFGS, 0);
}

int alloc_loaded_vmcs(vcpu_vmx &vmx)
{
    loaded_vmcs &v = vmx.vmcs01;
    v.owner = &vmx;
    v.cpu = kNoCpu;
    v.vmcs = host_page_alloc();
    if (!v.vmcs)
        return -ENOMEM;
    v.phys = host_page_phys(v.vmcs);
    core_init_vmx_region(v.vmcs);
    // VMCLEAR brings a new VMCS into the state "clear" (SDM Vol. 3C, 25.11.3); VMPTRLD then finds
    // it valid.
    return arch::vmclear(v.phys) == arch::Vmx::kOk ? 0 : -EIO;
}

} // namespace

void init_vmcs(vcpu_vmx &vmx, const LoadedVmcsGuard &)
{
    // Nothing is known of a fresh VMCS's control words: make the shadows differ from whatever is
    // written.
    vmx.vmcs01.shadow = {~0u, ~0u, ~0u, ~0u, ~0u, ~0ull};
    write_controls(vmx);
    write_control_operands(vmx);
    write_constant_host_state(vmx);
    write_guest_msr_fields(vmx);

    vmx_update_exception_bitmap(vmx);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MASK, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
    set_cr_guest_host_masks(vmx);
}

void vmx_update_exception_bitmap(vcpu_vmx &vmx)
{
    const bool software_breakpoints = (vmx.debug.control & KVM_GUESTDBG_USE_SW_BP) != 0;
    vmcs_write(EXCEPTION_BITMAP,
               vmx_exception_bitmap(hardware, vmx.vm86_active, software_breakpoints,
                                    intercepted_exceptions(vmx)));
}

void update_secondary_exec_control(vcpu_vmx &vmx)
{
    if (cpu_has_secondary_exec_ctrls(hardware.config))
        secondary_exec_controls_set(vmx.vmcs01,
                                    vmx_secondary_exec_control(hardware, vcpu_control_inputs(vmx)));
}

void update_exec_controls(vcpu_vmx &vmx)
{
    u32 primary = vmx_exec_control(hardware, vcpu_control_inputs(vmx));
    if (runs_on_identity_map(vmx))
        primary |= CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING;
    exec_controls_set(vmx.vmcs01, primary);
    update_secondary_exec_control(vmx);
    // A window that was open for the hypervisor's own events is opened again where it has to be.
    if (vmx.has_apic)
        vmx.apic->attention = true;
}

void set_virtual_apic_mode(vcpu_vmx &vmx)
{
    update_secondary_exec_control(vmx);
    if (vmx.msr_bitmap)
        init_msr_bitmap(vmx);
    // The page at the APIC's address means something else now.
    mark_stale(vmx, StaleTranslations::kAll);
}

void vmx_vcpu_reset(vcpu_vmx &vmx, const LoadedVmcsGuard &guard)
{
    init_vmcs(vmx, guard);
    reset_guest_state(vmx);
    mark_stale(vmx, StaleTranslations::kAll);
}

namespace {

// With the interrupt controllers in the module the vCPU has its APIC here, and only the bootstrap
// processor starts by itself: SDM Vol. 3A, 9.4.
int create_apic(vcpu_vmx &vmx)
{
    vmx.mp_state = KVM_MP_STATE_RUNNABLE;
    if (irqchip_of(*vmx.kvm) == Irqchip::kNone)
        return 0;
    if (vmx.vcpu_id != vmx.kvm->boot_vcpu_id)
        vmx.mp_state = KVM_MP_STATE_UNINITIALIZED;
    const int error = lapic_create(vmx);
    if (error || !cpu_need_virtualize_apic_accesses(vmx))
        return error;
    return create_apic_access_page(*vmx.kvm);
}

// The place of the next vCPU: the number of places if none in between is empty. At most kMaxVcpus.
u32 free_vcpu_slot(const kvm_vm &kvm)
{
    if (kvm.created_vcpus == kvm.vcpu_slots) // none is
        return kvm.vcpu_slots;
    u32 slot = 0;
    while (slot < kvm.vcpu_slots && vcpu_at(kvm, slot))
        slot++;
    return slot;
}

// Makes room for one vCPU more. -EINVAL: there are too many.
int reserve_vcpu_slot(kvm_vm &kvm)
{
    const u32 slot = free_vcpu_slot(kvm);
    if (slot == kMaxVcpus)
        return -EINVAL;
    vcpu_vmx **&chunk = kvm.vcpus[slot / kVcpusPerChunk];
    if (!chunk)
        chunk = static_cast<vcpu_vmx **>(host_zalloc(kVcpusPerChunk * sizeof(vcpu_vmx *)));
    return chunk ? 0 : -ENOMEM;
}

void set_vcpu_at(kvm_vm &kvm, u32 slot, vcpu_vmx *vmx)
{
    __atomic_store_n(&kvm.vcpus[slot / kVcpusPerChunk][slot % kVcpusPerChunk], vmx,
                     __ATOMIC_RELEASE);
}

// From now on others find it.
void publish_vcpu(vcpu_vmx &vmx)
{
    kvm_vm &kvm = *vmx.kvm;
    const u32 slot = free_vcpu_slot(kvm);
    kvm.created_vcpus++;
    set_vcpu_at(kvm, slot, &vmx);
    if (slot == kvm.vcpu_slots)
        __atomic_store_n(&kvm.vcpu_slots, slot + 1, __ATOMIC_RELEASE);
}

// Nobody finds it any more. Interrupt messages and kvmclock look for vCPUs, so where the VM goes
// on, since only user space could not be given this one, they have to be done with it.
void withdraw_vcpu(vcpu_vmx &vmx)
{
    kvm_vm &kvm = *vmx.kvm;
    kvm.created_vcpus--;
    for (u32 slot = 0; slot < vcpu_count(kvm); slot++) {
        if (vcpu_at(kvm, slot) != &vmx)
            continue;
        set_vcpu_at(kvm, slot, nullptr);
        host_rcu_wait();
    }
}

int vmx_create_vcpu(vcpu_vmx &vmx)
{
    if (cpu_has_vmx_msr_bitmap(hardware.config)) {
        vmx.msr_bitmap = host_page_alloc_unset();
        if (!vmx.msr_bitmap)
            return -ENOMEM;
    }
    if (hardware.params.pml) {
        vmx.pml_buffer = host_page_alloc_unset();
        if (!vmx.pml_buffer)
            return -ENOMEM;
        // Logging may begin before other threads can see this vCPU: it looks once more when it
        // runs.
        vmx.area->requests |= VCPU_REQUEST_DIRTY_LOGGING;
    }
    vmx.vpid = allocate_vpid();
    init_guest_msrs(vmx);
    if (vmx.msr_bitmap)
        init_msr_bitmap(vmx);

    int error = create_apic(vmx);
    if (!error)
        error = create_identity_map(*vmx.kvm);
    if (!error)
        error = alloc_loaded_vmcs(vmx);
    if (error)
        return error;
    const LoadedVmcsGuard guard(vmx);
    vmx_vcpu_reset(vmx, guard);
    return 0;
}

void kvm_arch_vcpu_postcreate(vcpu_vmx &vmx)
{
    const LoadedVmcsGuard guard(vmx);
    start_guest_tsc(vmx);
}

void free_vcpu(vcpu_vmx &vmx)
{
    if (vmx.vmcs01.vmcs) {
        loaded_vmcs_clear(vmx.vmcs01);
        host_page_free(vmx.vmcs01.vmcs);
    }
    if (vmx.msr_bitmap)
        host_page_free(vmx.msr_bitmap);
    host_page_free(vmx.pml_buffer);
    free_vpid(vmx.vpid);
    lapic_destroy(vmx);
    free_intercepts(vmx);
    vmx.cpuid.release();
    host_free(vmx.entry_audit);
    host_free(&vmx);
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_vcpu_create(core_vm *vm, host_vcpu *host, vcpu_area *area, host_u32 id, core_vcpu **vcpu)
{
    int error = reserve_vcpu_slot(to_kvm(vm));
    if (error)
        return error;
    vcpu_vmx *vmx = static_cast<vcpu_vmx *>(host_zalloc(sizeof(vcpu_vmx)));
    if (!vmx)
        return -ENOMEM;
    vmx->kvm = &to_kvm(vm);
    vmx->host = host;
    vmx->area = area;
    vmx->vcpu_id = id;

    error = vmx_create_vcpu(*vmx);
    if (error) {
        free_vcpu(*vmx);
        return error;
    }
    kvm_arch_vcpu_postcreate(*vmx);
    mmu_vcpu_create(*vmx);
    publish_vcpu(*vmx);
    *vcpu = vmx;
    return 0;
}

void core_vcpu_destroy(core_vcpu *vcpu)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    withdraw_vcpu(vmx);
    mmu_vcpu_destroy(vmx);
    free_vcpu(vmx);
}

} // extern "C"
