// SPDX-License-Identifier: GPL-2.0-only
//
// The 8259A pair against Intel's datasheet 231468-003, whose section names the tests carry.
#include "chips_fixture.hpp"

namespace minivmx::test {

namespace {

constexpr u16 kMaster = 0x20, kSlave = 0xa0, kElcr = 0x4d0;

class PicTest : public Chips {
  protected:
    PicTest() { initialize(); }

    void initialize(u8 icw4 = 0x01)
    {
        const struct {
            u16 port;
            u8 base, icw3;
        } chips[] = {{kMaster, 0x20, 0x04}, {kSlave, 0x28, 0x02}};
        for (const auto &chip : chips) {
            out(chip.port, 0x11);
            out(chip.port + 1, chip.base);
            out(chip.port + 1, chip.icw3);
            out(chip.port + 1, icw4);
        }
    }
    bool asks() { return pic_output(vm()); }
    int acknowledge() { return asks() ? pic_acknowledge(vm()) : -1; }
    u8 irr(u16 chip)
    {
        out(chip, 0x0a);
        return in(chip);
    }
    u8 isr(u16 chip)
    {
        out(chip, 0x0b);
        return in(chip);
    }
    void end(u16 chip) { out(chip, 0x20); }
};

} // namespace

TEST_F(PicTest, SendsTheVectorOfAPin)
{
    EXPECT_FALSE(asks());
    pulse(3);
    EXPECT_EQ(irr(kMaster), 0x08);
    EXPECT_EQ(acknowledge(), 0x23);
    EXPECT_EQ(irr(kMaster), 0);
    EXPECT_EQ(isr(kMaster), 0x08);
    EXPECT_FALSE(asks());
    end(kMaster);
    EXPECT_EQ(isr(kMaster), 0);
}

TEST_F(PicTest, PrioritiesAreFullyNested)
{
    pulse(5);
    EXPECT_EQ(acknowledge(), 0x25);
    pulse(6);
    EXPECT_FALSE(asks()) << "below the one in service";
    pulse(5);
    EXPECT_FALSE(asks()) << "the one in service";
    pulse(1);
    EXPECT_EQ(acknowledge(), 0x21) << "above it";
    end(kMaster); // the highest in service: 1
    EXPECT_EQ(isr(kMaster), 0x20);
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x25);
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x26);
}

TEST_F(PicTest, MaskedPinsWait)
{
    out(kMaster + 1, 0x10);
    EXPECT_EQ(in(kMaster + 1), 0x10);
    pulse(4);
    EXPECT_FALSE(asks());
    EXPECT_EQ(irr(kMaster), 0x10);
    out(kMaster + 1, 0);
    EXPECT_EQ(acknowledge(), 0x24);
}

TEST_F(PicTest, TheSlaveAsksThroughTheMaster)
{
    pulse(12);
    EXPECT_EQ(irr(kSlave), 0x10);
    EXPECT_EQ(irr(kMaster), 0x04);
    EXPECT_EQ(acknowledge(), 0x2c);
    EXPECT_EQ(isr(kMaster), 0x04);
    EXPECT_EQ(isr(kSlave), 0x10);
    pulse(3);
    EXPECT_FALSE(asks()) << "IR3 is below IR2, where the slave is";
    end(kSlave);
    EXPECT_FALSE(asks());
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x23);
}

TEST_F(PicTest, ARequestThatGoesAwayIsSpurious)
{
    out(kElcr, 0x20);
    line(5, true);
    EXPECT_TRUE(asks());
    line(5, false);
    EXPECT_FALSE(asks());
    EXPECT_EQ(pic_acknowledge(vm()), 0x27) << "IR7, though nothing is in service";
    EXPECT_EQ(isr(kMaster), 0);
    EXPECT_EQ(core_irqchip_ready(guest.vm.core), true);
}

TEST_F(PicTest, SpeciallyFullyNestedTheSlaveInterruptsItself)
{
    pulse(12);
    EXPECT_EQ(acknowledge(), 0x2c);
    pulse(8);
    EXPECT_FALSE(asks()) << "fully nested: the master serves IR2 already";

    initialize(0x11);
    pulse(12);
    EXPECT_EQ(acknowledge(), 0x2c);
    pulse(8);
    EXPECT_EQ(acknowledge(), 0x28);
    pulse(13);
    EXPECT_FALSE(asks());
}

TEST_F(PicTest, AutomaticEnd)
{
    initialize(0x03);
    pulse(3);
    pulse(4);
    EXPECT_EQ(acknowledge(), 0x23);
    EXPECT_EQ(isr(kMaster), 0);
    EXPECT_EQ(acknowledge(), 0x24);
    // "Automatic Rotation" in automatic-end mode: who was served comes last.
    out(kMaster, 0x80);
    pulse(3);
    EXPECT_EQ(acknowledge(), 0x23);
    pulse(3);
    pulse(6);
    EXPECT_EQ(acknowledge(), 0x26);
    out(kMaster, 0x00); // and off: the priorities stay as they are
    pulse(3);
    EXPECT_EQ(acknowledge(), 0x23);
}

TEST_F(PicTest, AutomaticRotation)
{
    pulse(1);
    EXPECT_EQ(acknowledge(), 0x21);
    out(kMaster, 0xa0); // rotate on non-specific EOI: 2 is first now, 1 last
    pulse(0);
    pulse(1);
    pulse(7);
    EXPECT_EQ(acknowledge(), 0x27);
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x20);
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x21);
}

TEST_F(PicTest, SpecificRotation)
{
    out(kMaster, 0xc4); // 4 comes last, 5 first
    pulse(4);
    pulse(0);
    pulse(6);
    EXPECT_EQ(acknowledge(), 0x26);
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x20);
    out(kMaster, 0xe0); // specific EOI of 0, which comes last
    EXPECT_EQ(isr(kMaster), 0);
    EXPECT_EQ(acknowledge(), 0x24);
}

TEST_F(PicTest, SpecificEnd)
{
    pulse(6);
    EXPECT_EQ(acknowledge(), 0x26);
    pulse(2 + 1);
    EXPECT_EQ(acknowledge(), 0x23);
    out(kMaster, 0x66);
    EXPECT_EQ(isr(kMaster), 0x08);
    out(kMaster, 0x40); // no operation
    EXPECT_EQ(isr(kMaster), 0x08);
}

TEST_F(PicTest, SpecialMaskMode)
{
    pulse(1);
    EXPECT_EQ(acknowledge(), 0x21);
    pulse(5);
    EXPECT_FALSE(asks());
    out(kMaster + 1, 0x02);
    EXPECT_FALSE(asks()) << "masked, but still in service";
    out(kMaster, 0x68);
    EXPECT_EQ(acknowledge(), 0x25) << "special mask mode lets lower ones through";
    end(kMaster); // not the masked one, though its priority is higher
    EXPECT_EQ(isr(kMaster), 0x02);
    out(kMaster, 0x48);
    pulse(5);
    EXPECT_FALSE(asks());
}

TEST_F(PicTest, EdgesAndLevels)
{
    // An edge is one request, however long the line stays up.
    line(3, true);
    EXPECT_EQ(acknowledge(), 0x23);
    end(kMaster);
    EXPECT_FALSE(asks());
    line(3, true);
    EXPECT_FALSE(asks());
    line(3, false);
    line(3, true);
    EXPECT_TRUE(asks());
    EXPECT_EQ(acknowledge(), 0x23);
    end(kMaster);
    // A level is a request as long as it is there.
    out(kElcr + 1, 0x08);
    line(11, true);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(acknowledge(), 0x2b);
        end(kSlave);
        end(kMaster);
    }
    line(11, false);
    EXPECT_FALSE(asks());
}

TEST_F(PicTest, TheControlRegistersKeepWhatMayBeLevel)
{
    out(kElcr, 0xff);
    out(kElcr + 1, 0xff);
    EXPECT_EQ(in(kElcr), 0xf8);
    EXPECT_EQ(in(kElcr + 1), 0xde);
}

TEST_F(PicTest, Poll)
{
    out(kMaster, 0x0c);
    EXPECT_EQ(in(kMaster), 0) << "nothing waits";
    pulse(4);
    pulse(6);
    out(kMaster, 0x0c);
    EXPECT_EQ(in(kMaster), 0x84);
    EXPECT_EQ(isr(kMaster), 0x10) << "the poll is an acknowledge";
    EXPECT_FALSE(asks());
    EXPECT_EQ(irr(kMaster), 0x40) << "the next read is an ordinary one";
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x26);
}

TEST_F(PicTest, InitializationForgets)
{
    out(kElcr, 0x20);
    line(5, true);
    pulse(1);
    EXPECT_EQ(acknowledge(), 0x21);
    out(kMaster + 1, 0xff);
    out(kMaster, 0xc3);
    pulse(6);
    initialize();
    EXPECT_EQ(isr(kMaster), 0);
    EXPECT_EQ(in(kMaster + 1), 0);
    EXPECT_EQ(irr(kMaster), 0x20) << "edges are gone, a level is still there";
    EXPECT_EQ(acknowledge(), 0x25);
}

TEST_F(PicTest, WordsAreIgnored)
{
    u16 word = 0xffff;
    EXPECT_TRUE(kernel_pio(vcpu(), kMaster, true, &word, 2));
    EXPECT_EQ(in(kMaster + 1), 0);
    EXPECT_TRUE(kernel_pio(vcpu(), kMaster, false, &word, 2));
    EXPECT_EQ(word, 0);
    EXPECT_FALSE(kernel_pio(vcpu(), kMaster + 1, true, &word, 2)) << "ends behind the chip";
    u32 dword = 0;
    EXPECT_FALSE(kernel_pio(vcpu(), kMaster, true, &dword, 4));
}

TEST_F(PicTest, StatusOfALine)
{
    // GSI 3 is a pin of the IOAPIC, too, which is masked: only the PIC's answer counts.
    EXPECT_EQ(line(3, true), 1);
    EXPECT_EQ(line(3, false), 2) << "a line that goes down is always heard";
    EXPECT_EQ(line(3, true), 0) << "merged with the one that waits";
    line(3, false);
    out(kMaster + 1, 0x08);
    EXPECT_EQ(line(3, true), -1) << "masked";
    line(3, false);
}

TEST_F(PicTest, SourcesShareALine)
{
    out(kElcr, 0x20);
    set_irq(vm(), IrqSource::kUser, 5, true, false);
    set_irq(vm(), IrqSource::kResample, 5, true, false);
    set_irq(vm(), IrqSource::kUser, 5, false, false);
    EXPECT_TRUE(asks());
    set_irq(vm(), IrqSource::kResample, 5, false, false);
    EXPECT_FALSE(asks());
}

TEST_F(PicTest, TellsOfEnds)
{
    pulse(5);
    pulse(14);
    EXPECT_EQ(acknowledge(), 0x2e);
    EXPECT_TRUE(guest.machine.acked_gsis.empty());
    end(kSlave);
    EXPECT_EQ(guest.machine.acked_gsis, std::vector<u32>{14});
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x25);
    out(kMaster, 0x65);
    EXPECT_EQ(guest.machine.acked_gsis, (std::vector<u32>{14, 2, 5}));
}

TEST_F(PicTest, WhoTakesItsLineDownAtTheEndIsNotAskedAgain)
{
    out(kElcr, 0x20);
    set_irq(vm(), IrqSource::kResample, 5, true, false);
    EXPECT_EQ(acknowledge(), 0x25);
    guest.machine.on_irq_acked = [this](u32 gsi) {
        EXPECT_FALSE(asks()) << "the line is looked at when its owner has heard";
        set_irq(vm(), IrqSource::kResample, gsi, false, false);
    };
    end(kMaster);
    EXPECT_FALSE(asks());
}

TEST_F(PicTest, StateGoesOutAndIn)
{
    out(kElcr, 0x20);
    out(kMaster + 1, 0x41);
    line(5, true);
    pulse(3);
    EXPECT_EQ(acknowledge(), 0x23);
    kvm_irqchip chips[2] = {};
    for (u32 n = 0; n < 2; n++) {
        chips[n].chip_id = n;
        EXPECT_EQ(core_get_irqchip(guest.vm.core, &chips[n]), 0);
    }
    EXPECT_EQ(chips[0].chip.pic.irq_base, 0x20);
    EXPECT_EQ(chips[0].chip.pic.isr, 0x08);
    EXPECT_EQ(chips[0].chip.pic.irr, 0x20);
    EXPECT_EQ(chips[0].chip.pic.imr, 0x41);
    EXPECT_EQ(chips[0].chip.pic.elcr, 0x20);
    EXPECT_EQ(chips[1].chip.pic.elcr_mask, 0xde);
    initialize();
    EXPECT_EQ(core_set_irqchip(guest.vm.core, &chips[0]), 0);
    EXPECT_EQ(isr(kMaster), 0x08);
    end(kMaster);
    EXPECT_EQ(acknowledge(), 0x25);
}

// Whatever user space says a chip's state is, it stays a chip.
TEST_F(PicTest, HostileState)
{
    kvm_irqchip chip;
    for (int fill : {0xff, 0x80, 0x7f, 0x01}) {
        for (u32 n : {0u, 1u}) {
            std::memset(&chip, fill, sizeof(chip));
            chip.chip_id = n;
            EXPECT_EQ(core_set_irqchip(guest.vm.core, &chip), 0);
        }
        for (u32 gsi = 0; gsi < 24; gsi++)
            pulse(gsi);
        for (int i = 0; i < 20; i++)
            pic_acknowledge(vm());
        for (u16 port : {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1}) {
            in(port);
            out(port, static_cast<u8>(fill));
        }
    }
    for (u32 n : {3u, 4u, 0xffffffffu}) {
        chip.chip_id = n;
        EXPECT_EQ(core_set_irqchip(guest.vm.core, &chip), -EINVAL);
        EXPECT_EQ(core_get_irqchip(guest.vm.core, &chip), -EINVAL);
    }
}

} // namespace minivmx::test
