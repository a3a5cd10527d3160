// SPDX-License-Identifier: GPL-2.0-only
// KVM's ioctls of the interrupt controllers and of devices. The host copied their arguments and
// holds the VM's mutex where host.h says so.
#include <minivmx/devices.hpp>
#include <minivmx/ioapic.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/pic.hpp>
#include <minivmx/pit.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

int enable_split_irqchip(kvm_vm &kvm, u64 pins)
{
    if (pins > kMaxIrqRoutes)
        return -EINVAL;
    if (irqchip_of(kvm) != Irqchip::kNone || kvm.created_vcpus)
        return -EEXIST;
    const int error = set_empty_irq_routing(kvm);
    if (error)
        return error;
    kvm.split_pins = static_cast<u32>(pins);
    set_irqchip(kvm, Irqchip::kSplit);
    return 0;
}

namespace {

// Gets or sets, as the functions do, the state of the controller that user space names.
template <class Request, class Pic, class Ioapic>
int with_chip(kvm_vm &kvm, Request &request, Pic pic, Ioapic ioapic)
{
    if (irqchip_of(kvm) != Irqchip::kKernel)
        return -ENXIO;
    switch (request.chip_id) {
    case KVM_IRQCHIP_PIC_MASTER:
    case KVM_IRQCHIP_PIC_SLAVE:
        pic(kvm, request.chip_id, request.chip.pic);
        return 0;
    case KVM_IRQCHIP_IOAPIC:
        ioapic(kvm, request.chip.ioapic);
        return 0;
    default:
        return -EINVAL;
    }
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

// ---- Interrupt controllers ------------------------------------------------------

int core_create_irqchip(core_vm *vm)
{
    kvm_vm &kvm = to_kvm(vm);
    if (irqchip_of(kvm) != Irqchip::kNone)
        return -EEXIST;
    if (kvm.created_vcpus)
        return -EINVAL;
    int error = pic_create(kvm);
    if (!error)
        error = ioapic_create(kvm);
    if (!error)
        error = set_default_irq_routing(kvm);
    if (error) {
        ioapic_destroy(kvm);
        pic_destroy(kvm);
        return error;
    }
    set_irqchip(kvm, Irqchip::kKernel);
    return 0;
}

bool core_irqchip_in_kernel(const core_vm *vm)
{
    return irqchip_of(static_cast<const kvm_vm &>(*vm)) == Irqchip::kKernel;
}

int core_get_irqchip(core_vm *vm, kvm_irqchip *chip)
{
    return with_chip(to_kvm(vm), *chip, pic_get_state, ioapic_get_state);
}

int core_set_irqchip(core_vm *vm, const kvm_irqchip *chip)
{
    return with_chip(to_kvm(vm), *chip, pic_set_state, ioapic_set_state);
}

bool core_irqchip_ready(const core_vm *vm)
{
    return irqchip_of(static_cast<const kvm_vm &>(*vm)) != Irqchip::kNone;
}

// ---- Interrupts -----------------------------------------------------------------

int core_set_irq(core_vm *vm, enum host_irq_source source, host_u32 gsi, bool level,
                 bool line_status)
{
    return set_irq(to_kvm(vm),
                   source == HOST_IRQ_RESAMPLE ? IrqSource::kResample : IrqSource::kUser, gsi,
                   level, line_status);
}

int core_irq_line(core_vm *vm, kvm_irq_level *line, bool line_status)
{
    kvm_vm &kvm = to_kvm(vm);
    if (irqchip_of(kvm) == Irqchip::kNone)
        return -ENXIO;
    line->status = set_irq(kvm, IrqSource::kUser, line->irq, line->level != 0, line_status);
    return 0;
}

int core_set_gsi_routing(core_vm *vm, const kvm_irq_routing_entry *entries, host_u32 count)
{
    kvm_vm &kvm = to_kvm(vm);
    if (irqchip_of(kvm) == Irqchip::kNone)
        return -EINVAL;
    return set_irq_routing(kvm, entries, count);
}

int core_signal_msi(core_vm *vm, const kvm_msi *msi)
{
    kvm_vm &kvm = to_kvm(vm);
    if (irqchip_of(kvm) == Irqchip::kNone || (msi->flags & ~u32{KVM_MSI_VALID_DEVID}))
        return -EINVAL;
    const int taken = send_msi(kvm, msi->address_lo, msi->address_hi, msi->data);
    // Nobody is an error only where there is nobody at all, as in KVM.
    return taken == -1 && vcpu_count(kvm) != 0 ? 0 : taken;
}

// ---- The PIT ----------------------------------------------------------------------

int core_create_pit(core_vm *vm, host_u32 flags)
{
    return pit_create(to_kvm(vm), flags);
}

int core_get_pit(core_vm *vm, kvm_pit_state2 *state)
{
    kvm_vm &kvm = to_kvm(vm);
    if (!pit_of(kvm))
        return -ENXIO;
    pit_get_state(kvm, *state);
    return 0;
}

int core_set_pit(core_vm *vm, const kvm_pit_state2 *state)
{
    kvm_vm &kvm = to_kvm(vm);
    if (!pit_of(kvm))
        return -ENXIO;
    pit_set_state(kvm, *state);
    return 0;
}

int core_reinject_control(core_vm *vm, bool reinject)
{
    kvm_vm &kvm = to_kvm(vm);
    if (!pit_of(kvm))
        return -ENXIO;
    pit_set_reinject(kvm, reinject);
    return 0;
}

// ---- Devices ------------------------------------------------------------------------

int core_check_ioeventfd(const kvm_ioeventfd *args)
{
    return check_ioeventfd(*args);
}

int core_assign_ioeventfd(core_vm *vm, const kvm_ioeventfd *args, host_eventfd *eventfd)
{
    return assign_ioeventfd(to_kvm(vm), *args, eventfd);
}

int core_deassign_ioeventfd(core_vm *vm, const kvm_ioeventfd *args, const host_eventfd *eventfd)
{
    return deassign_ioeventfd(to_kvm(vm), *args, eventfd);
}

int core_register_coalesced(core_vm *vm, const kvm_coalesced_mmio_zone *zone)
{
    return register_coalesced(to_kvm(vm), *zone);
}

int core_unregister_coalesced(core_vm *vm, const kvm_coalesced_mmio_zone *zone)
{
    return unregister_coalesced(to_kvm(vm), *zone);
}

void *core_coalesced_ring(core_vm *vm)
{
    return coalesced_ring(to_kvm(vm));
}

} // extern "C"
