// SPDX-License-Identifier: GPL-2.0-only
// The array of ranges of a bus: how it is searched, and how it is replaced.
#include "io_bus.hpp"

namespace minivmx {

namespace {

void index_ranges(IoBus &bus)
{
    u64 max_last = 0;
    bus.ioeventfds = 0;
    for (u32 i = 0; i < bus.count; i++) {
        IoRange &range = bus.ranges()[i];
        max_last = range.last > max_last ? range.last : max_last;
        range.max_last = max_last;
        bus.ioeventfds += range.eventfd != nullptr;
    }
}

IoBus *allocate_bus(u32 count)
{
    IoBus *bus = static_cast<IoBus *>(host_zalloc(sizeof(IoBus) + u64{count} * sizeof(IoRange)));
    if (bus)
        bus->count = count;
    return bus;
}

// Nobody reads the old array any more when this returns.
void publish_bus(kvm_vm &kvm, IoBusKind kind, IoBus *bus)
{
    __atomic_store_n(&bus_of(kvm, kind), bus, __ATOMIC_RELEASE);
    host_rcu_wait();
}

// The first range that lies above addr.
u32 first_range_above(const IoBus &bus, u64 addr)
{
    u32 low = 0, high = bus.count;
    while (low < high) {
        const u32 middle = low + (high - low) / 2;
        if (bus.ranges()[middle].addr > addr)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

u64 load_data(const void *data, u32 size)
{
    u64 value = 0;
    __builtin_memcpy(&value, data, size);
    return value;
}

bool ioeventfd_matches(const IoRange &range, u64 addr, const void *data, u32 size)
{
    if (range.addr != addr)
        return false;
    if (range.len == 0)
        return true;
    if (range.len != size)
        return false;
    return !range.match_data || load_data(data, size) == range.datamatch;
}

bool coalesced_matches(const IoRange &range, u64 addr, u32 size)
{
    return size <= 8 && range.len != 0 && addr >= range.addr && addr <= range.last &&
           size - 1 <= range.last - addr;
}

bool offer_write(kvm_vm &kvm, IoBusKind kind, const IoRange &range, u64 addr, const void *data,
                 u32 size)
{
    if (!range.eventfd)
        return coalesced_matches(range, addr, size) && coalesce_write(kvm, kind, addr, data, size);
    if (!ioeventfd_matches(range, addr, data, size))
        return false;
    host_eventfd_signal(range.eventfd);
    return true;
}

} // namespace

int bus_add(kvm_vm &kvm, IoBusKind kind, const IoRange &added)
{
    IoBus *old = bus_of(kvm, kind);
    const u32 count = old ? old->count : 0;
    IoBus *bus = allocate_bus(count + 1);
    if (!bus)
        return -ENOMEM;
    const u32 at = old ? first_range_above(*old, added.addr) : 0;
    for (u32 i = 0; i < count; i++)
        bus->ranges()[i < at ? i : i + 1] = old->ranges()[i];
    bus->ranges()[at] = added;
    index_ranges(*bus);
    publish_bus(kvm, kind, bus);
    host_free(old);
    return 0;
}

int bus_remove(kvm_vm &kvm, IoBusKind kind, bool (*match)(const IoRange &range, const void *wanted),
               const void *wanted)
{
    IoBus *old = bus_of(kvm, kind);
    u32 matches = 0;
    for (u32 i = 0; old && i < old->count; i++)
        matches += match(old->ranges()[i], wanted);
    if (matches == 0)
        return 0;
    IoBus *bus = nullptr;
    if (old->count > matches) {
        bus = allocate_bus(old->count - matches);
        if (!bus)
            return -ENOMEM;
        u32 next = 0;
        for (u32 i = 0; i < old->count; i++)
            if (!match(old->ranges()[i], wanted))
                bus->ranges()[next++] = old->ranges()[i];
        index_ranges(*bus);
    }
    publish_bus(kvm, kind, bus);
    for (u32 i = 0; i < old->count; i++)
        if (old->ranges()[i].eventfd && match(old->ranges()[i], wanted))
            host_eventfd_put(old->ranges()[i].eventfd);
    host_free(old);
    return static_cast<int>(matches);
}

void bus_destroy(kvm_vm &kvm, IoBusKind kind)
{
    IoBus *bus = bus_of(kvm, kind);
    bus_of(kvm, kind) = nullptr;
    for (u32 i = 0; bus && i < bus->count; i++)
        if (bus->ranges()[i].eventfd)
            host_eventfd_put(bus->ranges()[i].eventfd);
    host_free(bus);
}

namespace {

// The ranges that hold addr, of those that begin before and don't end before it.
Span<const IoRange> ranges_around(const IoBus &bus, u64 addr)
{
    const u32 end = first_range_above(bus, addr);
    u32 begin = end;
    while (begin > 0 && bus.ranges()[begin - 1].max_last >= addr)
        begin--;
    return {bus.ranges() + begin, end - begin};
}

} // namespace

// In the order of their addresses, as KVM asks them.
bool bus_write(kvm_vm &kvm, IoBusKind kind, u64 addr, const void *data, u32 size)
{
    // Most buses are empty, most accesses lead elsewhere: ask before anything else.
    if (!__atomic_load_n(&bus_of(kvm, kind), __ATOMIC_RELAXED))
        return false;
    RcuReader reader;
    const IoBus *bus = __atomic_load_n(&bus_of(kvm, kind), __ATOMIC_ACQUIRE);
    if (!bus)
        return false;
    for (const IoRange &range : ranges_around(*bus, addr))
        if (offer_write(kvm, kind, range, addr, data, size))
            return true;
    return false;
}

bool bus_signals(kvm_vm &kvm, IoBusKind kind, u64 addr, const void *data, u32 size)
{
    if (!__atomic_load_n(&bus_of(kvm, kind), __ATOMIC_RELAXED))
        return false;
    RcuReader reader;
    const IoBus *bus = __atomic_load_n(&bus_of(kvm, kind), __ATOMIC_ACQUIRE);
    if (!bus || !bus->ioeventfds)
        return false;
    for (const IoRange &range : ranges_around(*bus, addr))
        if (range.eventfd && ioeventfd_matches(range, addr, data, size))
            return true;
    return false;
}

} // namespace minivmx
