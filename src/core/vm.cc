// SPDX-License-Identifier: GPL-2.0-only
// A virtual machine's beginning and end, and what is set for it as a whole.
#include <minivmx/devices.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/ioapic.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/pic.hpp>
#include <minivmx/pit.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/state.hpp>
#include <minivmx/vm.hpp>
#include <minivmx/x86.hpp>

using namespace minivmx;

extern "C" {

int core_vm_create(host_vm *host, core_vm **vm)
{
    kvm_vm *kvm = static_cast<kvm_vm *>(host_zalloc(sizeof(kvm_vm)));
    if (!kvm)
        return -ENOMEM;
    kvm->host = host;
    // Without a gap to measure by there is no PAUSE loop to detect.
    kvm->pause_in_guest = hardware.params.ple_gap == 0;
    int error = time_create(*kvm);
    if (error)
        goto out_free;
    error = devices_create(*kvm);
    if (error)
        goto out_time;
    error = ept_create(*kvm, ept_features());
    if (error)
        goto out_devices;
    error = shadow_create(*kvm);
    if (error)
        goto out_ept;
    *vm = kvm;
    return 0;

out_ept:
    ept_destroy(*kvm);
out_devices:
    devices_destroy(*kvm);
out_time:
    time_destroy(*kvm);
out_free:
    host_free(kvm);
    return error;
}

void core_vm_stop_timers(core_vm *vm)
{
    pit_destroy(to_kvm(vm));
    ioapic_stop_timer(to_kvm(vm));
    to_kvm(vm).vcpu_slots = 0; // who would look for a vCPU is gone
}

void core_vm_destroy(core_vm *vm)
{
    kvm_vm &kvm = to_kvm(vm);
    pit_destroy(kvm);
    ioapic_destroy(kvm);
    pic_destroy(kvm);
    destroy_irq_routing(kvm);
    devices_destroy(kvm);
    shadow_destroy(kvm);
    ept_destroy(kvm);
    destroy_private_pages(kvm);
    destroy_memory_slots(kvm);
    msr_filter_destroy(kvm);
    time_destroy(kvm);
    free_vcpu_slots(kvm);
    host_free(&kvm);
}

int core_set_tss_addr(core_vm *vm, host_u64 address)
{
    // Three pages below 4 GiB; used only where real mode has to run in virtual-8086 mode.
    if (address > (1ull << 32) - 3 * kPageSize)
        return -EINVAL;
    return create_real_mode_tss(to_kvm(vm), address);
}

int core_set_boot_cpu_id(core_vm *vm, host_u64 id)
{
    kvm_vm &kvm = to_kvm(vm);
    if (kvm.created_vcpus)
        return -EBUSY;
    kvm.boot_vcpu_id = static_cast<u32>(id);
    return 0;
}

int core_check_vcpu_id(core_vm *vm, host_u32 id)
{
    kvm_vm &kvm = to_kvm(vm);
    if (kvm.max_vcpu_ids == 0)
        kvm.max_vcpu_ids = kMaxVcpuIds;
    return id < kvm.max_vcpu_ids ? 0 : -EINVAL;
}

int core_set_identity_map_addr(core_vm *vm, host_u64 address)
{
    kvm_vm &kvm = to_kvm(vm);
    if (kvm.created_vcpus)
        return -EINVAL;
    kvm.identity_map_addr = address;
    return 0;
}

} // extern "C"
