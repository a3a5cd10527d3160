// SPDX-License-Identifier: GPL-2.0-only
// Which VMCS is loaded where, and VMX operation of each CPU.
//
// A CPU may hold a VMCS's data in its own caches from VMPTRLD until VMCLEAR (SDM Vol. 3C, 25.11.1),
// so a VMCS is cleared on the CPU that loaded it before another CPU loads it, its page is freed, or
// that CPU leaves VMX operation.
#include <minivmx/hardware.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vmcs.hpp>

#include <minivmx/text.hpp>

namespace minivmx {

namespace {

// Each CPU touches only its own entry, with interrupts off; the emergency path reads it on a CPU
// that is stopping.
struct alignas(64) CpuState {
    loaded_vmcs *current; // what VMPTRLD loaded last
    loaded_vmcs *loaded;  // every VMCS not cleared since it was loaded here
    bool in_vmx_operation;
};

constinit CpuState *cpu_table = nullptr;
constinit bool access_failure_told = false;

void clear_on_this_cpu(void *argument)
{
    loaded_vmcs &v = *static_cast<loaded_vmcs *>(argument);
    if (v.cpu != host_cpu())
        return; // the CPU went offline, or suspended, and cleared it then

    CpuState &here = cpu_table[v.cpu];
    (void)arch::vmclear(v.phys);
    for (loaded_vmcs **link = &here.loaded; *link; link = &(*link)->next) {
        if (*link == &v) {
            __atomic_store_n(link, v.next, __ATOMIC_RELEASE);
            break;
        }
    }
    if (here.current == &v)
        here.current = nullptr;
    v.owner->area->launched = 0;
    v.next = nullptr;
    // Last, and released: vmx_vcpu_load() on another CPU takes kNoCpu as "the list is done with
    // it".
    __atomic_store_n(&v.cpu, kNoCpu, __ATOMIC_RELEASE);
}

void write_host_cpu_state()
{
    host_cpu_state state;
    host_get_cpu_state(&state);
    vmcs_write(HOST_TR_BASE, state.tr_base);
    vmcs_write(HOST_GDTR_BASE, state.gdt_base);
    vmcs_write(HOST_IA32_SYSENTER_ESP, state.sysenter_esp);
}

[[gnu::cold]] void report_vmcs_access_failure(const char *access, u32 encoding, arch::Vmx outcome)
{
    if (access_failure_told)
        return;
    access_failure_told = true;
    Line line;
    line.put(access, " VMCS field ", hex(encoding, 4));
    line.put(outcome == arch::Vmx::kFaulted       ? " faulted: this CPU is not in VMX operation"
             : outcome == arch::Vmx::kFailInvalid ? " failed: no VMCS is loaded on this CPU"
                                                  : " failed: this CPU does not have the field");
    host_log(HOST_LOG_ERROR, line.c_str());
}

} // namespace

int cpu_table_alloc()
{
    cpu_table = static_cast<CpuState *>(host_zalloc(sizeof(CpuState) * host_cpu_limit()));
    return cpu_table ? 0 : -ENOMEM;
}

void cpu_table_free()
{
    host_free(cpu_table);
    cpu_table = nullptr;
}

[[gnu::cold]] void report_vmcs_read_failure(u32 encoding)
{
    u64 value;
    report_vmcs_access_failure("VMREAD of", encoding, arch::vmread(encoding, value));
}

[[gnu::cold]] void report_vmcs_write_failure(u32 encoding, u64 value)
{
    report_vmcs_access_failure("VMWRITE to", encoding, arch::vmwrite(encoding, value));
}

void flush_all_contexts()
{
    // SDM Vol. 3C, 31.3, INVEPT and INVVPID: type 2 invalidates all contexts in both.
    constexpr u64 kAllContexts = 2;
    const EptCapability ept = hardware.capability.ept_cap();
    const VpidCapability vpid = hardware.capability.vpid_cap();
    if (ept.invept() && ept.invept_all())
        (void)arch::invept(kAllContexts, {0, 0});
    if (vpid.invvpid() && vpid.invvpid_all())
        (void)arch::invvpid(kAllContexts, {0, 0});
}

void loaded_vmcs_clear(loaded_vmcs &v)
{
    const u32 cpu = __atomic_load_n(&v.cpu, __ATOMIC_ACQUIRE);
    if (cpu != kNoCpu)
        host_call_on_cpu(cpu, clear_on_this_cpu, &v);
}

void vmclear_local_loaded_vmcss()
{
    CpuState &here = cpu_table[host_cpu()];
    while (here.loaded)
        clear_on_this_cpu(here.loaded);
}

void vmx_vcpu_load(vcpu_vmx &vmx, u32 cpu)
{
    loaded_vmcs &v = vmx.vmcs01;
    CpuState &here = cpu_table[cpu];
    const bool moved = v.cpu != cpu;

    if (moved) {
        loaded_vmcs_clear(v);
        const u64 flags = host_irq_save();
        v.next = here.loaded;
        // Whole before it is in the list: an NMI that ends the machine may walk it at any moment.
        __atomic_store_n(&here.loaded, &v, __ATOMIC_RELEASE);
        v.cpu = cpu;
        host_irq_restore(flags);
    }
    if (here.current != &v) {
        (void)arch::vmptrld(v.phys);
        here.current = &v;
        host_branch_predictor_barrier();
    }
    if (moved) {
        write_host_cpu_state();
        // This CPU may still hold translations from when the vCPU was here before.
        mark_stale(vmx, StaleTranslations::kAll);
    }
}

LoadedVmcsGuard::LoadedVmcsGuard(vcpu_vmx &vmx)
{
    host_preempt_disable();
    vmx_vcpu_load(vmx, host_cpu());
}

LoadedVmcsGuard::~LoadedVmcsGuard()
{
    host_preempt_enable();
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_cpu_vmxon(void *region)
{
    CpuState &here = cpu_table[host_cpu()];
    core_init_vmx_region(region);
    if (arch::vmxon(host_page_phys(region)) != arch::Vmx::kOk)
        return -EIO; // VMX is locked off on this CPU, or something else is in VMX operation
    here = {};
    here.in_vmx_operation = true;
    // Another hypervisor may have used the same VPIDs and EPT pointers here: SDM Vol. 3C, 29.4.3.3.
    flush_all_contexts();
    return 0;
}

void core_cpu_vmxoff(void)
{
    CpuState &here = cpu_table[host_cpu()];
    if (!here.in_vmx_operation)
        return;
    vmclear_local_loaded_vmcss();
    here.in_vmx_operation = false;
    (void)arch::vmxoff();
}

void core_cpu_emergency_off(void)
{
    if (!cpu_table)
        return;
    CpuState &here = cpu_table[host_cpu()];
    if (!here.in_vmx_operation)
        return;
    // Only the hardware matters now; the lists are left as they are, since what was interrupted may
    // be changing them.
    for (loaded_vmcs *v = here.loaded; v; v = v->next)
        (void)arch::vmclear(v->phys);
    here.in_vmx_operation = false;
    (void)arch::vmxoff();
}

void core_vcpu_load(core_vcpu *vcpu, host_u32 cpu)
{
    vcpu_vmx &vmx = to_vmx(vcpu);
    // Mostly it comes back before another one did. The CPU's TSC has gone on evenly meanwhile: a
    // sleep of the machine would have cleared the VMCS.
    if (cpu_table[cpu].current == &vmx.vmcs01) [[likely]]
        return;
    const bool moved = vmx.vmcs01.cpu != cpu;
    vmx_vcpu_load(vmx, cpu);
    time_vcpu_load(vmx, moved);
}

void core_vcpu_put(core_vcpu *vcpu)
{
    time_vcpu_put(to_vmx(vcpu));
    // The VMCS stays loaded: if the vCPU comes back to this CPU, as it mostly does, loading it
    // costs nothing.
}

} // extern "C"
