// SPDX-License-Identifier: GPL-2.0-only
// Which device of the module answers an access, and the rules of what user space may register.
#include "io_bus.hpp"

#include <minivmx/ioapic.hpp>
#include <minivmx/irqchip.hpp>
#include <minivmx/pic.hpp>
#include <minivmx/pit.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

// ---- Dispatch -----------------------------------------------------------------

bool kernel_mmio(vcpu_vmx &vmx, u64 gpa, bool write, void *data, u32 size)
{
    kvm_vm &kvm = *vmx.kvm;
    const Irqchip irqchip = irqchip_of(kvm);
    if (irqchip != Irqchip::kNone && lapic_mmio(vmx, gpa, write, data, size))
        return true;
    if (irqchip == Irqchip::kKernel && ioapic_mmio(kvm, gpa, write, data, size))
        return true;
    return write && bus_write(kvm, IoBusKind::kMmio, gpa, data, size);
}

bool kernel_pio(vcpu_vmx &vmx, u16 port, bool write, void *data, u32 size)
{
    kvm_vm &kvm = *vmx.kvm;
    if (irqchip_of(kvm) == Irqchip::kKernel && pic_port(kvm, port, write, data, size))
        return true;
    if (pit_port(kvm, port, write, data, size))
        return true;
    return write && bus_write(kvm, IoBusKind::kPio, port, data, size);
}

bool signal_by_pio(vcpu_vmx &vmx, u16 port, void *data, u32 size)
{
    return bus_signals(*vmx.kvm, IoBusKind::kPio, port, data, size) &&
           kernel_pio(vmx, port, true, data, size);
}

// ---- Ioeventfds ---------------------------------------------------------------

namespace {

IoBusKind ioeventfd_bus(const kvm_ioeventfd &args)
{
    return args.flags & KVM_IOEVENTFD_FLAG_PIO ? IoBusKind::kPio : IoBusKind::kMmio;
}

// What KVM_IOEVENTFD asks for, as a range.
IoRange ioeventfd_range(const kvm_ioeventfd &args)
{
    const bool match_data = args.flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
    return {
        .addr = args.addr,
        .last = args.len ? args.addr + args.len - 1 : args.addr,
        .max_last = 0,
        .datamatch = match_data ? args.datamatch : 0,
        .eventfd = nullptr,
        .len = args.len,
        .match_data = match_data,
    };
}

// Whether one write could be meant for both.
bool ioeventfds_collide(const IoRange &a, const IoRange &b)
{
    if (!a.eventfd || !b.eventfd || a.addr != b.addr)
        return false;
    if (a.len == 0 || b.len == 0)
        return true;
    return a.len == b.len && (!a.match_data || !b.match_data || a.datamatch == b.datamatch);
}

bool is_this_ioeventfd(const IoRange &range, const void *wanted)
{
    const IoRange &other = *static_cast<const IoRange *>(wanted);
    return range.eventfd == other.eventfd && range.addr == other.addr && range.len == other.len &&
           range.match_data == other.match_data && range.datamatch == other.datamatch;
}

} // namespace

int check_ioeventfd(const kvm_ioeventfd &args)
{
    // The flag behind them is KVM's own, which it lets pass. KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY
    // belongs to another architecture.
    constexpr u32 kKnown = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
                           KVM_IOEVENTFD_FLAG_DEASSIGN | bit32(kvm_ioeventfd_flag_nr_fast_mmio);
    if (args.len > 8 || (args.len & (args.len - 1)) != 0)
        return -EINVAL;
    if (args.addr + args.len < args.addr || (args.flags & ~kKnown))
        return -EINVAL;
    return args.len == 0 && (args.flags & KVM_IOEVENTFD_FLAG_DATAMATCH) ? -EINVAL : 0;
}

int assign_ioeventfd(kvm_vm &kvm, const kvm_ioeventfd &args, host_eventfd *eventfd)
{
    const int error = check_ioeventfd(args);
    if (error)
        return error;
    IoRange range = ioeventfd_range(args);
    range.eventfd = eventfd;
    const IoBus *bus = bus_of(kvm, ioeventfd_bus(args));
    for (u32 i = 0; bus && i < bus->count; i++)
        if (ioeventfds_collide(bus->ranges()[i], range))
            return -EEXIST;
    return bus_add(kvm, ioeventfd_bus(args), range);
}

int deassign_ioeventfd(kvm_vm &kvm, const kvm_ioeventfd &args, const host_eventfd *eventfd)
{
    IoRange wanted = ioeventfd_range(args);
    wanted.eventfd = const_cast<host_eventfd *>(eventfd);
    const int removed = bus_remove(kvm, ioeventfd_bus(args), is_this_ioeventfd, &wanted);
    if (removed < 0)
        return removed;
    return removed ? 0 : -ENOENT;
}

// ---- Coalesced ranges ---------------------------------------------------------

namespace {

// KVM's limit for a bus, ioeventfds aside, and how many places the module's own devices take of it.
constexpr u32 kBusDevices = 1000;

u32 own_devices(const kvm_vm &kvm, IoBusKind kind)
{
    const bool chips = irqchip_of(kvm) == Irqchip::kKernel;
    if (kind == IoBusKind::kMmio)
        return chips;
    const Pit *pit = pit_of(kvm);
    return (chips ? 3 : 0) + (pit ? 1 + pit->speaker : 0);
}

IoBusKind coalesced_bus(const kvm_coalesced_mmio_zone &zone)
{
    return zone.pio ? IoBusKind::kPio : IoBusKind::kMmio;
}

bool zone_contains(const IoRange &range, const void *wanted)
{
    const kvm_coalesced_mmio_zone &zone = *static_cast<const kvm_coalesced_mmio_zone *>(wanted);
    if (range.eventfd || zone.size > 0x7fffffff || zone.addr + zone.size < zone.addr)
        return false;
    return zone.addr >= range.addr && zone.addr + zone.size <= range.addr + range.len;
}

} // namespace

int register_coalesced(kvm_vm &kvm, const kvm_coalesced_mmio_zone &zone)
{
    if (zone.pio > 1)
        return -EINVAL;
    const IoBusKind kind = coalesced_bus(zone);
    const IoBus *bus = bus_of(kvm, kind);
    if (bus && bus->count - bus->ioeventfds + own_devices(kvm, kind) >= kBusDevices)
        return -ENOSPC;
    if (!coalesced_ring(kvm))
        return -ENOMEM;
    IoRange range{};
    range.addr = zone.addr;
    range.len = zone.size;
    range.last = zone.size ? zone.addr + zone.size - 1 : zone.addr;
    if (range.last < range.addr) // wraps: nothing is ever inside
        range.last = range.addr, range.len = 0;
    return bus_add(kvm, kind, range);
}

int unregister_coalesced(kvm_vm &kvm, const kvm_coalesced_mmio_zone &zone)
{
    if (zone.pio > 1)
        return -EINVAL;
    const int removed = bus_remove(kvm, coalesced_bus(zone), zone_contains, &zone);
    return removed < 0 ? removed : 0;
}

// The ring is user space's to write, too: what it says is read once, and only its indices.
bool coalesce_write(kvm_vm &kvm, IoBusKind kind, u64 addr, const void *data, u32 size)
{
    auto *ring = static_cast<CoalescedRing *>(kvm.coalesced_ring);
    constexpr u32 kEntries = sizeof(ring->entries) / sizeof(ring->entries[0]);
    HostLockGuard guard{kvm.ring_lock};
    const u32 last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
    const u32 first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE);
    // One entry stays empty, so that full and empty differ.
    const u32 next = last + 1 == kEntries ? 0 : last + 1;
    if (last >= kEntries || next == first)
        return false;
    kvm_coalesced_mmio &entry = ring->entries[last];
    entry.phys_addr = addr;
    entry.len = size;
    entry.pio = kind == IoBusKind::kPio;
    __builtin_memcpy(entry.data, data, size);
    __atomic_store_n(&ring->last, next, __ATOMIC_RELEASE);
    return true;
}

// ---- Life ---------------------------------------------------------------------

int devices_create(kvm_vm &kvm)
{
    kvm.ring_lock = host_lock_create();
    return kvm.ring_lock ? 0 : -ENOMEM;
}

void *coalesced_ring(kvm_vm &kvm)
{
    void *ring = __atomic_load_n(&kvm.coalesced_ring, __ATOMIC_ACQUIRE);
    if (ring)
        return ring;
    void *fresh = host_page_alloc();
    if (!fresh)
        return nullptr;
    if (__atomic_compare_exchange_n(&kvm.coalesced_ring, &ring, fresh, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return fresh;
    host_page_free(fresh); // another thread was first
    return ring;
}

void devices_destroy(kvm_vm &kvm)
{
    bus_destroy(kvm, IoBusKind::kMmio);
    bus_destroy(kvm, IoBusKind::kPio);
    if (kvm.ring_lock)
        host_lock_destroy(kvm.ring_lock);
    host_page_free(kvm.coalesced_ring);
    kvm.ring_lock = nullptr;
    kvm.coalesced_ring = nullptr;
}

} // namespace minivmx
