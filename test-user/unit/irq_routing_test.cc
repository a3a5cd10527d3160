// SPDX-License-Identifier: GPL-2.0-only
//
// GSIs and messages: tables good and bad, and what becomes of the interrupts.
#include "chips_fixture.hpp"

#include <functional>

namespace minivmx::test {

namespace {

using Entries = std::vector<kvm_irq_routing_entry>;

kvm_irq_routing_entry to_pin(u32 gsi, u32 chip, u32 pin)
{
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip = {chip, pin};
    return entry;
}

kvm_irq_routing_entry to_msi(u32 gsi, u32 destination, u32 data)
{
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = 0xfee00000 | destination << 12;
    entry.u.msi.data = data;
    return entry;
}

class RoutingTest : public Chips {
  protected:
    RoutingTest() : Chips{With::kIrqchip, 2} {}

    int set(const Entries &entries)
    {
        return core_set_gsi_routing(guest.vm.core, entries.data(),
                                    static_cast<u32>(entries.size()));
    }
};

} // namespace

TEST_F(RoutingTest, TheFirstTable)
{
    for (u32 pin = 0; pin < 24; pin++)
        vm().ioapic->redirect[pin] = 0x60 + pin;
    for (u32 gsi = 0; gsi < 24; gsi++) {
        // The slave's request is the master's pin 2, which is nobody's line.
        EXPECT_EQ(line(gsi, true), gsi < 16 ? 2 : 1) << gsi;
        EXPECT_TRUE(take(static_cast<u8>(0x60 + gsi))) << gsi;
        EXPECT_EQ(line(gsi, false), gsi < 16 ? 2 : 1);
    }
    EXPECT_EQ(vm().pic->chip[1].irr, 0xff);
    EXPECT_EQ(line(24, true), -1);
    EXPECT_EQ(line(~0u, true), -1);
}

TEST_F(RoutingTest, Messages)
{
    ASSERT_EQ(set({to_msi(30, 1, 0x71)}), 0);
    EXPECT_EQ(line(30, true), 1);
    EXPECT_EQ(line(30, false), -1) << "a message has no other edge";
    EXPECT_FALSE(take(0x71, 0));
    EXPECT_TRUE(take(0x71, 1));
    EXPECT_EQ(line(4, true), -1) << "the table was replaced as a whole";

    kvm_msi msi{};
    msi.address_lo = 0xfee00000;
    msi.data = 0x72;
    EXPECT_EQ(core_signal_msi(guest.vm.core, &msi), 1);
    EXPECT_EQ(core_signal_msi(guest.vm.core, &msi), 1) << "it waits already, and took this one in";
    EXPECT_TRUE(take(0x72));
    msi.address_lo = 0xfee07000;
    EXPECT_EQ(core_signal_msi(guest.vm.core, &msi), 0) << "nobody";
    msi.flags = KVM_MSI_VALID_DEVID;
    msi.devid = 5;
    msi.address_lo = 0xfee00000;
    EXPECT_EQ(core_signal_msi(guest.vm.core, &msi), 1);
    for (u32 flag = 2; flag; flag <<= 1) {
        msi.flags = flag;
        EXPECT_EQ(core_signal_msi(guest.vm.core, &msi), -EINVAL);
    }
}

TEST_F(RoutingTest, WhatAMessageSays)
{
    InterruptMessage message = decode_msi(vm(), 0xfee7f00c, 0x12345600, 0xc7a5);
    EXPECT_EQ(message.destination, 0x7fu);
    EXPECT_TRUE(message.logical);
    EXPECT_TRUE(message.redirect_hint);
    EXPECT_TRUE(message.level);
    EXPECT_EQ(message.vector, 0xa5);
    EXPECT_EQ(message.mode, DeliveryMode::kExtInt);
    message = decode_msi(vm(), 0xfee00000, 0, 0x0130);
    EXPECT_FALSE(message.logical || message.redirect_hint || message.level);
    EXPECT_EQ(message.mode, DeliveryMode::kLowestPriority);

    vm().x2apic_format = true;
    message = decode_msi(vm(), 0xfee7f00c, 0x12345600, 0);
    EXPECT_EQ(message.destination, 0x1234567fu);
    kvm_msi msi{};
    msi.address_lo = 0xfee00000;
    msi.address_hi = 0x80;
    EXPECT_EQ(core_signal_msi(guest.vm.core, &msi), -EINVAL) << "reserved bits of the address";
    kvm_irq_routing_entry entry = to_msi(30, 0, 0x71);
    entry.u.msi.address_hi = 1;
    EXPECT_EQ(set({entry}), -EINVAL);
    entry.u.msi.address_hi = 0x100;
    EXPECT_EQ(set({entry}), 0);
}

TEST_F(RoutingTest, OneGsiHasOnePinOfEachControllerOrOneMessage)
{
    EXPECT_EQ(set({to_pin(5, 0, 1), to_pin(5, 1, 1), to_pin(5, 2, 1)}), 0);
    EXPECT_EQ(set({to_pin(5, 0, 1), to_pin(5, 0, 2)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 2, 1), to_pin(6, 2, 1), to_pin(5, 2, 2)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 0, 1), to_msi(5, 0, 0x70)}), -EINVAL);
    EXPECT_EQ(set({to_msi(5, 0, 0x70), to_pin(5, 0, 1)}), -EINVAL);
    EXPECT_EQ(set({to_msi(5, 0, 0x70), to_msi(5, 0, 0x71)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 0, 1), to_pin(5, 1, 1), to_pin(5, 2, 1), to_pin(5, 2, 2)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 2, 1), to_pin(6, 2, 1)}), 0) << "two GSIs may share a pin";
    // What was refused changed nothing.
    vm().ioapic->redirect[1] = 0x61;
    EXPECT_EQ(line(5, true), 1);
    EXPECT_TRUE(take(0x61));
}

TEST_F(RoutingTest, BadEntries)
{
    EXPECT_EQ(set({to_pin(5, 0, 8)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 1, 8)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 2, 24)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 3, 0)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 0, ~0u)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 1, ~0u - 7)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, 2, ~0u)}), -EINVAL);
    EXPECT_EQ(set({to_pin(5, ~0u, 0)}), -EINVAL);
    EXPECT_EQ(set({to_pin(4096, 0, 0)}), -EINVAL);
    EXPECT_EQ(set({to_pin(~0u, 0, 0)}), -EINVAL);
    kvm_irq_routing_entry entry = to_pin(5, 0, 1);
    for (u32 flag = 1; flag; flag <<= 1) {
        entry.flags = flag;
        EXPECT_EQ(set({entry}), -EINVAL);
    }
    entry = to_msi(5, 0, 0x70);
    for (u32 flag = 1; flag; flag <<= 1) {
        entry.flags = flag;
        EXPECT_EQ(set({entry}), flag == KVM_MSI_VALID_DEVID ? 0 : -EINVAL);
    }
    for (u32 type : {0u, 3u, 4u, 5u, 6u, ~0u}) {
        entry.flags = 0;
        entry.type = type;
        EXPECT_EQ(set({entry}), -EINVAL);
    }
}

TEST_F(RoutingTest, Counts)
{
    EXPECT_EQ(set({}), 0);
    EXPECT_EQ(line(4, true), -1);
    Entries entries;
    for (u32 gsi = 0; gsi < kMaxIrqRoutes; gsi++)
        entries.push_back(to_msi(gsi, 0, 0x30 + gsi % 64));
    EXPECT_EQ(set(entries), 0);
    EXPECT_EQ(line(4095, true), 1);
    EXPECT_TRUE(take(0x30 + 63));
    EXPECT_EQ(line(4096, true), -1);
    entries.push_back(to_msi(0, 0, 0x30));
    EXPECT_EQ(set(entries), -EINVAL);
    EXPECT_EQ(line(4095, true), 1) << "the old table is still there";
}

TEST_F(RoutingTest, WithoutMemoryTheOldTableStays)
{
    ASSERT_EQ(set({to_msi(30, 0, 0x71)}), 0);
    guest.machine.allocations_left = 0;
    EXPECT_EQ(set({to_msi(31, 0, 0x72)}), -ENOMEM);
    guest.machine.allocations_left = -1;
    EXPECT_EQ(line(30, true), 1);
}

TEST_F(RoutingTest, TheOldTableIsFreedWhenNobodyReadsIt)
{
    const u64 waits = guest.machine.rcu_waits;
    for (int i = 0; i < 100; i++)
        ASSERT_EQ(set({to_msi(30, 0, 0x71)}), 0);
    EXPECT_EQ(guest.machine.rcu_waits, waits + 100);
    EXPECT_EQ(guest.machine.rcu_readers, 0);
}

TEST_F(RoutingTest, ControllersAreMadeOnceAndBeforeVcpus)
{
    EXPECT_EQ(core_create_irqchip(guest.vm.core), -EEXIST);
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_SPLIT_IRQCHIP;
    cap.args[0] = 24;
    EXPECT_EQ(core_vm_enable_cap(guest.vm.core, &cap), -EEXIST);
    cap.args[0] = 4097;
    EXPECT_EQ(core_vm_enable_cap(guest.vm.core, &cap), -EINVAL);
}

namespace {

class NoChipsTest : public Chips {
  protected:
    NoChipsTest() : Chips{With::kNothing, 0} {}
};

} // namespace

TEST_F(NoChipsTest, NothingWorksWithoutThem)
{
    core_vm *core = guest.vm.core;
    kvm_irq_level level{};
    EXPECT_EQ(core_irq_line(core, &level, true), -ENXIO);
    kvm_msi msi{};
    EXPECT_EQ(core_signal_msi(core, &msi), -EINVAL);
    EXPECT_EQ(core_set_gsi_routing(core, nullptr, 0), -EINVAL);
    kvm_irqchip chip{};
    EXPECT_EQ(core_get_irqchip(core, &chip), -ENXIO);
    EXPECT_EQ(core_set_irqchip(core, &chip), -ENXIO);
    kvm_pit_state2 pit{};
    EXPECT_EQ(core_get_pit(core, &pit), -ENXIO);
    EXPECT_EQ(core_set_pit(core, &pit), -ENXIO);
    EXPECT_EQ(core_reinject_control(core, false), -ENXIO);
    EXPECT_FALSE(core_irqchip_ready(core));
}

TEST_F(NoChipsTest, CreationFailsCleanly)
{
    for (int left = 0;; left++) {
        guest.machine.allocations_left = left;
        const int result = core_create_irqchip(guest.vm.core);
        if (result == 0)
            break;
        EXPECT_EQ(result, -ENOMEM);
        EXPECT_EQ(vm().pic, nullptr);
        EXPECT_EQ(vm().ioapic, nullptr);
        ASSERT_LT(left, 20);
    }
    for (int left = 0;; left++) {
        guest.machine.allocations_left = left;
        const int result = core_create_pit(guest.vm.core, 0);
        if (result == 0)
            break;
        EXPECT_EQ(result, -ENOMEM);
        EXPECT_EQ(vm().pit, nullptr);
        ASSERT_LT(left, 20);
    }
    guest.machine.allocations_left = -1;
    EXPECT_EQ(core_create_pit(guest.vm.core, 0), -EEXIST);
}

TEST_F(NoChipsTest, NotAfterTheFirstVcpu)
{
    guest.create_vcpu();
    EXPECT_EQ(core_create_irqchip(guest.vm.core), -EINVAL);
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_SPLIT_IRQCHIP;
    EXPECT_EQ(core_vm_enable_cap(guest.vm.core, &cap), -EEXIST);
}

TEST_F(NoChipsTest, SplitIrqchip)
{
    core_vm *core = guest.vm.core;
    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_SPLIT_IRQCHIP;
    cap.args[0] = 24;
    ASSERT_EQ(core_vm_enable_cap(core, &cap), 0);
    EXPECT_EQ(core_vm_enable_cap(core, &cap), -EEXIST);
    EXPECT_EQ(core_create_irqchip(core), -EEXIST);
    EXPECT_TRUE(core_irqchip_ready(core));
    EXPECT_FALSE(core_irqchip_in_kernel(core));
    kvm_irqchip chip{};
    EXPECT_EQ(core_get_irqchip(core, &chip), -ENXIO);
    kvm_irq_level level{};
    EXPECT_EQ(core_irq_line(core, &level, true), 0);
    EXPECT_EQ(level.status, -1) << "there are no routes yet";

    host_vcpu &host = guest.create_vcpu();
    vcpu_vmx &vmx = to_vmx(host.core);
    u32 svr = 0x1ff, ioregsel = 0;
    core_vcpu_load(host.core, 0);
    EXPECT_TRUE(lapic_mmio(vmx, 0xfee000f0, true, &svr, 4));
    core_vcpu_put(host.core);
    EXPECT_FALSE(kernel_mmio(vmx, kIoapicBase, false, &ioregsel, 4)) << "user space's";
    u8 imr = 0;
    EXPECT_FALSE(kernel_pio(vmx, 0x21, false, &imr, 1));
    const kvm_irq_routing_entry pin = to_pin(4, KVM_IRQCHIP_IOAPIC, 4);
    EXPECT_EQ(core_set_gsi_routing(core, &pin, 1), -EINVAL);
    // User space's IOAPIC has routes of messages for its pins.
    const kvm_irq_routing_entry routes[] = {to_msi(4, 0, 0x44), to_msi(5, 0, 0x8045),
                                            to_msi(24, 0, 0x8046)};
    ASSERT_EQ(core_set_gsi_routing(core, routes, 3), 0);
    EXPECT_EQ(line(4, true), 1);
    for (const auto &[vector, level_triggered, told] : {std::tuple{u8{0x44}, false, false},
                                                        {u8{0x44}, true, false},
                                                        {u8{0x45}, true, true},
                                                        {u8{0x46}, true, false}}) {
        vmx.ioapic_eoi_pending = false;
        ioapic_eoi(vmx, vector, level_triggered);
        EXPECT_EQ(vmx.ioapic_eoi_pending, told) << +vector;
    }
}

} // namespace minivmx::test
