// SPDX-License-Identifier: GPL-2.0-only
//
// Interrupt controllers, the PIT, GSI routing: their order, and bad arguments.
#include <vector>

#include "ioctl_test.hpp"

using namespace kvm;

namespace {

struct Chips {
    Device device;
    Vm vm{device};
    explicit Chips(bool irqchip = true)
    {
        if (irqchip)
            REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
    }
};

// kvm_irq_routing with its entries behind it.
struct Routing {
    std::vector<uint64_t> memory;
    explicit Routing(uint32_t count)
        : memory(1 + count * sizeof(kvm_irq_routing_entry) / sizeof(uint64_t))
    {
        list().nr = count;
    }
    kvm_irq_routing &list() { return *reinterpret_cast<kvm_irq_routing *>(memory.data()); }
    kvm_irq_routing_entry &entry(uint32_t i)
    {
        return reinterpret_cast<kvm_irq_routing_entry *>(memory.data() + 1)[i];
    }
    int set(const Vm &vm) { return call(vm, KVM_SET_GSI_ROUTING, memory.data()); }
    static_assert(sizeof(kvm_irq_routing) == 8);
};

int set_one(const Vm &vm, const kvm_irq_routing_entry &entry)
{
    Routing routing(1);
    routing.entry(0) = entry;
    return routing.set(vm);
}

kvm_irq_routing_entry pin(uint32_t gsi, uint32_t chip, uint32_t number)
{
    kvm_irq_routing_entry entry = {};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = chip;
    entry.u.irqchip.pin = number;
    return entry;
}

kvm_irq_routing_entry msi(uint32_t gsi, uint32_t data)
{
    kvm_irq_routing_entry entry = {};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = 0xfee00000;
    entry.u.msi.data = data;
    return entry;
}

int line(const Vm &vm, uint32_t irq, uint32_t level, bool up_down = false)
{
    kvm_irq_level l = {};
    l.irq = irq;
    l.level = level;
    REQUIRE_OK(call(vm, KVM_IRQ_LINE_STATUS, &l));
    int status = l.status;
    if (up_down) {
        l.level = !level;
        REQUIRE_OK(call(vm, KVM_IRQ_LINE, &l));
    }
    return status;
}

constexpr unsigned long kWithPointer[] = {
    KVM_GET_IRQCHIP,
    KVM_SET_IRQCHIP,
    KVM_IRQ_LINE,
    KVM_SIGNAL_MSI,
    KVM_IRQ_LINE_STATUS,
    KVM_SET_GSI_ROUTING,
    KVM_GET_PIT2,
    KVM_SET_PIT2,
    KVM_CREATE_PIT2,
    KVM_GET_PIT,
    KVM_SET_PIT,
    KVM_REINJECT_CONTROL,
    KVM_IRQFD,
    KVM_IOEVENTFD,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_UNREGISTER_COALESCED_MMIO,
};

} // namespace

TEST(irqchip_bad_pointers)
{
    for (bool irqchip : {false, true}) {
        Chips c(irqchip);
        for (unsigned long request : kWithPointer) {
            // The one that only writes looks for a PIT first.
            const int expected = request == KVM_GET_PIT2 ? ENXIO : EFAULT;
            EXPECT_ERRNO(call(c.vm, request, kUnmapped), expected);
            EXPECT_ERRNO(call(c.vm, request, kKernelAddress), expected);
            EXPECT_ERRNO(call(c.vm, request, nullptr), expected);
        }
        kvm_pit_config config = {};
        EXPECT_ERRNO(call(c.vm, KVM_CREATE_PIT2, &config), 0);
        EXPECT_ERRNO(call(c.vm, KVM_GET_PIT2, kUnmapped), EFAULT);
    }
}

TEST(irqchip_order)
{
    Chips c;
    EXPECT_ERRNO(call(c.vm, KVM_CREATE_IRQCHIP), EEXIST);
    EXPECT_ERRNO(call(c.vm, KVM_CREATE_IRQCHIP, 5UL), EEXIST);
    Vcpu vcpu(c.device, c.vm);
    EXPECT_ERRNO(call(c.vm, KVM_CREATE_IRQCHIP), EEXIST);
    EXPECT_ERRNO(c.vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24), EEXIST);

    Vm late(c.device);
    Vcpu first(c.device, late);
    EXPECT_ERRNO(call(late, KVM_CREATE_IRQCHIP), EINVAL);
    EXPECT_ERRNO(late.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24), EEXIST);
    EXPECT_ERRNO(late.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 4097), EINVAL);
}

TEST(irqchip_absent)
{
    Chips c(false);
    kvm_irqchip chip = {};
    EXPECT_ERRNO(call(c.vm, KVM_GET_IRQCHIP, &chip), ENXIO);
    EXPECT_ERRNO(call(c.vm, KVM_SET_IRQCHIP, &chip), ENXIO);
    kvm_irq_level level = {};
    EXPECT_ERRNO(call(c.vm, KVM_IRQ_LINE, &level), ENXIO);
    EXPECT_ERRNO(call(c.vm, KVM_IRQ_LINE_STATUS, &level), ENXIO);
    kvm_msi message = {};
    EXPECT_ERRNO(call(c.vm, KVM_SIGNAL_MSI, &message), EINVAL);
    Routing routing(0);
    EXPECT_ERRNO(routing.set(c.vm), EINVAL);
    kvm_pit_state2 pit = {};
    EXPECT_ERRNO(call(c.vm, KVM_GET_PIT2, &pit), ENXIO);
    EXPECT_ERRNO(call(c.vm, KVM_SET_PIT2, &pit), ENXIO);
    kvm_pit_state old = {};
    EXPECT_ERRNO(call(c.vm, KVM_GET_PIT, &old), ENXIO);
    EXPECT_ERRNO(call(c.vm, KVM_SET_PIT, &old), ENXIO);
    kvm_reinject_control control = {};
    EXPECT_ERRNO(call(c.vm, KVM_REINJECT_CONTROL, &control), ENXIO);
    expect_usable(c.device, c.vm);
}

TEST(irqchip_split)
{
    Chips c(false);
    EXPECT_ERRNO(c.vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 4097), EINVAL);
    EXPECT_ERRNO(c.vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, ~0UL), EINVAL);
    EXPECT_ERRNO(c.vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24, 1), EINVAL);
    EXPECT_ERRNO(c.vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24), 0);
    EXPECT_ERRNO(c.vm.enable_cap(KVM_CAP_SPLIT_IRQCHIP, 24), EEXIST);
    EXPECT_ERRNO(call(c.vm, KVM_CREATE_IRQCHIP), EEXIST);
    kvm_irqchip chip = {};
    EXPECT_ERRNO(call(c.vm, KVM_GET_IRQCHIP, &chip), ENXIO);
    EXPECT_ERRNO(set_one(c.vm, pin(5, KVM_IRQCHIP_IOAPIC, 5)), EINVAL);
    EXPECT_EQ(line(c.vm, 5, 1), -1);
    EXPECT_ERRNO(set_one(c.vm, msi(5, 0x45)), 0);
    Vcpu vcpu(c.device, c.vm);
    EXPECT_EQ(line(c.vm, 5, 0), -1);
}

TEST(irqchip_chips)
{
    Chips c;
    kvm_irqchip chip = {};
    for (uint32_t id : {3u, 4u, 0x80000000u, 0xffffffffu}) {
        chip.chip_id = id;
        EXPECT_ERRNO(call(c.vm, KVM_GET_IRQCHIP, &chip), EINVAL);
        EXPECT_ERRNO(call(c.vm, KVM_SET_IRQCHIP, &chip), EINVAL);
    }
    for (uint32_t id : {0u, 1u, 2u}) {
        memset(&chip, 0, sizeof(chip));
        chip.chip_id = id;
        chip.pad = 0x55;
        REQUIRE_OK(call(c.vm, KVM_GET_IRQCHIP, &chip));
        EXPECT_ERRNO(call(c.vm, KVM_SET_IRQCHIP, &chip), 0);
        if (id < 2) {
            EXPECT_EQ(chip.chip.pic.elcr_mask, id ? 0xde : 0xf8);
            EXPECT_EQ(chip.chip.pic.imr, 0);
        } else {
            EXPECT_EQ(chip.chip.ioapic.base_address, 0xfec00000);
            for (auto &entry : chip.chip.ioapic.redirtbl)
                EXPECT_EQ(entry.bits, 0x10000);
        }
    }
    // Nonsense is kept, and harms nobody.
    for (uint32_t id : {0u, 1u, 2u}) {
        memset(&chip, 0xff, sizeof(chip));
        chip.chip_id = id;
        EXPECT_ERRNO(call(c.vm, KVM_SET_IRQCHIP, &chip), 0);
    }
    for (uint32_t irq = 0; irq < 24; irq++)
        line(c.vm, irq, 1, true);
    Vcpu vcpu(c.device, c.vm);
    for (uint32_t irq = 0; irq < 24; irq++)
        line(c.vm, irq, 1, true);
}

TEST(irqchip_line_status)
{
    Chips c;
    // Without a vCPU, PIC and IOAPIC as they were made: the PIC isn't masked, the IOAPIC is.
    EXPECT_EQ(line(c.vm, 3, 1), 1);
    EXPECT_EQ(line(c.vm, 3, 0), 2);
    EXPECT_EQ(line(c.vm, 3, 1), 0);
    EXPECT_EQ(line(c.vm, 3, 2), 1); // up already: no edge
    EXPECT_EQ(line(c.vm, 3, 0), 2);
    EXPECT_EQ(line(c.vm, 17, 1), -1);
    EXPECT_EQ(line(c.vm, 17, 0), 1);
    EXPECT_EQ(line(c.vm, 24, 1), -1);
    EXPECT_EQ(line(c.vm, 0xffffffff, 1), -1);
    kvm_irqchip chip = {};
    REQUIRE_OK(call(c.vm, KVM_GET_IRQCHIP, &chip));
    EXPECT_EQ(chip.chip.pic.irr, 8);
    chip.chip.pic.imr = 8;
    REQUIRE_OK(call(c.vm, KVM_SET_IRQCHIP, &chip));
    EXPECT_EQ(line(c.vm, 3, 1), -1);
}

TEST(irqchip_routing_counts)
{
    Chips c;
    EXPECT_EQ(c.device.extension(KVM_CAP_IRQ_ROUTING), 4096);
    Routing none(0);
    EXPECT_ERRNO(none.set(c.vm), 0);
    EXPECT_EQ(line(c.vm, 3, 1), -1);
    none.list().flags = 1;
    EXPECT_ERRNO(none.set(c.vm), EINVAL);
    Routing all(4097);
    for (uint32_t i = 0; i < 4097; i++)
        all.entry(i) = msi(i % 4096, 0x40);
    for (uint32_t count : {4097u, 0x10000000u, 0x80000000u, 0xffffffffu}) {
        all.list().nr = count;
        EXPECT_ERRNO(all.set(c.vm), EINVAL);
    }
    all.list().nr = 4096;
    EXPECT_ERRNO(all.set(c.vm), 0);
    all.list().nr = 1;
    EXPECT_ERRNO(all.set(c.vm), 0);
    // The entries end in an unmapped page.
    Memory memory(2 * kPage);
    REQUIRE_OK(munmap(memory.base + kPage, kPage));
    auto *list = reinterpret_cast<kvm_irq_routing *>(memory.base + kPage - sizeof(kvm_irq_routing));
    list->nr = 1;
    EXPECT_ERRNO(call(c.vm, KVM_SET_GSI_ROUTING, list), EFAULT);
}

TEST(irqchip_routing_entries)
{
    Chips c;
    for (uint32_t gsi : {4096u, 4097u, 0x80000000u, 0xffffffffu}) {
        EXPECT_ERRNO(set_one(c.vm, msi(gsi, 0x40)), EINVAL);
        EXPECT_ERRNO(set_one(c.vm, pin(gsi, 0, 0)), EINVAL);
    }
    EXPECT_ERRNO(set_one(c.vm, msi(4095, 0x40)), 0);
    EXPECT_ERRNO(set_one(c.vm, pin(4095, 2, 23)), 0);
    for (uint32_t number : {8u, 9u, 0xfffffff8u, 0xffffffffu}) {
        EXPECT_ERRNO(set_one(c.vm, pin(1, 0, number)), EINVAL);
        EXPECT_ERRNO(set_one(c.vm, pin(1, 1, number)), EINVAL);
    }
    EXPECT_ERRNO(set_one(c.vm, pin(1, 2, 24)), EINVAL);
    EXPECT_ERRNO(set_one(c.vm, pin(1, 3, 0)), EINVAL);
    EXPECT_ERRNO(set_one(c.vm, pin(1, 0xffffffff, 0)), EINVAL);
    for (uint32_t flag = 1; flag; flag <<= 1) {
        kvm_irq_routing_entry entry = pin(1, 0, 1);
        entry.flags = flag;
        EXPECT_ERRNO(set_one(c.vm, entry), EINVAL);
        entry = msi(1, 0x40);
        entry.flags = flag;
        EXPECT_ERRNO(set_one(c.vm, entry), flag == KVM_MSI_VALID_DEVID ? 0 : EINVAL);
    }
    for (uint32_t type : {0u, 3u, 5u, 6u, 0xffffffffu}) { // 4 is Hyper-V's
        kvm_irq_routing_entry entry = msi(1, 0x40);
        entry.type = type;
        EXPECT_ERRNO(set_one(c.vm, entry), EINVAL);
    }
    // Two of a kind on one GSI.
    const struct {
        kvm_irq_routing_entry a, b;
        int expected;
    } pairs[] = {
        {pin(5, 0, 1), pin(5, 0, 2), EINVAL}, {pin(5, 0, 1), pin(5, 1, 1), 0},
        {pin(5, 0, 1), pin(5, 2, 1), 0},      {pin(5, 2, 1), pin(6, 2, 1), 0},
        {pin(5, 0, 1), msi(5, 0x40), EINVAL}, {msi(5, 0x40), pin(5, 0, 1), EINVAL},
        {msi(5, 0x40), msi(5, 0x41), EINVAL},
    };
    for (const auto &pair : pairs) {
        Routing routing(2);
        routing.entry(0) = pair.a;
        routing.entry(1) = pair.b;
        EXPECT_ERRNO(routing.set(c.vm), pair.expected);
    }
}

TEST(irqchip_signal_msi)
{
    Chips c;
    kvm_msi message = {};
    message.address_lo = 0xfee00000;
    message.data = 0x40;
    EXPECT_ERRNO(call(c.vm, KVM_SIGNAL_MSI, &message), EPERM); // -1: nobody is there
    for (uint32_t flag = 2; flag; flag <<= 1) {
        message.flags = flag;
        EXPECT_ERRNO(call(c.vm, KVM_SIGNAL_MSI, &message), EINVAL);
    }
    message.flags = KVM_MSI_VALID_DEVID;
    message.devid = 7;
    memset(message.pad, 0xff, sizeof(message.pad));
    Vcpu vcpu(c.device, c.vm);
    kvm_lapic_state apic = {};
    REQUIRE_OK(call(vcpu, KVM_GET_LAPIC, &apic));
    REQUIRE_OK(call(vcpu, KVM_SET_LAPIC, &apic));       // from now on kvm_intel finds it
    EXPECT_EQ(call(c.vm, KVM_SIGNAL_MSI, &message), 0); // its APIC is not enabled by software
    message.data = 0x400;                               // an NMI comes through all the same
    EXPECT_EQ(call(c.vm, KVM_SIGNAL_MSI, &message), 1);
    message.address_lo = 0xfee07000; // nobody
    EXPECT_EQ(call(c.vm, KVM_SIGNAL_MSI, &message), 0);
}

TEST(irqchip_pit)
{
    for (bool irqchip : {false, true}) {
        Chips c(irqchip);
        kvm_pit_config config = {};
        config.flags = 0xffffffff; // only one bit is looked at
        memset(config.pad, 0xff, sizeof(config.pad));
        EXPECT_ERRNO(call(c.vm, KVM_CREATE_PIT2, &config), 0);
        EXPECT_ERRNO(call(c.vm, KVM_CREATE_PIT2, &config), EEXIST);
        EXPECT_ERRNO(call(c.vm, KVM_CREATE_PIT), EEXIST);
        kvm_pit_state2 state;
        memset(&state, 0xff, sizeof(state));
        REQUIRE_OK(call(c.vm, KVM_GET_PIT2, &state));
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(state.channels[i].count, 0x10000);
            EXPECT_EQ(state.channels[i].mode, 0xff);
            EXPECT_EQ(state.channels[i].gate, i != 2);
        }
        EXPECT_EQ(state.flags, 0);
        for (uint32_t reserved : state.reserved)
            EXPECT_EQ(reserved, 0);
        state.channels[0].mode = 2;
        state.channels[0].count = 1193;
        state.flags = KVM_PIT_FLAGS_SPEAKER_DATA_ON;
        state.reserved[3] = 7; // not looked at
        EXPECT_ERRNO(call(c.vm, KVM_SET_PIT2, &state), 0);
        kvm_pit_state old = {};
        REQUIRE_OK(call(c.vm, KVM_GET_PIT, &old));
        EXPECT_EQ(old.channels[0].count, 1193);
        EXPECT_EQ(old.channels[0].mode, 2);
        old.channels[0].count = 0;
        EXPECT_ERRNO(call(c.vm, KVM_SET_PIT, &old), 0);
        REQUIRE_OK(call(c.vm, KVM_GET_PIT2, &state));
        EXPECT_EQ(state.channels[0].count, 0x10000);
        EXPECT_EQ(state.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON); // the older one says nothing of it
        kvm_reinject_control control;
        memset(&control, 0xff, sizeof(control));
        EXPECT_ERRNO(call(c.vm, KVM_REINJECT_CONTROL, &control), 0);
        control.pit_reinject = 0;
        EXPECT_ERRNO(call(c.vm, KVM_REINJECT_CONTROL, &control), 0);
        memset(&state, 0xff, sizeof(state));
        EXPECT_ERRNO(call(c.vm, KVM_SET_PIT2, &state), 0);
        REQUIRE_OK(call(c.vm, KVM_GET_PIT2, &state));
        EXPECT_EQ(state.flags, 0xffffffff);
        EXPECT_EQ(state.channels[0].count, 0xffffffff);
    }
    Chips old;
    EXPECT_ERRNO(call(old.vm, KVM_CREATE_PIT), 0);
    EXPECT_ERRNO(call(old.vm, KVM_CREATE_PIT), EEXIST);
}

TEST(irqchip_capabilities)
{
    Device device;
    for (int cap :
         {KVM_CAP_IRQCHIP, KVM_CAP_IRQ_INJECT_STATUS, KVM_CAP_PIT, KVM_CAP_PIT2, KVM_CAP_PIT_STATE2,
          KVM_CAP_REINJECT_CONTROL, KVM_CAP_IRQFD, KVM_CAP_IRQFD_RESAMPLE, KVM_CAP_IOEVENTFD,
          KVM_CAP_IOEVENTFD_NO_LENGTH, KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_CAP_SIGNAL_MSI,
          KVM_CAP_COALESCED_PIO, KVM_CAP_SPLIT_IRQCHIP})
        EXPECT_EQ(device.extension(cap), 1);
    EXPECT_EQ(device.extension(KVM_CAP_COALESCED_MMIO), KVM_COALESCED_MMIO_PAGE_OFFSET);
    EXPECT_EQ(device.run_size(), 3 * kPage);
}

// What belongs to user space's interrupt controllers is refused when the kernel has them.
TEST(irqchip_and_vcpu_ioctls)
{
    Chips c;
    Vcpu vcpu(c.device, c.vm);
    kvm_interrupt interrupt = {0x40};
    EXPECT_ERRNO(call(vcpu, KVM_INTERRUPT, &interrupt), ENXIO);
    interrupt.irq = 256;
    EXPECT_ERRNO(call(vcpu, KVM_INTERRUPT, &interrupt), EINVAL);
}
