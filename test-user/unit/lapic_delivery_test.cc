// SPDX-License-Identifier: GPL-2.0-only
//
// Interrupt messages and interprocessor interrupts: SDM Vol. 3A, 11.6 and 11.11.
#include "lapic_fixture.hpp"

namespace minivmx::test {
namespace {

constexpr u32 kAssert = 1u << 14, kLogical = 1u << 11, kLowest = 1u << 8, kNmi = 4u << 8,
              kInit = 5u << 8, kStartup = 6u << 8, kLevel = 1u << 15;
constexpr u32 kSelf = 1u << 18, kAll = 2u << 18, kOthers = 3u << 18;

class LapicDelivery : public LapicTest {
  protected:
    LapicDelivery() : LapicTest(4) { enable_all(); }
    int send(InterruptMessage message) { return deliver_interrupt(*vmx().kvm, nullptr, message); }
    static InterruptMessage fixed(u32 destination, u8 vector, bool logical = false)
    {
        InterruptMessage message{};
        message.destination = destination;
        message.vector = vector;
        message.mode = DeliveryMode::kFixed;
        message.logical = logical;
        return message;
    }
    void flat(unsigned n, u8 id) { write(kApicLdr, u32{id} << 24, n); }
    void cluster(unsigned n, u8 id)
    {
        write(kApicDfr, 0, n);
        write(kApicLdr, u32{id} << 24, n);
    }
};

TEST_F(LapicDelivery, IdsAreThoseOfTheVcpus)
{
    for (unsigned n = 0; n < 4; n++)
        EXPECT_EQ(read(kApicId, n), n << 24);
}

TEST_F(LapicDelivery, Physical)
{
    icr(kAssert | 0x41, 2);
    EXPECT_EQ(receivers(0x41), 1u << 2);
    EXPECT_EQ(guest.machine.kicks, (std::vector<host_vcpu *>{&host(2)}));
    icr(kAssert | 0x42, 0xff);
    EXPECT_EQ(receivers(0x42), 0xfu);
    icr(kAssert | 0x43, 9);
    EXPECT_EQ(receivers(0x43), 0u);
    write(kApicId, 9u << 24, 3);
    icr(kAssert | 0x44, 9);
    EXPECT_EQ(receivers(0x44), 1u << 3) << "an ID that software has changed";
    icr(kAssert | 0x45, 3);
    EXPECT_EQ(receivers(0x45), 0u);
}

TEST_F(LapicDelivery, ItselfWithoutAKick)
{
    icr(kAssert | 0x46, 0);
    EXPECT_EQ(receivers(0x46), 1u);
    EXPECT_TRUE(guest.machine.kicks.empty());
    EXPECT_TRUE(apic(0).attention);
}

TEST_F(LapicDelivery, Shorthands)
{
    icr(kAssert | kSelf | 0x51, 3, 1);
    EXPECT_EQ(receivers(0x51), 1u << 1);
    icr(kAssert | kAll | 0x52, 3, 1);
    EXPECT_EQ(receivers(0x52), 0xfu);
    icr(kAssert | kOthers | 0x53, 3, 1);
    EXPECT_EQ(receivers(0x53), 0xdu);
}

// SDM Vol. 3A, 11.6.2.2
TEST_F(LapicDelivery, LogicalFlat)
{
    for (unsigned n = 0; n < 4; n++)
        flat(n, static_cast<u8>(1u << n));
    icr(kAssert | kLogical | 0x61, 0x05);
    EXPECT_EQ(receivers(0x61), 0x5u);
    icr(kAssert | kLogical | 0x62, 0xff);
    EXPECT_EQ(receivers(0x62), 0xfu);
    icr(kAssert | kLogical | 0x63, 0xf0);
    EXPECT_EQ(receivers(0x63), 0u);
}

TEST_F(LapicDelivery, LogicalCluster)
{
    cluster(0, 0x11);
    cluster(1, 0x12);
    cluster(2, 0x21);
    cluster(3, 0x22);
    icr(kAssert | kLogical | 0x61, 0x13);
    EXPECT_EQ(receivers(0x61), 0x3u);
    icr(kAssert | kLogical | 0x62, 0x22);
    EXPECT_EQ(receivers(0x62), 0x8u);
    icr(kAssert | kLogical | 0x63, 0xff);
    EXPECT_EQ(receivers(0x63), 0xfu);
    icr(kAssert | kLogical | 0x64, 0x31);
    EXPECT_EQ(receivers(0x64), 0u);
}

// SDM Vol. 3A, 11.12.10
TEST_F(LapicDelivery, X2apic)
{
    for (unsigned n = 0; n < 4; n++)
        x2apic(n);
    auto ipi = [this](u64 destination, u32 low) {
        EXPECT_TRUE(lapic_write_msr(vmx(0), 0x830, destination << 32 | low));
    };
    ipi(2, 0x41);
    EXPECT_EQ(receivers(0x41), 4u);
    ipi(0xffffffff, 0x42);
    EXPECT_EQ(receivers(0x42), 0xfu);
    ipi(0xff, 0x43);
    EXPECT_EQ(receivers(0x43), 0u) << "255 is an ID like any other here";
    ipi(0x0000000a, kLogical | 0x44);
    EXPECT_EQ(receivers(0x44), 0xau);
    ipi(0x0001000a, kLogical | 0x45);
    EXPECT_EQ(receivers(0x45), 0u) << "another cluster";
    ipi(0, kOthers | 0x46);
    EXPECT_EQ(receivers(0x46), 0xeu);
    EXPECT_EQ(send(fixed(0xff, 0x47)), 4) << "a device's 255 is everybody";
    EXPECT_EQ(receivers(0x47), 0xfu);
}

// SDM Vol. 3A, 11.6.2.4: to the one with the lowest priority; in turn, among equals.
TEST_F(LapicDelivery, LowestPriority)
{
    for (unsigned n = 0; n < 4; n++)
        flat(n, static_cast<u8>(1u << n));
    write(kApicTpr, 0x20, 0);
    write(kApicTpr, 0x10, 1);
    write(kApicTpr, 0x30, 2);
    write(kApicTpr, 0x10, 3);
    unsigned seen = 0;
    for (int i = 0; i < 4; i++) {
        icr(kAssert | kLogical | kLowest | 0x71, 0x0f);
        const unsigned taken = receivers(0x71);
        EXPECT_EQ(taken & (taken - 1), 0u) << "one only";
        seen |= taken;
    }
    EXPECT_EQ(seen, 0xau);
    write(kApicSvr, 0xff, 1);
    write(kApicSvr, 0xff, 3);
    icr(kAssert | kLogical | kLowest | 0x72, 0x0f);
    EXPECT_EQ(receivers(0x72), 1u) << "who is disabled takes part in nothing";

    InterruptMessage hinted = fixed(0x0f, 0x73, true);
    hinted.redirect_hint = true;
    EXPECT_EQ(send(hinted), 1);
    EXPECT_EQ(receivers(0x73), 1u);
}

TEST_F(LapicDelivery, SaysHowManyTookIt)
{
    EXPECT_EQ(send(fixed(1, 0x80)), 1);
    EXPECT_EQ(send(fixed(1, 0x80)), 1) << "merged, but accepted: as KVM counts";
    (void)lapic_highest_request(apic(1));
    EXPECT_EQ(send(fixed(1, 0x80)), 1) << "merged with the one in IRR";
    EXPECT_EQ(send(fixed(0xff, 0x81)), 4);
    EXPECT_EQ(send(fixed(77, 0x82)), -1);
    write(kApicSvr, 0xff, 1);
    EXPECT_EQ(send(fixed(1, 0x83)), 0) << "a disabled APIC takes no vectors";
    EXPECT_EQ(receivers(0x83), 0u);
    load(1);
    write_apic_base(vmx(1), vmx(1).apic_base & ~bit64(11));
    EXPECT_EQ(send(fixed(1, 0x84)), -1);
}

TEST_F(LapicDelivery, LevelShowsInTmr)
{
    InterruptMessage level = fixed(1, 0x90);
    level.level = level.assert_level = true;
    send(level);
    EXPECT_EQ(read(kApicTmr + 0x40, 1), 1u << 16);
    icr(kAssert | kLevel | 0x90, 1);
    EXPECT_EQ(read(kApicTmr + 0x40, 1), 0u) << "an IPI is an edge whatever it says";
}

TEST_F(LapicDelivery, NmiReachesEvenADisabledApic)
{
    write(kApicSvr, 0xff, 2);
    icr(kAssert | kNmi, 2);
    EXPECT_EQ(host(2).area.nmi_pending, 1u);
    EXPECT_EQ(guest.machine.kicks.back(), &host(2));
}

// SDM Vol. 3A, 9.4 and 11.6.1
TEST_F(LapicDelivery, InitAndStartup)
{
    host_u32 state = 0;
    EXPECT_EQ(core_get_mp_state(host(1).core, &state), 0);
    EXPECT_EQ(state, u32{KVM_MP_STATE_UNINITIALIZED});
    icr(kAssert | kStartup | 0x9a, 1);
    load(1);
    accept_init_and_sipi(vmx(1));
    EXPECT_EQ(vmx(1).mp_state, u32{KVM_MP_STATE_UNINITIALIZED}) << "nobody waits for it yet";

    icr(kAssert | kLevel | kInit, 1);
    icr(kLevel | kInit, 1); // the de-assert of old
    accept_init_and_sipi(vmx(1));
    EXPECT_EQ(core_get_mp_state(host(1).core, &state), 0);
    EXPECT_EQ(state, u32{KVM_MP_STATE_INIT_RECEIVED});
    icr(kAssert | kStartup | 0x9a, 1);
    accept_init_and_sipi(vmx(1));
    EXPECT_EQ(vmx(1).mp_state, u32{KVM_MP_STATE_RUNNABLE});
    EXPECT_EQ(guest.field(host(1), GUEST_CS_SELECTOR.encoding), 0x9a00u);
    EXPECT_EQ(guest.field(host(1), GUEST_CS_BASE.encoding), 0x9a000u);
    EXPECT_EQ(read_rip(vmx(1)), 0u);
    EXPECT_EQ(read(kApicId, 1), 1u << 24) << "INIT keeps the ID";
    EXPECT_EQ(read(kApicSvr, 1), 0xffu) << "and resets the rest";

    icr(kAssert | kStartup | 0x9b, 1);
    accept_init_and_sipi(vmx(1));
    EXPECT_EQ(guest.field(host(1), GUEST_CS_SELECTOR.encoding), 0x9a00u) << "the second is lost";
}

// One that the running processor hasn't lost yet when INIT comes isn't what starts it again.
TEST_F(LapicDelivery, StartupFromBeforeAnInitIsLost)
{
    icr(kAssert | kStartup | 0x9b, 1);
    icr(kAssert | kLevel | kInit, 1);
    load(1);
    accept_init_and_sipi(vmx(1));
    EXPECT_EQ(vmx(1).mp_state, u32{KVM_MP_STATE_INIT_RECEIVED});
}

TEST_F(LapicDelivery, InitOfTheBootstrapProcessorGoesOn)
{
    icr(kAssert | kInit, 0, 1);
    load(0);
    accept_init_and_sipi(vmx(0));
    EXPECT_EQ(vmx(0).mp_state, u32{KVM_MP_STATE_RUNNABLE});
    EXPECT_EQ(read_rip(vmx(0)), 0xfff0u);
    EXPECT_EQ(guest.field(host(0), GUEST_CS_BASE.encoding), 0xffff0000u);
}

// KVM_SET_BOOT_CPU_ID
TEST(LapicBootCpu, IsTheOneThatUserSpaceNamed)
{
    Parameters params = default_parameters();
    params.report = 0;
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), params);
    ASSERT_EQ(core_create_irqchip(guest.vm.core), 0);
    ASSERT_EQ(core_set_boot_cpu_id(guest.vm.core, 1), 0);
    vcpu_vmx &first = to_vmx(guest.create_vcpu().core), &second = to_vmx(guest.create_vcpu().core);
    EXPECT_EQ(first.mp_state, u32{KVM_MP_STATE_UNINITIALIZED});
    EXPECT_EQ(second.mp_state, u32{KVM_MP_STATE_RUNNABLE});
    EXPECT_EQ(first.apic_base, 0xfee00800u);
    EXPECT_EQ(second.apic_base, 0xfee00900u);
    EXPECT_FALSE(lapic_accepts_pic(*first.apic));
    EXPECT_TRUE(lapic_accepts_pic(*second.apic));
    EXPECT_EQ(core_set_boot_cpu_id(guest.vm.core, 0), -EBUSY);
}

// A vCPU that nobody has started: KVM_RUN waits for it, and comes back with EAGAIN.
TEST_F(LapicDelivery, RunWaitsForInit)
{
    guest.machine.on_block = [this](host_vcpu &) { icr(kAssert | kInit, 1); };
    EXPECT_EQ(run({EXIT_REASON_TRIPLE_FAULT}, 1), -EAGAIN);
    EXPECT_EQ(vmx(1).mp_state, u32{KVM_MP_STATE_INIT_RECEIVED});
    EXPECT_TRUE(entered.empty());

    guest.machine.on_block = [this](host_vcpu &) { icr(kAssert | kStartup | 0x10, 1); };
    EXPECT_EQ(run({EXIT_REASON_TRIPLE_FAULT}, 1), 0);
    EXPECT_EQ(entered.size(), 1u);
    EXPECT_EQ(host(1).area.run->exit_reason, u32{KVM_EXIT_SHUTDOWN});
}

TEST_F(LapicDelivery, SignalEndsTheWaitForInit)
{
    guest.machine.on_block = [this](host_vcpu &) { guest.machine.signal_pending = true; };
    EXPECT_EQ(run({}, 1), -EINTR);
    EXPECT_EQ(host(1).area.run->exit_reason, u32{KVM_EXIT_INTR});
    EXPECT_EQ(vmx(1).mp_state, u32{KVM_MP_STATE_UNINITIALIZED});
    guest.machine.signal_pending = false;
    host(1).area.run->immediate_exit = 1;
    EXPECT_EQ(run({}, 1), -EINTR);
    EXPECT_EQ(guest.machine.blocks, 1u);
}

TEST_F(LapicDelivery, StatesThatUserSpaceSets)
{
    for (const u32 state : {KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED,
                            KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_HALTED}) {
        EXPECT_EQ(core_set_mp_state(host(2).core, state), 0);
        host_u32 now = 99;
        EXPECT_EQ(core_get_mp_state(host(2).core, &now), 0);
        EXPECT_EQ(now, state);
    }
    for (const u32 state : {5u, 6u, 7u, 8u, 10u, 0xffffffffu})
        EXPECT_EQ(core_set_mp_state(host(2).core, state), -EINVAL);
    load(2);
    EXPECT_EQ(core_set_mp_state(host(2).core, KVM_MP_STATE_SIPI_RECEIVED), 0);
    host_u32 now = 99;
    EXPECT_EQ(core_get_mp_state(host(2).core, &now), 0);
    EXPECT_EQ(now, u32{KVM_MP_STATE_RUNNABLE}) << "taken at once";
}

TEST_F(LapicDelivery, EverybodyButTheDestroyed)
{
    guest.destroy_vcpu(host(3));
    EXPECT_EQ(guest.machine.rcu_waits, 1u);
    EXPECT_EQ(send(fixed(3, 0x99)), -1);
    EXPECT_EQ(send(fixed(0xff, 0x9a)), 3);
    add_vcpu();
    enable(3);
    EXPECT_EQ(send(fixed(3, 0x9b)), 1);
}

} // namespace
} // namespace minivmx::test
