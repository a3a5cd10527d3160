// SPDX-License-Identifier: GPL-2.0-only
//
// The local APIC's timer: SDM Vol. 3A, 11.5.4. The bus clock ticks once a nanosecond.
#include "lapic_fixture.hpp"

namespace minivmx::test {
namespace {

class LapicTimer : public LapicTest {
  protected:
    static Parameters without_preemption_timer()
    {
        Parameters params = quiet();
        params.preemption_timer = false;
        return params;
    }
    explicit LapicTimer(Parameters params = without_preemption_timer(), u32 tsc_khz = 1'000'000)
        : LapicTest(1, params, tsc_khz)
    {
        enable(0);
        write(kApicDivide, 0xb); // by 1
    }
    void advance(u64 ns)
    {
        guest.machine.advance(ns);
        guest.machine.tsc += ns; // 1 GHz
    }
    unsigned fired() { return receivers(0x40); }
    unsigned test_request(u8 vector)
    {
        return apic_register(apic(), kApicIrr + vector / 32 * 16) >> vector % 32 & 1;
    }
};

TEST_F(LapicTimer, OneShotCountsDownOnce)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 1'000'000);
    EXPECT_EQ(read(kApicCurrentCount), 1'000'000u);
    advance(250'000);
    EXPECT_EQ(read(kApicCurrentCount), 750'000u);
    EXPECT_EQ(fired(), 0u);
    advance(750'000);
    EXPECT_EQ(fired(), 1u);
    EXPECT_EQ(guest.machine.kicks.size(), 1u);
    EXPECT_EQ(read(kApicCurrentCount), 0u);
    EXPECT_EQ(read(kApicInitialCount), 1'000'000u);
    advance(10'000'000);
    EXPECT_EQ(fired(), 0u);
    write(kApicInitialCount, 0);
    EXPECT_EQ(guest.machine.next_deadline(), ~u64{0});
}

TEST_F(LapicTimer, ZeroStopsIt)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 1'000'000);
    write(kApicInitialCount, 0);
    EXPECT_EQ(read(kApicCurrentCount), 0u);
    advance(2'000'000);
    EXPECT_EQ(fired(), 0u);
}

TEST_F(LapicTimer, Periodic)
{
    write(kApicLvtTimer, 0x20040);
    write(kApicInitialCount, 1'000'000);
    for (int i = 0; i < 3; i++) {
        advance(999'999);
        EXPECT_EQ(fired(), 0u);
        EXPECT_EQ(read(kApicCurrentCount), 1u);
        advance(1);
        EXPECT_EQ(fired(), 1u);
        EXPECT_EQ(read(kApicCurrentCount), 1'000'000u);
    }
    // Interrupts that were missed are one, and the beat stays.
    guest.machine.time_ns += 5'300'000;
    guest.machine.advance(0);
    EXPECT_EQ(fired(), 1u);
    EXPECT_EQ(read(kApicCurrentCount), 700'000u);
}

// KVM's limit: 200 microseconds.
TEST_F(LapicTimer, PeriodHasALimit)
{
    write(kApicLvtTimer, 0x20040);
    write(kApicInitialCount, 1);
    EXPECT_EQ(guest.machine.next_deadline(), guest.machine.time_ns + 200'000);
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 1);
    EXPECT_EQ(guest.machine.next_deadline(), guest.machine.time_ns + 1) << "a single one has none";
}

// SDM Vol. 3A, figure 11-10
TEST_F(LapicTimer, Divider)
{
    write(kApicLvtTimer, 0x40);
    const struct {
        u32 code, divide;
    } rows[] = {{0xb, 1}, {0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {0xa, 128}};
    for (const auto &row : rows) {
        write(kApicDivide, row.code);
        write(kApicInitialCount, 10'000);
        EXPECT_EQ(guest.machine.next_deadline(), guest.machine.time_ns + 10'000 * row.divide);
        EXPECT_EQ(read(kApicCurrentCount), 10'000u);
    }
}

TEST_F(LapicTimer, NewDividerKeepsTheCount)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 100'000);
    advance(50'000);
    write(kApicDivide, 1); // by 4
    EXPECT_EQ(read(kApicCurrentCount), 50'000u);
    advance(40'000);
    EXPECT_EQ(read(kApicCurrentCount), 40'000u);
    advance(160'000);
    EXPECT_EQ(fired(), 1u);
}

TEST_F(LapicTimer, MaskedItCountsInSilence)
{
    write(kApicLvtTimer, 0x20040 | 1u << 16);
    write(kApicInitialCount, 1'000'000);
    advance(1'500'000);
    EXPECT_EQ(fired(), 0u);
    EXPECT_EQ(read(kApicCurrentCount), 500'000u);
    write(kApicLvtTimer, 0x20040);
    advance(500'000);
    EXPECT_EQ(fired(), 1u);
}

TEST_F(LapicTimer, DeliversAnNmi)
{
    // The timer's entry has no delivery mode; the performance counters' has.
    write(kApicLvtTimer, 0x440);
    EXPECT_EQ(read(kApicLvtTimer), 0x40u);
    write(kApicLvtPerformance, 0x400);
    lapic_local_event(apic(), kApicLvtPerformance, true);
    EXPECT_EQ(host().area.nmi_pending, 1u);
}

// SDM Vol. 3A, 11.5.4.1
TEST_F(LapicTimer, TscDeadline)
{
    lapic_write_tsc_deadline(vmx(), 1'000'000);
    EXPECT_EQ(lapic_tsc_deadline(vmx()), 0u) << "not in that mode";
    write(kApicLvtTimer, 0x40040);
    EXPECT_EQ(read(kApicLvtTimer), 0x40040u);
    const u64 now = guest_tsc(vmx());
    lapic_write_tsc_deadline(vmx(), now + 500'000);
    EXPECT_EQ(lapic_tsc_deadline(vmx()), now + 500'000);
    EXPECT_EQ(read(kApicCurrentCount), 0u);
    write(kApicInitialCount, 77);
    EXPECT_EQ(read(kApicInitialCount), 0u) << "ignored in this mode";
    advance(400'000);
    EXPECT_EQ(fired(), 0u);
    advance(100'000);
    EXPECT_EQ(fired(), 1u);
    EXPECT_EQ(lapic_tsc_deadline(vmx()), 0u) << "disarmed";
    lapic_write_tsc_deadline(vmx(), 1);
    EXPECT_EQ(fired(), 1u) << "the past is at once";
    lapic_write_tsc_deadline(vmx(), guest_tsc(vmx()) + 500'000);
    lapic_write_tsc_deadline(vmx(), 0);
    advance(1'000'000);
    EXPECT_EQ(fired(), 0u);
    lapic_write_tsc_deadline(vmx(), guest_tsc(vmx()) + 500'000);
    write(kApicLvtTimer, 0x40);
    advance(1'000'000);
    EXPECT_EQ(fired(), 0u) << "leaving the mode disarms it";
}

TEST_F(LapicTimer, DeadlineFollowsTheTsc)
{
    write(kApicLvtTimer, 0x40040);
    lapic_write_tsc_deadline(vmx(), guest_tsc(vmx()) + 500'000);
    write_tsc_offset(vmx(), vmx().msrs.tsc_offset + 400'000);
    EXPECT_EQ(fired(), 0u);
    advance(100'000);
    EXPECT_EQ(fired(), 1u);
    lapic_write_tsc_deadline(vmx(), guest_tsc(vmx()) + 500'000);
    write_tsc_offset(vmx(), vmx().msrs.tsc_offset + 600'000);
    EXPECT_EQ(fired(), 1u);
}

TEST_F(LapicTimer, FarDeadlines)
{
    write(kApicLvtTimer, 0x40040);
    lapic_write_tsc_deadline(vmx(), ~u64{0});
    EXPECT_GT(guest.machine.next_deadline(), guest.machine.time_ns + (u64{1} << 60));
    advance(1'000'000'000);
    EXPECT_EQ(fired(), 0u);
}

TEST_F(LapicTimer, ModeChangeKeepsACountThatRuns)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 1'000'000);
    advance(400'000);
    write(kApicLvtTimer, 0x20040);
    EXPECT_EQ(read(kApicCurrentCount), 600'000u);
    advance(600'000);
    EXPECT_EQ(fired(), 1u);
    advance(1'000'000);
    EXPECT_EQ(fired(), 1u);
}

// A short count may not become a period below the limit.
TEST_F(LapicTimer, ModeChangeKeepsTheLimit)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 100);
    write(kApicLvtTimer, 0x20040);
    advance(100);
    EXPECT_EQ(fired(), 1u);
    EXPECT_EQ(guest.machine.next_deadline(), guest.machine.time_ns + 200'000);
}

TEST_F(LapicTimer, CountsToZeroOnlyWhenItInterrupts)
{
    write(kApicDivide, 0xa); // by 128
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 10);
    advance(1279);
    EXPECT_EQ(read(kApicCurrentCount), 1u);
    EXPECT_EQ(fired(), 0u);
    advance(1);
    EXPECT_EQ(read(kApicCurrentCount), 0u);
    EXPECT_EQ(fired(), 1u);
}

TEST_F(LapicTimer, ResetStopsIt)
{
    write(kApicLvtTimer, 0x20040);
    write(kApicInitialCount, 1'000'000);
    lapic_reset(vmx(), true);
    EXPECT_EQ(guest.machine.next_deadline(), ~u64{0});
    advance(5'000'000);
    EXPECT_EQ(fired(), 0u);
}

// Time has passed the deadline, but the host's timer has not fired yet (it may be another CPU's),
// when something else wakes the vCPU or the timer is set up anew.
TEST_F(LapicTimer, LateInterruptIsNotLost)
{
    auto be_late = [this] {
        write(kApicInitialCount, 0);
        write(kApicLvtTimer, 0x40);
        write(kApicInitialCount, 1'000'000);
        guest.machine.time_ns += 2'000'000;
        EXPECT_EQ(read(kApicCurrentCount), 1u);
    };
    be_late();
    lapic_timer_to_guest(apic());
    guest.machine.advance(0);
    EXPECT_EQ(fired(), 1u);
    EXPECT_EQ(read(kApicCurrentCount), 0u);
    be_late();
    write(kApicDivide, 0);
    guest.machine.advance(10);
    EXPECT_EQ(fired(), 1u);
    be_late();
    write(kApicLvtTimer, 0x20040);
    guest.machine.advance(0);
    EXPECT_EQ(fired(), 1u);

    be_late();
    kvm_lapic_state state{};
    ASSERT_EQ(core_get_lapic(host().core, &state), 0);
    ASSERT_EQ(core_set_lapic(host().core, &state), 0);
    guest.machine.advance(10);
    EXPECT_EQ(fired(), 1u) << "nor by a client that saves and restores";
}

TEST_F(LapicTimer, WakesAHalt)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 1'000'000);
    interrupts(true);
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    ASSERT_EQ(entered.size(), 2u);
    EXPECT_EQ(entered[1].event, event(0x40));
    EXPECT_EQ(guest.machine.blocks, 1u);
}

// ---- By the VMX-preemption timer ----

class LapicPreemptionTimer : public LapicTimer {
  protected:
    // With a faster TSC its 32 bits last too short to be of use, and negotiation turns it off.
    LapicPreemptionTimer() : LapicTimer(quiet(), 400'000)
    {
        EXPECT_TRUE(guest.params.preemption_timer);
    }
};

TEST_F(LapicPreemptionTimer, CountsDownInTheGuest)
{
    write(kApicLvtTimer, 0x40040);
    interrupts(true);
    lapic_write_tsc_deadline(vmx(), guest_tsc(vmx()) + 1'000'000);
    EXPECT_EQ(guest.machine.next_deadline(), ~u64{0}) << "the host's timer rests";
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_PREEMPTION_TIMER}), 0);
    ASSERT_EQ(entered.size(), 3u);
    EXPECT_LT(entered[0].timer, 1'000'000u);
    EXPECT_GT(entered[0].timer, 0u);
    EXPECT_EQ(entered[2].event, event(0x40));
    EXPECT_EQ(entered[2].timer, ~0u);
}

TEST_F(LapicPreemptionTimer, SleepNeedsTheHosts)
{
    write(kApicLvtTimer, 0x20040);
    write(kApicInitialCount, 1'000'000);
    interrupts(true);
    EXPECT_EQ(run({EXIT_REASON_HLT}), 0);
    ASSERT_EQ(entered.size(), 2u);
    EXPECT_EQ(entered[1].event, event(0x40));
    EXPECT_EQ(guest.machine.next_deadline(), ~u64{0}) << "back in the guest";
}

TEST_F(LapicPreemptionTimer, LateInterruptIsNotLost)
{
    write(kApicLvtTimer, 0x40);
    write(kApicInitialCount, 1'000'000);
    interrupts(true);
    // Woken by something else, late, and before the host's timer fires.
    guest.machine.on_block = [this](host_vcpu &) {
        guest.machine.time_ns += 2'000'000;
        lapic_post(apic(), 0x51, false, true);
    };
    EXPECT_EQ(run({EXIT_REASON_HLT, EXIT_REASON_PREEMPTION_TIMER}), 0);
    ASSERT_EQ(entered.size(), 3u);
    EXPECT_EQ(entered[1].event, event(0x51));
    EXPECT_EQ(entered[1].timer, 0u);
    EXPECT_EQ(receivers(0x40) | test_request(0x40), 1u);
}

// The machine slept, and its TSC began anew: the guest's goes on, so does the countdown.
TEST_F(LapicPreemptionTimer, SurvivesATscThatGoesBack)
{
    write(kApicLvtTimer, 0x40040);
    interrupts(true);
    guest.machine.tsc = 1'000'000'000;
    core_vcpu_load(host().core, 0);
    lapic_write_tsc_deadline(vmx(), guest_tsc(vmx()) + 1'000'000);
    core_vcpu_put(host().core);
    // The machine has slept, before which each CPU's VMCSs are cleared.
    loaded_vmcs_clear(vmx().vmcs01);
    guest.machine.tsc = 5'000;
    EXPECT_EQ(run({EXIT_REASON_EXTERNAL_INTERRUPT}), 0);
    EXPECT_LE(entered[0].timer, 1'000'000u);
    EXPECT_GT(entered[0].timer, 900'000u);
}

} // namespace
} // namespace minivmx::test
