// SPDX-License-Identifier: GPL-2.0-only
//
// The interval timer against Intel's datasheet 231164-005 (8254): counters, registers, counter 0's
// interrupt in simulated time.
#include "chips_fixture.hpp"

namespace minivmx::test {

namespace {

constexpr u16 kCounter0 = 0x40, kCounter2 = 0x42, kControl = 0x43, kSpeaker = 0x61;

// A counter by itself, at tick `now`.
struct Counter : PitCounter {
    u64 now = 1000;

    explicit Counter(u8 mode, u32 count = 0, bool gate_on = true) : PitCounter{}
    {
        gate = gate_on;
        pit_write_control(*this, static_cast<u8>(0x30 | mode << 1));
        if (count != 0)
            write(count);
    }
    void write(u32 count)
    {
        pit_write_count(*this, static_cast<u8>(count), now);
        pit_write_count(*this, static_cast<u8>(count >> 8), now);
    }
    u32 value_at(u64 ticks) { return pit_value(*this, now + ticks); }
    bool out_at(u64 ticks) { return pit_out(*this, now + ticks); }
    void gate_at(u64 ticks, bool on) { pit_set_gate(*this, on, now + ticks); }
    // OUT at each tick of the range, '-' high and '_' low.
    std::string wave(u64 from, u64 to)
    {
        std::string wave;
        for (u64 t = from; t < to; t++)
            wave += out_at(t) ? '-' : '_';
        return wave;
    }
};

} // namespace

TEST(PitCounter, Ticks)
{
    EXPECT_EQ(pit_ticks(0), 0u);
    EXPECT_EQ(pit_ticks(1'000'000'000), 1193181u);
    EXPECT_EQ(pit_ticks(88'000'000'000), 105'000'000u);
    for (u64 tick : {u64{1}, u64{104}, u64{105}, u64{106}, u64{1193181}, u64{1} << 50}) {
        EXPECT_EQ(pit_ticks(pit_ns(tick)), tick);
        EXPECT_EQ(pit_ticks(pit_ns(tick) - 1), tick - 1);
    }
}

TEST(PitCounter, Mode0InterruptOnTerminalCount)
{
    Counter c{0};
    EXPECT_FALSE(c.out_at(0)) << "low from the control word on";
    c.write(5);
    EXPECT_EQ(c.wave(0, 8), "_____---");
    EXPECT_EQ(c.value_at(2), 3u);
    EXPECT_EQ(c.value_at(5), 0u);
    EXPECT_EQ(c.value_at(6), 0xffffu) << "goes on counting";
    // The gate stops the count.
    c.write(5);
    c.gate_at(2, false);
    EXPECT_EQ(c.value_at(50), 3u);
    EXPECT_FALSE(c.out_at(50));
    c.gate_at(50, true);
    EXPECT_EQ(c.value_at(51), 2u);
    EXPECT_EQ(c.wave(50, 55), "___--");
    // The first byte of another count stops it, OUT goes low; the second starts it.
    pit_write_count(c, 4, c.now + 60);
    EXPECT_FALSE(c.out_at(70));
    pit_write_count(c, 0, c.now + 80);
    EXPECT_EQ(c.wave(80, 86), "____--");
}

TEST(PitCounter, Mode1RetriggerableOneShot)
{
    Counter c{1, 4, false};
    EXPECT_EQ(c.wave(0, 6), "------") << "not without a trigger";
    c.gate_at(10, true);
    EXPECT_EQ(c.wave(10, 16), "____--");
    EXPECT_EQ(c.value_at(11), 3u);
    c.gate_at(11, false);
    EXPECT_EQ(c.wave(11, 16), "___--") << "the gate's fall means nothing";
    c.gate_at(12, true);
    EXPECT_EQ(c.wave(12, 18), "____--") << "triggered again";
    // A new count is for the next trigger.
    c.now += 13;
    c.write(2);
    EXPECT_EQ(c.wave(0, 5), "___--");
    c.gate_at(6, false);
    c.gate_at(7, true);
    EXPECT_EQ(c.wave(7, 11), "__--");
}

TEST(PitCounter, Mode2RateGenerator)
{
    Counter c{2, 4};
    EXPECT_EQ(c.wave(0, 12), "---_---_---_");
    EXPECT_EQ(c.value_at(0), 4u);
    EXPECT_EQ(c.value_at(3), 1u);
    EXPECT_EQ(c.value_at(4), 4u);
    c.gate_at(2, false);
    EXPECT_EQ(c.wave(2, 8), "------") << "high while the gate is off";
    c.gate_at(10, true);
    EXPECT_EQ(c.wave(10, 18), "---_---_") << "from the start";
    // A new count counts from the end of the cycle on.
    c.now += 11;
    c.write(3);
    EXPECT_EQ(c.wave(0, 9), "--_--_--_");
    // So does one whose cycle is long over when somebody looks.
    Counter late{2, 4};
    late.now += 5;
    late.write(3);
    EXPECT_EQ(late.wave(300, 306), "--_--_");
}

TEST(PitCounter, Mode3SquareWave)
{
    Counter even{3, 6};
    EXPECT_EQ(even.wave(0, 12), "---___---___");
    const u32 even_values[] = {6, 4, 2, 6, 4, 2, 6};
    for (u32 t = 0; t < 7; t++)
        EXPECT_EQ(even.value_at(t), even_values[t]) << t;
    Counter odd{3, 5};
    EXPECT_EQ(odd.wave(0, 10), "---__---__");
    const u32 odd_values[] = {4, 2, 0, 4, 2, 4};
    for (u32 t = 0; t < 6; t++)
        EXPECT_EQ(odd.value_at(t), odd_values[t]) << t;
    odd.gate_at(1, false);
    EXPECT_TRUE(odd.out_at(4));
    Counter largest{3};
    largest.write(0);
    EXPECT_TRUE(largest.out_at(0x7fff));
    EXPECT_FALSE(largest.out_at(0x8000));
    EXPECT_TRUE(largest.out_at(0x10000));
}

TEST(PitCounter, Mode4SoftwareStrobe)
{
    Counter c{4};
    EXPECT_TRUE(c.out_at(0));
    c.write(3);
    EXPECT_EQ(c.wave(0, 7), "---_---");
    EXPECT_EQ(c.value_at(4), 0xffffu);
    c.gate_at(1, false);
    EXPECT_EQ(c.wave(1, 8), "-------");
    c.gate_at(9, true);
    EXPECT_EQ(c.wave(9, 13), "--_-");
    EXPECT_EQ(c.wave(0x10000 + 9, 0x10000 + 13), "----") << "once";
}

TEST(PitCounter, Mode5HardwareStrobe)
{
    Counter c{5, 3, false};
    EXPECT_EQ(c.wave(0, 6), "------");
    c.gate_at(2, true);
    EXPECT_EQ(c.wave(2, 8), "---_--");
    c.gate_at(4, false);
    c.gate_at(4, true);
    EXPECT_EQ(c.wave(4, 10), "---_--");
}

TEST(PitCounter, ModesHaveTwoNames)
{
    for (u8 mode : {6, 7}) {
        Counter c{mode, 4};
        EXPECT_EQ(c.mode, mode - 4);
    }
}

TEST(PitCounter, BinaryCodedDecimal)
{
    Counter c{2};
    pit_write_control(c, 0x35);
    c.write(0x0250);
    EXPECT_EQ(pit_cycle(c), 250u);
    EXPECT_EQ(c.value_at(1), 0x249u);
    EXPECT_EQ(c.value_at(249), 0x1u);
    EXPECT_FALSE(c.out_at(249));
    pit_write_control(c, 0x31);
    c.write(0);
    EXPECT_EQ(pit_cycle(c), 10000u);
    EXPECT_EQ(c.value_at(0), 0u);
    EXPECT_EQ(c.value_at(1), 0x9999u);
    EXPECT_EQ(c.value_at(10001), 0x9999u) << "wraps";
}

TEST(PitCounter, HalvesOfACount)
{
    Counter c{0};
    pit_write_control(c, 0x10); // low byte only
    pit_write_count(c, 0x40, c.now);
    EXPECT_EQ(c.count, 0x40u);
    EXPECT_EQ(pit_read(c, c.now + 1), 0x3f);
    EXPECT_EQ(pit_read(c, c.now + 1), 0x3f);
    pit_write_control(c, 0x20); // high byte only
    pit_write_count(c, 0x40, c.now);
    EXPECT_EQ(c.count, 0x4000u);
    EXPECT_EQ(pit_read(c, c.now + 1), 0x3f);
    pit_write_control(c, 0x30);
    c.write(0x1234);
    EXPECT_EQ(pit_read(c, c.now), 0x34);
    EXPECT_EQ(pit_read(c, c.now), 0x12);
}

TEST(PitCounter, Latches)
{
    Counter c{0, 0x1234};
    pit_latch_count(c, c.now + 1);
    pit_latch_count(c, c.now + 2); // ignored until it is read
    EXPECT_EQ(pit_read(c, c.now + 100), 0x33);
    EXPECT_EQ(pit_read(c, c.now + 100), 0x12);
    EXPECT_EQ(pit_read(c, c.now + 4), 0x30) << "live again";
    EXPECT_EQ(pit_read(c, c.now + 4), 0x12);
    // Status goes before the count.
    pit_latch_count(c, c.now + 1);
    pit_latch_status(c, c.now + 0x1234);
    EXPECT_EQ(pit_read(c, c.now), 0x80 | 0x30) << "OUT is high, mode 0, both bytes";
    EXPECT_EQ(pit_read(c, c.now), 0x33);
    EXPECT_EQ(pit_read(c, c.now), 0x12);
    // Null count: what was written isn't counting yet.
    Counter empty{2};
    pit_latch_status(empty, empty.now);
    EXPECT_EQ(pit_read(empty, empty.now), 0x80 | 0x40 | 0x34);
    empty.write(100);
    pit_latch_status(empty, empty.now);
    EXPECT_EQ(pit_read(empty, empty.now), 0x80 | 0x34);
    empty.write(200);
    pit_latch_status(empty, empty.now + 1);
    EXPECT_EQ(pit_read(empty, empty.now), 0x80 | 0x40 | 0x34);
    pit_latch_status(empty, empty.now + 100);
    EXPECT_EQ(pit_read(empty, empty.now), 0x80 | 0x34);
}

// ---- The device ---------------------------------------------------------------

namespace {

class PitTest : public Chips {
  protected:
    PitTest() : Chips{With::kIrqchipAndPit}
    {
        guest.machine.time_ns = pit_ns(1'000'000);
        vm().ioapic->redirect[0] = 0x31;
        out(0x21, 0xff);
        ioapic_set_state_again();
    }

    // The vectors of edges are noted when the guest writes them.
    void ioapic_set_state_again()
    {
        kvm_ioapic_state state;
        ioapic_get_state(vm(), state);
        ioapic_set_state(vm(), state);
    }
    void program(u8 control, u32 count, u16 port = kCounter0)
    {
        out(kControl, control);
        out(port, static_cast<u8>(count));
        out(port, static_cast<u8>(count >> 8));
    }
    void advance(u64 ticks)
    {
        guest.machine.advance(pit_ns(pit_ticks(guest.machine.time_ns) + ticks) -
                              guest.machine.time_ns);
    }
    bool tick() { return take(0x31); }
    // Takes and ends as many as come.
    int serve()
    {
        int served = 0;
        for (; tick(); served++)
            eoi(0x31, false);
        return served;
    }
};

} // namespace

TEST_F(PitTest, Periodic)
{
    for (u8 control : {0x34, 0x36}) {
        program(control, 1000);
        advance(999);
        EXPECT_EQ(serve(), 0);
        advance(1);
        EXPECT_EQ(serve(), 1);
        for (int i = 0; i < 10; i++) {
            advance(1000);
            EXPECT_EQ(serve(), 1);
        }
    }
}

TEST_F(PitTest, OneShot)
{
    program(0x30, 1000);
    advance(999);
    EXPECT_EQ(serve(), 0);
    advance(1);
    EXPECT_EQ(serve(), 1);
    advance(0x20000);
    EXPECT_EQ(serve(), 0);
    program(0x38, 1000);
    advance(1000);
    EXPECT_EQ(serve(), 0);
    advance(1);
    EXPECT_EQ(serve(), 1) << "the strobe's end is the rising edge";
    for (u8 control : {0x32, 0x3a}) { // its gate never rises
        program(control, 1000);
        advance(0x20000);
        EXPECT_EQ(serve(), 0);
    }
}

TEST_F(PitTest, TheControlWordStopsIt)
{
    program(0x34, 1000);
    advance(1000);
    EXPECT_EQ(serve(), 1);
    out(kControl, 0x34);
    advance(5000);
    EXPECT_EQ(serve(), 0);
}

TEST_F(PitTest, ANewCountBeginsWithTheNextCycle)
{
    program(0x34, 1000);
    advance(100);
    out(kCounter0, 0xf4); // 500
    out(kCounter0, 0x01);
    advance(899);
    EXPECT_EQ(serve(), 0);
    advance(1);
    EXPECT_EQ(serve(), 1);
    advance(499);
    EXPECT_EQ(serve(), 0);
    advance(1);
    EXPECT_EQ(serve(), 1);
}

TEST_F(PitTest, MissedTicksFollow)
{
    program(0x34, 1000);
    advance(5000);
    EXPECT_EQ(serve(), 5) << "one at each end";
    advance(1000);
    EXPECT_EQ(serve(), 1);
    ASSERT_EQ(core_reinject_control(guest.vm.core, false), 0);
    advance(5000);
    EXPECT_EQ(serve(), 1) << "or they are lost";
    ASSERT_EQ(core_reinject_control(guest.vm.core, true), 0);
    advance(3000);
    EXPECT_EQ(serve(), 3);
}

TEST_F(PitTest, TicksWhileMaskedAreForgotten)
{
    program(0x34, 1000);
    mmio_write(kIoapicBase, 0x10);
    mmio_write(kIoapicBase + 0x10, 0x10031);
    advance(5000);
    EXPECT_EQ(serve(), 0);
    mmio_write(kIoapicBase + 0x10, 0x31);
    EXPECT_EQ(serve(), 0);
    advance(1000);
    EXPECT_EQ(serve(), 1);
}

TEST_F(PitTest, ThroughThePic)
{
    vm().ioapic->redirect[0] = kRedirectMasked;
    for (u8 value : {0x20, 0x04, 0x01})
        out(0x21, value); // no ICW1 yet: masks
    out(0x20, 0x11);
    for (u8 value : {0x20, 0x04, 0x01})
        out(0x21, value);
    program(0x34, 1000);
    advance(3000);
    int served = 0;
    while (pic_output(vm())) {
        EXPECT_EQ(pic_acknowledge(vm()), 0x20);
        out(0x20, 0x20);
        served++;
    }
    EXPECT_EQ(served, 3);
}

// Virtual wire mode: LINT0 as NMI, whatever the PIC and IOAPIC think of the line.
TEST_F(PitTest, AWatchdogByNmi)
{
    auto set_lint0 = [this](u32 value) {
        EXPECT_TRUE(lapic_mmio(vcpu(), 0xfee00350, true, &value, 4));
    };
    u32 &nmis = vcpu().area->nmi_pending;
    mmio_write(kIoapicBase, 0x10);
    mmio_write(kIoapicBase + 0x10, 0x10031); // masked
    program(0x34, 1000);
    advance(1000);
    EXPECT_EQ(nmis, 0u);
    set_lint0(0x10400); // NMI, masked
    ASSERT_EQ(core_reinject_control(guest.vm.core, false), 0);
    advance(1000);
    EXPECT_EQ(nmis, 0u);
    set_lint0(0x400);
    guest.machine.kicks.clear();
    advance(3000);
    EXPECT_EQ(nmis, 3u);
    EXPECT_FALSE(guest.machine.kicks.empty());
    set_lint0(0x700); // ExtINT: the PIC's
    advance(3000);
    EXPECT_EQ(nmis, 3u);
}

TEST_F(PitTest, AGuestCannotKeepTheHostBusy)
{
    program(0x34, 1);
    guest.machine.advance(1'000'000); // ends, or it would fire a million times
    EXPECT_LE(serve(), 6);
    EXPECT_GE(guest.machine.next_deadline(), guest.machine.time_ns);
}

TEST_F(PitTest, ReadBack)
{
    program(0x34, 1000);
    program(0xb6, 500, kCounter2);
    out(kSpeaker, 1);
    advance(10);
    out(kControl, 0xc0 | 0x0a); // counters 0 and 2, count and status
    advance(100);
    EXPECT_EQ(in(kCounter0), 0x80 | 0x34);
    EXPECT_EQ(in(kCounter0), 990 & 0xff);
    EXPECT_EQ(in(kCounter0), 990 >> 8);
    EXPECT_EQ(in(kCounter2), 0x80 | 0x36);
    EXPECT_EQ(in(kCounter2), 480 & 0xff);
    EXPECT_EQ(in(kCounter2), 480 >> 8);
    out(kControl, 0xe0 | 0x02); // status of counter 0 only
    EXPECT_EQ(in(kCounter0), 0x80 | 0x34);
    out(kControl, 0x00); // latch counter 0
    advance(5);
    EXPECT_EQ(in(kCounter0), 890 & 0xff);
    EXPECT_EQ(in(kCounter0), 890 >> 8);
    EXPECT_EQ(in(kControl), 0);
}

TEST_F(PitTest, Speaker)
{
    EXPECT_EQ(in(kSpeaker)&0x23, 0);
    out(kSpeaker, 3);
    EXPECT_EQ(in(kSpeaker)&0x03, 3);
    out(kSpeaker, 1);
    program(0xb0, 1000, kCounter2);
    EXPECT_EQ(in(kSpeaker)&0x23, 1);
    advance(1000);
    EXPECT_EQ(in(kSpeaker)&0x23, 0x21) << "how Linux measures its clocks";
    const u8 before = in(kSpeaker)&0x10;
    guest.machine.advance(1 << 14);
    EXPECT_NE(in(kSpeaker)&0x10, before) << "the refresh signal";
}

TEST_F(PitTest, PortsOfOtherSizes)
{
    u32 data = 0x34343434;
    EXPECT_TRUE(kernel_pio(vcpu(), 0x40, false, &data, 4));
    EXPECT_EQ(data >> 8, 0u);
    EXPECT_FALSE(kernel_pio(vcpu(), 0x43, true, &data, 2)) << "ends behind it";
    EXPECT_FALSE(kernel_pio(vcpu(), 0x44, true, &data, 1));
    EXPECT_FALSE(kernel_pio(vcpu(), 0x62, true, &data, 1));
}

TEST_F(PitTest, StateGoesOutAndIn)
{
    program(0x34, 1000);
    program(0xb6, 500, kCounter2);
    out(kSpeaker, 3);
    out(kCounter0, 0x12); // half a count
    out(kControl, 0x80);  // latched
    kvm_pit_state2 state;
    ASSERT_EQ(core_get_pit(guest.vm.core, &state), 0);
    EXPECT_EQ(state.flags, u32{KVM_PIT_FLAGS_SPEAKER_DATA_ON});
    EXPECT_EQ(state.channels[0].count, 1000u);
    EXPECT_EQ(state.channels[0].mode, 2);
    EXPECT_EQ(state.channels[0].write_state, 4);
    EXPECT_EQ(state.channels[0].write_latch, 0x12);
    EXPECT_EQ(state.channels[1].count, 0x10000u);
    EXPECT_EQ(state.channels[1].mode, 0xff);
    EXPECT_EQ(state.channels[2].count_latched, 3);
    EXPECT_EQ(state.channels[2].gate, 1);
    program(0x30, 1);
    advance(10);
    serve();
    ASSERT_EQ(core_set_pit(guest.vm.core, &state), 0);
    kvm_pit_state2 again;
    ASSERT_EQ(core_get_pit(guest.vm.core, &again), 0);
    for (const auto &s : {&state, &again})
        for (auto &channel : s->channels)
            channel.count_load_time = 0;
    EXPECT_EQ(std::memcmp(&state, &again, sizeof(state)), 0);
    advance(1000);
    EXPECT_EQ(serve(), 1);
    out(kCounter0, 0x01); // the other half: 0x112
    advance(1000);
    EXPECT_EQ(serve(), 1);
    advance(0x112);
    EXPECT_EQ(serve(), 1);
}

TEST_F(PitTest, TheHpetTakesItsPlace)
{
    program(0x34, 1000);
    kvm_pit_state2 state;
    ASSERT_EQ(core_get_pit(guest.vm.core, &state), 0);
    state.flags |= KVM_PIT_FLAGS_HPET_LEGACY;
    ASSERT_EQ(core_set_pit(guest.vm.core, &state), 0);
    advance(5000);
    EXPECT_EQ(serve(), 0);
    program(0x34, 1000);
    advance(5000);
    EXPECT_EQ(serve(), 0);
    state.flags = 0;
    ASSERT_EQ(core_set_pit(guest.vm.core, &state), 0);
    advance(1000);
    EXPECT_EQ(serve(), 1);
}

TEST_F(PitTest, HostileState)
{
    kvm_pit_state2 state;
    for (int fill : {0xff, 0x80, 0x7f, 0x01, 0x00}) {
        for (u32 mode = 0; mode < 256; mode += mode < 8 ? 1 : 31) {
            std::memset(&state, fill, sizeof(state));
            state.flags = 0;
            for (auto &channel : state.channels)
                channel.mode = static_cast<u8>(mode);
            ASSERT_EQ(core_set_pit(guest.vm.core, &state), 0);
            advance(100'000);
            for (u16 port : {0x40, 0x41, 0x42, 0x43, 0x61})
                in(port);
            out(kControl, 0xc0 | 0x0e);
            out(kCounter0, 1);
            out(kCounter0, 0);
            serve();
        }
    }
}

TEST_F(PitTest, OnlyWithTheSpeakerItsPort)
{
    GuestMachine &other = guest;
    core_vm_stop_timers(other.vm.core);
    u8 value = 0;
    EXPECT_FALSE(kernel_pio(vcpu(), kSpeaker, false, &value, 1)) << "no PIT at all";
    ASSERT_EQ(core_create_pit(other.vm.core, 0), 0);
    EXPECT_FALSE(kernel_pio(vcpu(), kSpeaker, false, &value, 1));
    EXPECT_TRUE(kernel_pio(vcpu(), kCounter0, false, &value, 1));
}

} // namespace minivmx::test
