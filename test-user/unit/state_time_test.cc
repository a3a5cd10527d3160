// SPDX-License-Identifier: GPL-2.0-only
//
// What guests and clients see of time: kvmclock, KVM_GET/SET_CLOCK, the guest's TSC and its rate.
#include "state_ioctl_fixture.hpp"

namespace minivmx::test {
namespace {

class Time : public StateIoctl {
  protected:
    static constexpr u64 kPage = 0x3000;
    struct Page {
        u32 version, pad;
        u64 tsc, time;
        u32 mul;
        s8 shift;
        u8 flags, pad2[2];
    };
    Time() { guest.add_ram(0, 0, 0x10000); }
    Page page()
    {
        update_guest_clock(guest.vmx());
        return guest.peek<Page>(kPage);
    }
    static u64 time_at(const Page &page, u64 tsc)
    {
        u64 delta = tsc - page.tsc;
        delta = page.shift < 0 ? delta >> -page.shift : delta << page.shift;
        return page.time + static_cast<u64>(static_cast<unsigned __int128>(delta) * page.mul >> 32);
    }
};

TEST_F(Time, SystemTimePage)
{
    guest.machine.advance(5'000'000'000);
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, kPage | 1));
    const Page first = page();
    EXPECT_EQ(first.version, 2u);
    EXPECT_EQ(first.flags, 1); // the host's clock counts the TSC
    EXPECT_GE(first.time, 5'000'000'000u);
    // A second of the guest's TSC is a second.
    const u64 second = u64{guest.vmx().time.khz} * 1000;
    const u64 later = time_at(first, first.tsc + second);
    EXPECT_NEAR(static_cast<double>(later - first.time), 1e9, 2000);

    EXPECT_EQ(page().version, 2u); // nothing to do
    EXPECT_EQ(core_kvmclock_ctrl(guest.vcpu()), 0);
    EXPECT_EQ(page().flags, 3);
    EXPECT_EQ(guest.peek<Page>(kPage).version, 4u);
    guest.vmx().time.update_due = true;
    EXPECT_EQ(page().flags, 3); // until the guest has seen it
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME, 0));
    EXPECT_EQ(core_kvmclock_ctrl(guest.vcpu()), -EINVAL);
    EXPECT_EQ(page().version, 6u);
}

// What the host asks of each vCPU before the machine sleeps.
TEST_F(Time, GuestsHearThatTheMachineSlept)
{
    guest.area().requests = VCPU_REQUEST_STOPPED;
    guest.run().immediate_exit = 0;
    guest.machine.signal_pending = true; // KVM_RUN comes back before it enters
    EXPECT_EQ(core_vcpu_run(guest.vcpu()), -EINTR);
    EXPECT_FALSE(guest.vmx().time.guest_stopped) << "no kvmclock: nothing to tell it with";

    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, kPage | 1));
    EXPECT_EQ(page().flags, 1);
    guest.area().requests = VCPU_REQUEST_STOPPED;
    EXPECT_EQ(core_vcpu_run(guest.vcpu()), -EINTR);
    EXPECT_EQ(page().flags, 3);
    EXPECT_EQ(guest.area().requests, 0u);
}

// A rate so near to the host's that nothing is scaled: the guest's TSC counts as the host's.
TEST_F(Time, RateIsTheOneThatTheTscHas)
{
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, kPage | 1));
    const Page first = page();
    ASSERT_EQ(core_set_tsc_khz(guest.vcpu(), guest.machine.host_info.tsc_khz + 200), 0);
    guest.vmx().time.update_due = true;
    EXPECT_EQ(page().mul, first.mul);
    EXPECT_EQ(page().shift, first.shift);
}

// The thread may move to another CPU between the page and the entry: a request keeps it out.
TEST_F(Time, MoveToAnotherCpuIsARequest)
{
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, kPage | 1));
    (void)page();
    guest.area().requests = 0;
    time_vcpu_load(guest.vmx(), false);
    EXPECT_EQ(guest.area().requests, 0u);
    time_vcpu_load(guest.vmx(), true);
    EXPECT_EQ(guest.area().requests, u32{VCPU_REQUEST_CLOCK});
}

TEST_F(Time, DoesNotGoBackWhereTheGuestIsAhead)
{
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, kPage | 1));
    const Page first = page();
    // Two seconds of the TSC, one of the clock that it is compared with.
    guest.machine.tsc += u64{guest.vmx().time.khz} * 2000;
    guest.machine.advance(1'000'000'000);
    clock_changed(guest.kvm());
    guest.vmx().time.update_due = true;
    guest.area().requests = 0;
    const Page second = page();
    EXPECT_GE(second.time, time_at(first, second.tsc));
    // What a client sets is what counts.
    kvm_clock_data data{};
    data.clock = 5000;
    ASSERT_EQ(core_set_clock(guest.host().core, &data), 0);
    guest.vmx().time.update_due = true;
    EXPECT_LT(page().time, 100'000u);
}

TEST_F(Time, WithoutTheTscAsClock)
{
    guest.machine.clock_counts_tsc = false;
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, kPage | 1));
    EXPECT_EQ(page().flags, 0);
    kvm_clock_data data;
    ASSERT_EQ(core_get_clock(guest.host().core, &data), 0);
    EXPECT_EQ(data.flags, 0u);
}

TEST_F(Time, PageThatIsNowhere)
{
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_SYSTEM_TIME_NEW, 0x7ffff0000001));
    update_guest_clock(guest.vmx());
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_WALL_CLOCK_NEW, 0x7ffff0000000));
    EXPECT_EQ(guest.rdmsr(MSR_KVM_WALL_CLOCK), 0x7ffff0000000u);
}

TEST_F(Time, WallClock)
{
    guest.machine.advance(7'000'000'000);
    ASSERT_TRUE(guest.wrmsr(MSR_KVM_WALL_CLOCK_NEW, kPage));
    EXPECT_EQ(guest.peek<u32>(kPage), 2u);
    // When the guest's clock was at 0, that is when the VM was made.
    EXPECT_NEAR(guest.peek<u32>(kPage + 4), 1'700'000'000, 1);
}

TEST_F(Time, Clock)
{
    kvm_clock_data data{};
    data.clock = 1'000'000'000'000;
    ASSERT_EQ(core_set_clock(guest.host().core, &data), 0);
    EXPECT_TRUE(guest.area().requests & VCPU_REQUEST_CLOCK);
    guest.machine.advance(1000);
    ASSERT_EQ(core_get_clock(guest.host().core, &data), 0);
    EXPECT_GE(data.clock, 1'000'000'000'000u);
    EXPECT_EQ(data.flags, u32{KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC});
    // Restored later: as much later as real time says.
    data.realtime -= 60'000'000'000;
    const u64 saved = data.clock;
    ASSERT_EQ(core_set_clock(guest.host().core, &data), 0);
    ASSERT_EQ(core_get_clock(guest.host().core, &data), 0);
    EXPECT_NEAR(static_cast<double>(data.clock - saved), 6e10, 1e6);
    data.flags = 1;
    EXPECT_EQ(core_set_clock(guest.host().core, &data), -EINVAL);
}

TEST_F(Time, TscWritesOfAClientAreSynchronised)
{
    const u32 khz = guest.vmx().time.khz;
    ASSERT_NE(khz, 0u);
    ASSERT_EQ(set_msr_by_host(MSR_IA32_TSC, 1'000'000'000'000), 1);
    const u64 offset = guest.vmx().msrs.tsc_offset;
    guest.machine.advance(1'000'000); // a millisecond, in which the TSC counts khz ticks
    guest.machine.tsc += khz;
    ASSERT_EQ(set_msr_by_host(MSR_IA32_TSC, 1'000'000'000'000), 1);
    EXPECT_EQ(guest.vmx().msrs.tsc_offset, offset); // meant as the same
    ASSERT_EQ(set_msr_by_host(MSR_IA32_TSC, 5'000'000'000'000), 1);
    EXPECT_NE(guest.vmx().msrs.tsc_offset, offset);
    // The guest's own write moves IA32_TSC_ADJUST, the client's doesn't.
    EXPECT_EQ(guest.rdmsr(MSR_IA32_TSC_ADJUST), 0u);
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_TSC, 0));
    EXPECT_NE(guest.rdmsr(MSR_IA32_TSC_ADJUST), 0u);
    const u64 before = guest.vmx().msrs.tsc_offset;
    ASSERT_EQ(set_msr_by_host(MSR_IA32_TSC_ADJUST, 77), 1);
    EXPECT_EQ(guest.vmx().msrs.tsc_offset, before);
}

TEST_F(Time, TheTscNeverGoesBack)
{
    guest.machine.tsc = 1'000'000;
    const u64 before = guest_tsc(guest.vmx());
    time_vcpu_put(guest.vmx());
    guest.machine.tsc = 500; // this CPU is far behind, or the machine slept
    time_vcpu_load(guest.vmx(), true);
    EXPECT_GE(guest_tsc(guest.vmx()), before);
    EXPECT_EQ(guest.get(TSC_OFFSET), guest.vmx().msrs.tsc_offset);
}

TEST(TscRate, ScalesWhereTheCpuCan)
{
    StateGuest guest("corei7_skylake_x");
    ASSERT_EQ(core_check_extension(nullptr, KVM_CAP_TSC_CONTROL), 1);
    const u32 khz = core_get_tsc_khz(guest.vcpu());
    ASSERT_NE(khz, 0u);
    guest.machine.tsc = u64{1} << 40;
    const u64 before = guest_tsc(guest.vmx());
    ASSERT_EQ(core_set_tsc_khz(guest.vcpu(), khz / 2), 0);
    EXPECT_EQ(core_get_tsc_khz(guest.vcpu()), khz / 2);
    const u64 after = guest_tsc(guest.vmx());
    EXPECT_LE(after - before, 10u); // it goes on from where it was
    guest.machine.tsc += 2'000'000;
    EXPECT_NEAR(static_cast<double>(guest_tsc(guest.vmx()) - after), 1'000'000, 1000);
    EXPECT_NEAR(static_cast<double>(guest_to_host_ticks(guest.vmx(), 1000)), 2000, 2);
    EXPECT_EQ(guest.get(TSC_MULTIPLIER), guest.vmx().time.multiplier);
    EXPECT_EQ(core_set_tsc_khz(guest.vcpu(), 0x7fffffff), -EINVAL);
    EXPECT_EQ(core_set_tsc_khz(guest.vcpu(), ~0u), -EINVAL);
    ASSERT_EQ(core_set_tsc_khz(guest.vcpu(), 0), 0);
    EXPECT_EQ(core_get_tsc_khz(guest.vcpu()), khz);
    EXPECT_EQ(core_vm_set_tsc_khz(guest.host().core, khz / 3), 0);
    EXPECT_EQ(core_vm_get_tsc_khz(guest.host().core), khz / 3);
}

TEST(TscRate, StaysWhereItCannot)
{
    StateGuest guest("corei7_haswell_4770");
    ASSERT_EQ(core_check_extension(nullptr, KVM_CAP_TSC_CONTROL), 0);
    const u32 khz = core_get_tsc_khz(guest.vcpu());
    EXPECT_EQ(core_set_tsc_khz(guest.vcpu(), khz + khz / 10000), 0); // about the same
    EXPECT_EQ(core_set_tsc_khz(guest.vcpu(), khz / 2), -EINVAL);
    EXPECT_EQ(core_set_tsc_khz(guest.vcpu(), khz * 2), -EINVAL);
}

} // namespace
} // namespace minivmx::test
