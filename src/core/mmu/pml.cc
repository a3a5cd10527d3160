// SPDX-License-Identifier: GPL-2.0-only
// Page-modification logging: SDM Vol. 3C, 29.3.6.
#include <minivmx/dirty_log.hpp>

#include <minivmx/control_shadow.hpp>
#include <minivmx/hardware.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vcpu.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

// The CPU fills the buffer from its last entry down; the index is of the next free one, and out of
// range when there is none.
constexpr u32 kPmlEntries = 512;

} // namespace

bool uses_pml(const kvm_vm &kvm)
{
    return hardware.params.pml && __atomic_load_n(&kvm.logged_slots, __ATOMIC_RELAXED) != 0;
}

void start_logging_a_slot(kvm_vm &kvm)
{
    const u32 before = __atomic_fetch_add(&kvm.logged_slots, 1, __ATOMIC_SEQ_CST);
    // When this returns, no guest runs without its buffer: dirty flags may be cleared.
    if (before == 0 && hardware.params.pml)
        host_request_all(kvm.host, VCPU_REQUEST_DIRTY_LOGGING);
}

void stop_logging_a_slot(kvm_vm &kvm)
{
    const u32 before = __atomic_fetch_sub(&kvm.logged_slots, 1, __ATOMIC_SEQ_CST);
    if (before == 1 && hardware.params.pml)
        host_request_all(kvm.host, VCPU_REQUEST_DIRTY_LOGGING);
}

void update_dirty_logging(vcpu_vmx &vmx)
{
    if (!hardware.params.pml)
        return;
    // If the count changes again just now, another request follows.
    if (uses_pml(*vmx.kvm))
        secondary_exec_controls_setbit<SECONDARY_EXEC_ENABLE_PML>(vmx.vmcs01);
    else
        secondary_exec_controls_clearbit<SECONDARY_EXEC_ENABLE_PML>(vmx.vmcs01);
}

void write_pml_fields(vcpu_vmx &vmx)
{
    if (!vmx.pml_buffer)
        return;
    vmcs_write(PML_ADDRESS, host_page_phys(vmx.pml_buffer));
    vmcs_write(GUEST_PML_INDEX, kPmlEntries - 1);
}

void flush_pml_buffer(vcpu_vmx &vmx)
{
    if ((secondary_exec_controls_get(vmx.vmcs01) & SECONDARY_EXEC_ENABLE_PML) == 0)
        return;
    const u32 index = vmcs_read(GUEST_PML_INDEX);
    if (index == kPmlEntries - 1)
        return;
    const u64 *buffer = static_cast<const u64 *>(vmx.pml_buffer);
    const SlotsReader slots{vmx};
    for (u32 i = index >= kPmlEntries ? 0 : index + 1; i < kPmlEntries; i++) {
        const u64 gfn = buffer[i] >> 12;
        // A page of a slot that isn't logged, or went meanwhile, has nothing to mark.
        if (const MemSlot *slot = slots.find(gfn))
            mark_page_dirty(*slot, gfn);
    }
    vmcs_write(GUEST_PML_INDEX, kPmlEntries - 1);
}

Outcome handle_pml_full(vcpu_vmx &vmx)
{
    recover_nmi_blocking_of_access(vmx);
    return Outcome::resume(); // it was emptied right after the exit
}

} // namespace minivmx
