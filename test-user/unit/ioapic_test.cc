// SPDX-License-Identifier: GPL-2.0-only
//
// The I/O APIC against Intel's datasheet 290566-001 (82093AA).
#include "chips_fixture.hpp"

namespace minivmx::test {

namespace {

constexpr u32 kLevel = 0x8000, kMask = 0x10000, kRemoteIrr = 0x4000, kLogical = 0x800;

class IoapicTest : public Chips {
  protected:
    IoapicTest() : Chips{With::kIrqchip, 2} {}

    u32 reg(u32 index)
    {
        mmio_write(kIoapicBase, index);
        return mmio_read(kIoapicBase + 0x10);
    }
    void set_reg(u32 index, u32 value)
    {
        mmio_write(kIoapicBase, index);
        mmio_write(kIoapicBase + 0x10, value);
    }
    void redirect(u32 pin, u32 low, u32 destination = 0)
    {
        set_reg(0x11 + 2 * pin, destination << 24);
        set_reg(0x10 + 2 * pin, low);
    }
    u32 entry(u32 pin) { return reg(0x10 + 2 * pin); }
};

} // namespace

TEST_F(IoapicTest, Registers)
{
    EXPECT_EQ(reg(1), 0x00170011u) << "24 pins, version 11H";
    set_reg(1, 0);
    EXPECT_EQ(reg(1), 0x00170011u);
    EXPECT_EQ(reg(0), 0u);
    set_reg(0, 0xff00ffff);
    EXPECT_EQ(reg(0), 0x0f000000u) << "four bits of ID";
    EXPECT_EQ(reg(2), 0x0f000000u) << "the arbitration ID follows";
    for (u32 pin = 0; pin < 24; pin++) {
        EXPECT_EQ(entry(pin), kMask);
        EXPECT_EQ(reg(0x11 + 2 * pin), 0u);
    }
    EXPECT_EQ(reg(0x40), ~0u) << "no pin";
    EXPECT_EQ(reg(0xff), ~0u);
    set_reg(0x40, 0x12);
    EXPECT_EQ(reg(3), ~0u);
    mmio_write(kIoapicBase, 0xffffff01);
    EXPECT_EQ(mmio_read(kIoapicBase), 1u) << "IOREGSEL has eight bits";
    EXPECT_EQ(mmio_read(kIoapicBase + 0x20), 0u);
    EXPECT_EQ(mmio_read(kIoapicBase + 0x40), 0u);
}

TEST_F(IoapicTest, AccessesOfOtherSizes)
{
    u64 data = 0x1100000000000001;
    EXPECT_TRUE(kernel_mmio(vcpu(), kIoapicBase, true, &data, 8));
    EXPECT_TRUE(kernel_mmio(vcpu(), kIoapicBase + 0x10, false, &data, 8));
    EXPECT_EQ(data, 0x00170011u);
    data = ~u64{0};
    EXPECT_TRUE(kernel_mmio(vcpu(), kIoapicBase + 0x10, false, &data, 2));
    EXPECT_EQ(data, 0xffffffffffff0011u);
    data = ~u64{0};
    EXPECT_TRUE(kernel_mmio(vcpu(), kIoapicBase + 0x10, false, &data, 3));
    EXPECT_EQ(data, 0xffffffffff000000u);
    EXPECT_TRUE(kernel_mmio(vcpu(), kIoapicBase + 0xfc, false, &data, 4));
    EXPECT_FALSE(kernel_mmio(vcpu(), kIoapicBase + 0xfc, false, &data, 8)) << "ends behind it";
    EXPECT_FALSE(kernel_mmio(vcpu(), kIoapicBase + 0x100, false, &data, 4));
    EXPECT_FALSE(kernel_mmio(vcpu(), kIoapicBase - 4, false, &data, 4));
}

TEST_F(IoapicTest, EdgeTriggered)
{
    redirect(17, 0x51);
    EXPECT_EQ(line(17, true), 1);
    EXPECT_TRUE(take(0x51));
    EXPECT_EQ(line(17, true), 0) << "no edge";
    EXPECT_FALSE(take(0x51));
    EXPECT_EQ(line(17, false), 1);
    EXPECT_EQ(line(17, true), 1);
    EXPECT_TRUE(take(0x51));
    EXPECT_EQ(entry(17), 0x51u) << "no remote IRR";
}

TEST_F(IoapicTest, EdgesAreLostWhileMasked)
{
    redirect(17, 0x51 | kMask);
    EXPECT_EQ(line(17, true), -1);
    line(17, false);
    redirect(17, 0x51);
    EXPECT_FALSE(take(0x51));
}

TEST_F(IoapicTest, MergesWithOneThatWaits)
{
    redirect(17, 0x51);
    EXPECT_EQ(line(17, true), 1);
    line(17, false);
    EXPECT_EQ(line(17, true), 1) << "the local APIC has it already, and takes this one in";
    line(17, false);
}

TEST_F(IoapicTest, TwoLevelPinsWithOneVectorAreBothAccepted)
{
    redirect(18, 0x52 | kLevel);
    redirect(19, 0x52 | kLevel);
    EXPECT_EQ(line(18, true), 1);
    EXPECT_EQ(line(19, true), 1);
    EXPECT_EQ(entry(19), 0x52 | kLevel | kRemoteIrr);
    EXPECT_TRUE(take(0x52));
    line(18, false);
    eoi(0x52, true);
    EXPECT_TRUE(take(0x52)) << "the second line is still up";
    line(19, false);
    eoi(0x52, true);
    EXPECT_FALSE(take(0x52));
}

TEST_F(IoapicTest, LevelTriggered)
{
    redirect(18, 0x52 | kLevel);
    EXPECT_EQ(line(18, true), 1);
    EXPECT_TRUE(take(0x52));
    EXPECT_EQ(entry(18), 0x52 | kLevel | kRemoteIrr);
    EXPECT_EQ(line(18, true), -1) << "until it is ended nothing is sent";
    EXPECT_FALSE(take(0x52));
    eoi(0x52, true);
    EXPECT_TRUE(take(0x52)) << "the line is still up";
    line(18, false);
    EXPECT_EQ(entry(18), 0x52 | kLevel | kRemoteIrr);
    eoi(0x52, true);
    EXPECT_EQ(entry(18), 0x52 | kLevel);
    EXPECT_FALSE(take(0x52));
    eoi(0x53, true); // somebody else's
}

TEST_F(IoapicTest, LevelWaitsWhileMasked)
{
    redirect(18, 0x52 | kLevel | kMask);
    EXPECT_EQ(line(18, true), -1);
    redirect(18, 0x52 | kLevel);
    EXPECT_TRUE(take(0x52));
    // Masked while in service: not again at the end, but when the mask goes.
    set_reg(0x10 + 36, 0x52 | kLevel | kMask);
    eoi(0x52, true);
    EXPECT_FALSE(take(0x52));
    set_reg(0x10 + 36, 0x52 | kLevel);
    EXPECT_TRUE(take(0x52));
}

TEST_F(IoapicTest, ReadOnlyBitsStay)
{
    redirect(18, 0x52 | kLevel | kRemoteIrr | 0x1000);
    EXPECT_EQ(entry(18), 0x52 | kLevel);
    line(18, true);
    set_reg(0x10 + 36, 0x52 | kLevel);
    EXPECT_EQ(entry(18), 0x52 | kLevel | kRemoteIrr);
    // Edge triggered for a moment ends it, where there is no EOI register.
    set_reg(0x10 + 36, 0x52 | kMask);
    EXPECT_EQ(entry(18), 0x52 | kMask);
}

TEST_F(IoapicTest, Destinations)
{
    redirect(17, 0x51, 1);
    pulse(17);
    EXPECT_FALSE(take(0x51, 0));
    EXPECT_TRUE(take(0x51, 1));
    redirect(17, 0x51, 0xff);
    EXPECT_EQ(line(17, true), 2) << "everybody";
    EXPECT_TRUE(take(0x51, 0));
    EXPECT_TRUE(take(0x51, 1));
    line(17, false);
    redirect(17, 0x51, 7);
    EXPECT_EQ(line(17, true), -1) << "nobody";
    line(17, false);
    // Nobody takes a level-triggered one: nobody will end it, either.
    redirect(18, 0x52 | kLevel, 7);
    EXPECT_EQ(line(18, true), -1);
    EXPECT_EQ(entry(18), 0x52 | kLevel);
    redirect(18, 0x52 | kLevel, 0);
    EXPECT_TRUE(take(0x52));
}

TEST_F(IoapicTest, LogicalDestinationsAndLowestPriority)
{
    for (unsigned i = 0; i < 2; i++) {
        u32 ldr = 1u << (24 + i);
        EXPECT_TRUE(lapic_mmio(vcpu(i), 0xfee000d0, true, &ldr, 4));
    }
    redirect(17, 0x51 | kLogical, 2);
    pulse(17);
    EXPECT_FALSE(take(0x51, 0));
    EXPECT_TRUE(take(0x51, 1));
    redirect(17, 0x51 | kLogical, 3);
    EXPECT_EQ(line(17, true), 2);
    line(17, false);
    EXPECT_TRUE(take(0x51, 0));
    EXPECT_TRUE(take(0x51, 1));
    redirect(17, 0x51 | kLogical | 0x100, 3);
    EXPECT_EQ(line(17, true), 1) << "one of them";
    line(17, false);
    EXPECT_NE(take(0x51, 0), take(0x51, 1));
}

TEST_F(IoapicTest, Nmi)
{
    redirect(17, 0x400);
    pulse(17);
    EXPECT_EQ(vcpu().area->nmi_pending, 1u);
}

TEST_F(IoapicTest, TellsOfEnds)
{
    redirect(18, 0x52 | kLevel);
    redirect(19, 0x53);
    line(18, true);
    eoi(0x52, true);
    EXPECT_EQ(guest.machine.acked_gsis, std::vector<u32>{18});
    eoi(0x53, false);
    EXPECT_EQ(guest.machine.acked_gsis, (std::vector<u32>{18, 19})) << "of edges, too";
    eoi(0x54, false);
    eoi(0x54, true);
    EXPECT_EQ(guest.machine.acked_gsis.size(), 2u);
}

TEST_F(IoapicTest, WhoTakesItsLineDownAtTheEndIsNotAskedAgain)
{
    redirect(18, 0x52 | kLevel);
    set_irq(vm(), IrqSource::kResample, 18, true, false);
    EXPECT_TRUE(take(0x52));
    guest.machine.on_irq_acked = [this](u32 gsi) {
        set_irq(vm(), IrqSource::kResample, gsi, false, false);
    };
    eoi(0x52, true);
    EXPECT_FALSE(take(0x52));
}

TEST_F(IoapicTest, SourcesShareALine)
{
    redirect(18, 0x52 | kLevel);
    set_irq(vm(), IrqSource::kUser, 18, true, false);
    set_irq(vm(), IrqSource::kResample, 18, true, false);
    EXPECT_TRUE(take(0x52));
    set_irq(vm(), IrqSource::kUser, 18, false, false);
    eoi(0x52, true);
    EXPECT_TRUE(take(0x52));
    set_irq(vm(), IrqSource::kResample, 18, false, false);
    eoi(0x52, true);
    EXPECT_FALSE(take(0x52));
}

TEST_F(IoapicTest, AStormIsInterrupted)
{
    redirect(18, 0x52 | kLevel);
    line(18, true);
    int served = 0;
    while (take(0x52) && served < 20000) {
        served++;
        eoi(0x52, true);
    }
    EXPECT_EQ(served, 10000);
    guest.machine.advance(10'000'000);
    EXPECT_TRUE(take(0x52));
    eoi(0x52, true);
    EXPECT_TRUE(take(0x52));
}

TEST_F(IoapicTest, TicksOfTheClockAreCounted)
{
    redirect(8, 0x58);
    EXPECT_EQ(set_irq(vm(), IrqSource::kUser, 8, true, true), 2); // of the PIC one
    set_irq(vm(), IrqSource::kUser, 8, false, true);
    EXPECT_TRUE(take(0x58));
    out(0xa1, 0xff); // the PIC has nothing to say any more
    EXPECT_EQ(set_irq(vm(), IrqSource::kUser, 8, true, true), 0) << "the guest isn't done yet";
    set_irq(vm(), IrqSource::kUser, 8, false, true);
    EXPECT_FALSE(take(0x58));
    eoi(0x58, false);
    EXPECT_EQ(set_irq(vm(), IrqSource::kUser, 8, true, true), 1);
    EXPECT_TRUE(take(0x58));
}

// Linux moves an interrupt to another CPU while it serves it, before its EOI.
TEST_F(IoapicTest, TickWhoseVectorIsChangedMeanwhile)
{
    out(0xa1, 0xff);
    redirect(8, 0x58);
    EXPECT_EQ(set_irq(vm(), IrqSource::kUser, 8, true, true), 1);
    set_irq(vm(), IrqSource::kUser, 8, false, true);
    redirect(8, 0x59, 1);
    eoi(0x58, false);
    EXPECT_EQ(set_irq(vm(), IrqSource::kUser, 8, true, true), 1);
    EXPECT_TRUE(take(0x59, 1));
}

TEST_F(IoapicTest, StateGoesOutAndIn)
{
    redirect(17, 0x51);
    redirect(18, 0x52 | kLevel, 1);
    line(17, true);
    line(18, true);
    EXPECT_TRUE(take(0x52, 1));
    EXPECT_TRUE(take(0x51));
    kvm_irqchip chip = {};
    chip.chip_id = KVM_IRQCHIP_IOAPIC;
    ASSERT_EQ(core_get_irqchip(guest.vm.core, &chip), 0);
    const kvm_ioapic_state &state = chip.chip.ioapic;
    EXPECT_EQ(state.base_address, kIoapicBase);
    EXPECT_EQ(state.irr, bit32(18)) << "the edge is done with";
    EXPECT_EQ(state.redirtbl[18].fields.remote_irr, 1);
    EXPECT_EQ(state.redirtbl[18].fields.dest_id, 1);
    EXPECT_EQ(state.redirtbl[17].fields.vector, 0x51);

    redirect(18, kMask);
    ASSERT_EQ(core_set_irqchip(guest.vm.core, &chip), 0);
    EXPECT_FALSE(take(0x52, 1)) << "still in service";
    eoi(0x52, true, 1);
    EXPECT_TRUE(take(0x52, 1));
    // A request that another machine had not sent yet.
    chip.chip.ioapic.redirtbl[18].fields.remote_irr = 0;
    ASSERT_EQ(core_set_irqchip(guest.vm.core, &chip), 0);
    EXPECT_TRUE(take(0x52, 1));
}

TEST_F(IoapicTest, HostileState)
{
    kvm_irqchip chip;
    for (int fill : {0xff, 0x80, 0x7f, 0x01}) {
        std::memset(&chip, fill, sizeof(chip));
        chip.chip_id = KVM_IRQCHIP_IOAPIC;
        EXPECT_EQ(core_set_irqchip(guest.vm.core, &chip), 0);
        u32 value = 0;
        EXPECT_FALSE(kernel_mmio(vcpu(), kIoapicBase, false, &value, 4)) << "it moved away";
        chip.chip.ioapic.base_address = kIoapicBase;
        EXPECT_EQ(core_set_irqchip(guest.vm.core, &chip), 0);
        mmio_read(kIoapicBase + 0x10);
        mmio_write(kIoapicBase + 0x10, 0xffffffff);
        for (u32 gsi = 0; gsi < 24; gsi++)
            pulse(gsi);
        for (u32 vector = 0; vector < 256; vector++) {
            eoi(static_cast<u8>(vector), true);
            eoi(static_cast<u8>(vector), false);
        }
    }
}

} // namespace minivmx::test
