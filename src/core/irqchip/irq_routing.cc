// SPDX-License-Identifier: GPL-2.0-only
// Global system interrupts and messages, and where they go.
#include <minivmx/host_guard.hpp>
#include <minivmx/ioapic.hpp>
#include <minivmx/irq_routing.hpp>
#include <minivmx/pic.hpp>
#include <minivmx/pit.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

constexpr u32 kRoutesPerGsi = 3; // one a controller
constexpr u32 kControllers = 3;
constexpr u32 kNoGsi = ~u32{0};

struct IrqRoute {
    u32 type; // KVM_IRQ_ROUTING_IRQCHIP or _MSI
    u32 chip; // KVM_IRQCHIP_*
    u32 pin;  // of the pair, 0..15, or of the IOAPIC
    u32 address_lo, address_hi, data;
};

struct GsiRoutes {
    u32 first; // in routes()
    u32 count;
};

} // namespace

// Immutable once it is current. Behind it: GsiRoutes for each GSI, then the routes in their order.
struct IrqRouting {
    u32 gsis;
    u32 gsi_of_pin[kControllers][kIoapicPins];

    GsiRoutes *of_gsi() { return reinterpret_cast<GsiRoutes *>(this + 1); }
    const GsiRoutes *of_gsi() const { return reinterpret_cast<const GsiRoutes *>(this + 1); }
    IrqRoute *routes() { return reinterpret_cast<IrqRoute *>(of_gsi() + gsis); }
    const IrqRoute *routes() const { return reinterpret_cast<const IrqRoute *>(of_gsi() + gsis); }
};

namespace {

// ---- Messages ---------------------------------------------------------------

// With 32-bit destinations bits 7:0 of the upper address half must be 0, the rest are the
// destination's: see KVM_CAP_X2APIC_API.
bool msi_is_valid(const kvm_vm &kvm, u32 address_hi)
{
    return !kvm.x2apic_format || (address_hi & 0xff) == 0;
}

// ---- Making a table ---------------------------------------------------------

bool convert_route(const kvm_vm &kvm, bool split, const kvm_irq_routing_entry &entry,
                   IrqRoute &route)
{
    route = {};
    route.type = entry.type;
    if (entry.type == KVM_IRQ_ROUTING_MSI) {
        route.address_lo = entry.u.msi.address_lo;
        route.address_hi = entry.u.msi.address_hi;
        route.data = entry.u.msi.data;
        // The device's ID means nothing on this architecture, but may be told.
        return !(entry.flags & ~u32{KVM_MSI_VALID_DEVID}) && msi_is_valid(kvm, route.address_hi);
    }
    if (entry.type != KVM_IRQ_ROUTING_IRQCHIP || entry.flags != 0 || split)
        return false;
    route.chip = entry.u.irqchip.irqchip;
    route.pin = entry.u.irqchip.pin;
    switch (route.chip) {
    case KVM_IRQCHIP_PIC_MASTER:
        return route.pin < kPicPins / 2;
    case KVM_IRQCHIP_PIC_SLAVE:
        route.pin += kPicPins / 2;
        return entry.u.irqchip.pin < kPicPins / 2;
    case KVM_IRQCHIP_IOAPIC:
        return route.pin < kIoapicPins;
    default:
        return false;
    }
}

// Whether a GSI may have this route beside those before it.
bool fits_beside(const IrqRoute *routes, u32 count, const IrqRoute &added)
{
    for (u32 i = 0; i < count; i++)
        if (routes[i].type != KVM_IRQ_ROUTING_IRQCHIP || added.type != KVM_IRQ_ROUTING_IRQCHIP ||
            routes[i].chip == added.chip)
            return false;
    return true;
}

IrqRouting *allocate_routing(const kvm_irq_routing_entry *entries, u32 count)
{
    u32 gsis = 1;
    for (u32 i = 0; i < count; i++)
        gsis = entries[i].gsi >= gsis ? entries[i].gsi + 1 : gsis;
    IrqRouting *table = static_cast<IrqRouting *>(
        host_zalloc(sizeof(IrqRouting) + gsis * sizeof(GsiRoutes) + count * sizeof(IrqRoute)));
    if (!table)
        return nullptr;
    table->gsis = gsis;
    for (auto &pins : table->gsi_of_pin)
        for (u32 &gsi : pins)
            gsi = kNoGsi;
    return table;
}

// The entries, sorted by GSI. False: one of them is none we know.
bool fill_routing(const kvm_vm &kvm, bool split, IrqRouting &table,
                  const kvm_irq_routing_entry *entries, u32 count)
{
    for (u32 i = 0; i < count; i++)
        if (++table.of_gsi()[entries[i].gsi].count > kRoutesPerGsi)
            return false;
    u32 next = 0;
    for (u32 gsi = 0; gsi < table.gsis; gsi++) {
        GsiRoutes &of_gsi = table.of_gsi()[gsi];
        of_gsi.first = next;
        next += of_gsi.count;
        of_gsi.count = 0; // counts those in place from here on
    }
    for (u32 i = 0; i < count; i++) {
        GsiRoutes &of_gsi = table.of_gsi()[entries[i].gsi];
        IrqRoute *routes = table.routes() + of_gsi.first;
        IrqRoute &route = routes[of_gsi.count];
        if (!convert_route(kvm, split, entries[i], route) ||
            !fits_beside(routes, of_gsi.count, route))
            return false;
        of_gsi.count++;
        if (route.type == KVM_IRQ_ROUTING_IRQCHIP)
            table.gsi_of_pin[route.chip][route.pin] = entries[i].gsi;
    }
    return true;
}

int replace_routing(kvm_vm &kvm, bool split, const kvm_irq_routing_entry *entries, u32 count)
{
    if (count > kMaxIrqRoutes)
        return -EINVAL;
    for (u32 i = 0; i < count; i++)
        if (entries[i].gsi >= kMaxIrqRoutes)
            return -EINVAL;
    IrqRouting *table = allocate_routing(entries, count);
    if (!table)
        return -ENOMEM;
    if (!fill_routing(kvm, split, *table, entries, count)) {
        host_free(table);
        return -EINVAL;
    }
    IrqRouting *old = __atomic_exchange_n(&kvm.routing, table, __ATOMIC_ACQ_REL);
    if (old) {
        host_rcu_wait();
        host_free(old);
    }
    return 0;
}

// ---- Using it ---------------------------------------------------------------

const IrqRouting *current_routing(const kvm_vm &kvm)
{
    return __atomic_load_n(&kvm.routing, __ATOMIC_ACQUIRE);
}

u32 copy_routes(const kvm_vm &kvm, u32 gsi, IrqRoute (&routes)[kRoutesPerGsi])
{
    RcuReader reader;
    const IrqRouting *table = current_routing(kvm);
    if (!table || gsi >= table->gsis)
        return 0;
    const GsiRoutes &of_gsi = table->of_gsi()[gsi];
    for (u32 i = 0; i < of_gsi.count; i++)
        routes[i] = table->routes()[of_gsi.first + i];
    return of_gsi.count;
}

u32 gsi_of_pin(const kvm_vm &kvm, u32 chip, u32 pin)
{
    RcuReader reader;
    const IrqRouting *table = current_routing(kvm);
    return table ? table->gsi_of_pin[chip][pin] : kNoGsi;
}

int drive_route(kvm_vm &kvm, const IrqRoute &route, IrqSource source, bool level, bool line_status)
{
    if (route.type == KVM_IRQ_ROUTING_MSI)
        return level ? send_msi(kvm, route.address_lo, route.address_hi, route.data) : -1;
    if (route.chip == KVM_IRQCHIP_IOAPIC)
        return ioapic_set_line(kvm, route.pin, source, level, line_status);
    return pic_set_line(kvm, route.pin, source, level);
}

} // namespace

int set_irq_routing(kvm_vm &kvm, const kvm_irq_routing_entry *entries, u32 count)
{
    return replace_routing(kvm, irqchip_of(kvm) == Irqchip::kSplit, entries, count);
}

int set_default_irq_routing(kvm_vm &kvm)
{
    constexpr u32 kCount = kIoapicPins + kPicPins;
    auto *entries =
        static_cast<kvm_irq_routing_entry *>(host_zalloc(kCount * sizeof(kvm_irq_routing_entry)));
    if (!entries)
        return -ENOMEM;
    for (u32 i = 0; i < kCount; i++) {
        const u32 gsi = i % kIoapicPins;
        entries[i].gsi = gsi;
        entries[i].type = KVM_IRQ_ROUTING_IRQCHIP;
        entries[i].u.irqchip.irqchip =
            i < kIoapicPins ? u32{KVM_IRQCHIP_IOAPIC} : KVM_IRQCHIP_PIC_MASTER + gsi / 8;
        entries[i].u.irqchip.pin = i < kIoapicPins ? gsi : gsi % 8;
    }
    const int error = replace_routing(kvm, false, entries, kCount);
    host_free(entries);
    return error;
}

int set_empty_irq_routing(kvm_vm &kvm)
{
    return replace_routing(kvm, true, nullptr, 0);
}

bool split_ioapic_has_vector(const kvm_vm &kvm, u8 vector)
{
    RcuReader reader;
    const IrqRouting *table = current_routing(kvm);
    const u32 pins = table->gsis < kvm.split_pins ? table->gsis : kvm.split_pins;
    for (u32 gsi = 0; gsi < pins; gsi++) {
        const GsiRoutes &of_gsi = table->of_gsi()[gsi];
        for (u32 i = 0; i < of_gsi.count; i++) {
            const u32 data = table->routes()[of_gsi.first + i].data;
            if ((data & bit32(15)) && static_cast<u8>(data) == vector)
                return true;
        }
    }
    return false;
}

void destroy_irq_routing(kvm_vm &kvm)
{
    host_free(kvm.routing);
    kvm.routing = nullptr;
}

int set_irq(kvm_vm &kvm, IrqSource source, u32 gsi, bool level, bool line_status)
{
    IrqRoute routes[kRoutesPerGsi];
    const u32 count = copy_routes(kvm, gsi, routes);
    int result = -1;
    for (u32 i = 0; i < count; i++) {
        const int taken = drive_route(kvm, routes[i], source, level, line_status);
        if (taken >= 0)
            result = taken + (result < 0 ? 0 : result);
    }
    return result;
}

// SDM Vol. 3A, 11.11 "Message Signalled Interrupts".
InterruptMessage decode_msi(const kvm_vm &kvm, u32 address_lo, u32 address_hi, u32 data)
{
    u32 destination = address_lo >> 12 & 0xff;
    if (kvm.x2apic_format)
        destination |= address_hi & 0xffffff00;
    return {
        .destination = destination,
        .vector = static_cast<u8>(data),
        .mode = static_cast<DeliveryMode>(data >> 8 & 7),
        .shorthand = Shorthand::kNone,
        .logical = (address_lo & bit32(2)) != 0,
        .level = (data & bit32(15)) != 0,
        .assert_level = true,
        .redirect_hint = (address_lo & bit32(3)) != 0,
    };
}

int send_msi(kvm_vm &kvm, u32 address_lo, u32 address_hi, u32 data)
{
    if (!msi_is_valid(kvm, address_hi))
        return -EINVAL;
    return deliver_interrupt(kvm, nullptr, decode_msi(kvm, address_lo, address_hi, data));
}

void irq_acked(kvm_vm &kvm, u32 chip, u32 pin)
{
    const u32 gsi = gsi_of_pin(kvm, chip, pin);
    if (gsi == kNoGsi)
        return;
    if (gsi == kPitGsi)
        pit_irq_acked(kvm);
    host_irq_acked(kvm.host, gsi);
}

void irq_unmasked(kvm_vm &kvm, u32 chip, u32 pin)
{
    if (gsi_of_pin(kvm, chip, pin) == kPitGsi)
        pit_irq_unmasked(kvm);
}

} // namespace minivmx
