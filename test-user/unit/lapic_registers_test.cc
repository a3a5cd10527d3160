// SPDX-License-Identifier: GPL-2.0-only
//
// A local APIC's registers, priorities and errors against SDM Vol. 3A, chapter 11.
#include "lapic_fixture.hpp"

namespace minivmx::test {
namespace {

class LapicRegisters : public LapicTest {};

// SDM Vol. 3A, 11.4.7.1, and LINT0 as KVM leaves it for firmware that only knows the PIC.
TEST_F(LapicRegisters, AfterReset)
{
    EXPECT_EQ(read(kApicId), 0u);
    EXPECT_EQ(read(kApicVersion), 0x50014u);
    EXPECT_EQ(read(kApicTpr), 0u);
    EXPECT_EQ(read(kApicLdr), 0u);
    EXPECT_EQ(read(kApicDfr), 0xffffffffu);
    EXPECT_EQ(read(kApicSvr), 0xffu);
    EXPECT_EQ(read(kApicLvtTimer), 0x10000u);
    EXPECT_EQ(read(kApicLvtLint0), 0x700u);
    EXPECT_EQ(read(kApicLvtLint1), 0x10000u);
    EXPECT_EQ(read(kApicLvtError), 0x10000u);
    EXPECT_EQ(read(kApicDivide), 0u);
    for (u32 offset = kApicIsr; offset < kApicEsr; offset += 16)
        EXPECT_EQ(read(offset), 0u) << std::hex << offset;
}

TEST_F(LapicRegisters, KeepOnlyTheBitsTheyHave)
{
    enable(0);
    write(kApicId, 0xffffffff);
    EXPECT_EQ(read(kApicId), 0xff000000u);
    write(kApicLdr, 0x12345678);
    EXPECT_EQ(read(kApicLdr), 0x12000000u);
    write(kApicDfr, 0);
    EXPECT_EQ(read(kApicDfr), 0x0fffffffu);
    write(kApicTpr, 0xffffffff);
    EXPECT_EQ(read(kApicTpr), 0xffu);
    write(kApicSvr, 0xffffffff);
    EXPECT_EQ(read(kApicSvr), 0x3ffu);
    write(kApicLvtTimer, 0xffffffff & ~(1u << 17));
    EXPECT_EQ(read(kApicLvtTimer), 0x500ffu);
    write(kApicLvtLint0, 0xffffffff);
    EXPECT_EQ(read(kApicLvtLint0), 0x1a7ffu); // without delivery status and remote IRR
    write(kApicLvtThermal, 0xffffffff);
    EXPECT_EQ(read(kApicLvtThermal), 0x107ffu);
    write(kApicLvtError, 0xffffffff);
    EXPECT_EQ(read(kApicLvtError), 0x100ffu);
    write(kApicDivide, 0xffffffff);
    EXPECT_EQ(read(kApicDivide), 0xbu);
    write(kApicVersion, 0);
    EXPECT_EQ(read(kApicVersion), 0x50014u);
}

// SDM Vol. 3A, 11.4.7.2
TEST_F(LapicRegisters, DisablingMasksTheLocalVectors)
{
    enable(0);
    write(kApicLvtTimer, 0x40);
    write(kApicLvtLint1, 0x400);
    write(kApicSvr, 0xff);
    EXPECT_EQ(read(kApicLvtTimer), 0x10040u);
    EXPECT_EQ(read(kApicLvtLint1), 0x10400u);
    write(kApicLvtTimer, 0x41);
    EXPECT_EQ(read(kApicLvtTimer), 0x10041u) << "stays masked";
    enable(0);
    EXPECT_EQ(read(kApicLvtTimer), 0x10041u) << "enabling unmasks nothing";
}

// SDM Vol. 3A, 11.4.1: 32-bit accesses at multiples of 16 are what there is.
TEST_F(LapicRegisters, OtherSizes)
{
    write(kApicTpr, 0x5a);
    u64 value = ~u64{0};
    EXPECT_TRUE(lapic_mmio(vmx(), 0xfee00080, false, &value, 8));
    EXPECT_EQ(value, 0u);
    u16 half = 0xffff;
    EXPECT_TRUE(lapic_mmio(vmx(), 0xfee00080, false, &half, 2));
    EXPECT_EQ(half, 0x5au);
    u8 byte = 0;
    EXPECT_TRUE(lapic_mmio(vmx(), 0xfee00032, false, &byte, 1)); // the version's third byte
    EXPECT_EQ(byte, 5u);
    byte = 0x77;
    EXPECT_TRUE(lapic_mmio(vmx(), 0xfee00080, true, &byte, 1));
    u32 word = 0x99;
    EXPECT_TRUE(lapic_mmio(vmx(), 0xfee00084, true, &word, 4));
    EXPECT_EQ(read(kApicTpr), 0x5au) << "writes of another size or place change nothing";
    EXPECT_EQ(read(0x84), 0u);
    EXPECT_EQ(read(0xff0), 0u);
    EXPECT_EQ(read(0x400), 0u);
}

TEST_F(LapicRegisters, ThePageIsWhereTheBaseSays)
{
    u32 value = 0;
    EXPECT_FALSE(lapic_mmio(vmx(), 0xfee01000, false, &value, 4));
    EXPECT_FALSE(lapic_mmio(vmx(), 0xfedff000, false, &value, 4));
    write_apic_base(vmx(), 0xd0000900);
    EXPECT_TRUE(lapic_mmio(vmx(), 0xd0000030, false, &value, 4));
    EXPECT_EQ(value, 0x50014u);
    EXPECT_FALSE(lapic_mmio(vmx(), 0xfee00030, false, &value, 4));
    write_apic_base(vmx(), 0xd0000100);
    EXPECT_TRUE(lapic_mmio(vmx(), 0xd0000030, false, &value, 4));
    EXPECT_EQ(value, 0xffffffffu) << "a disabled APIC, as KVM has it";
}

// SDM Vol. 3A, 11.8.3.1
TEST_F(LapicRegisters, ProcessorPriority)
{
    enable(0);
    write(kApicTpr, 0x35);
    EXPECT_EQ(read(kApicPpr), 0x35u);
    lapic_post(apic(), 0x61, false, false);
    ASSERT_EQ(take_next(), 0x61);
    EXPECT_EQ(read(kApicPpr), 0x60u);
    EXPECT_EQ(read(kApicIsr + 0x30), 2u);
    EXPECT_EQ(read(kApicIrr + 0x30), 0u);
    write(kApicTpr, 0x62);
    EXPECT_EQ(read(kApicPpr), 0x62u) << "of the same class TPR shows";
    lapic_set_cr8(apic(), 9);
    EXPECT_EQ(read(kApicTpr), 0x90u);
    EXPECT_EQ(lapic_cr8(apic()), 9u);
    EXPECT_EQ(guest_cr8(vmx()), 9u);
}

// SDM Vol. 3A, 11.8.4: higher first; only another class interrupts.
TEST_F(LapicRegisters, HigherClassesInterruptLowerOnes)
{
    enable(0);
    for (const u8 vector : {0x31, 0x45, 0x41, 0xfe})
        lapic_post(apic(), vector, false, false);
    EXPECT_EQ(take_next(), 0xfe);
    EXPECT_EQ(take_next(), -1);
    write(kApicEoi, 0);
    EXPECT_EQ(take_next(), 0x45);
    lapic_post(apic(), 0x4f, false, false);
    EXPECT_EQ(next_interrupt(vmx()), kNoInterrupt) << "the same class waits";
    lapic_post(apic(), 0x50, false, false);
    EXPECT_EQ(take_next(), 0x50);
    write(kApicEoi, 0);
    EXPECT_EQ(next_interrupt(vmx()), kNoInterrupt);
    write(kApicEoi, 0);
    EXPECT_EQ(take_next(), 0x4f);
    write(kApicEoi, 0);
    EXPECT_EQ(take_next(), 0x41);
    write(kApicEoi, 0);
    write(kApicTpr, 0x30);
    EXPECT_EQ(take_next(), -1) << "TPR holds its class back";
    write(kApicTpr, 0x2f);
    EXPECT_EQ(take_next(), 0x31);
    write(kApicEoi, 0);
    write(kApicEoi, 0);
    EXPECT_EQ(read(kApicPpr), 0x2fu) << "an EOI too many is none";
}

TEST_F(LapicRegisters, TriggerModeFollowsTheMessage)
{
    enable(0);
    lapic_post(apic(), 0x72, true, false);
    EXPECT_EQ(read(kApicTmr + 0x30), 1u << 18);
    lapic_post(apic(), 0x73, false, false);
    EXPECT_EQ(read(kApicTmr + 0x30), 1u << 18);
    lapic_post(apic(), 0x72, false, false);
    EXPECT_EQ(read(kApicTmr + 0x30), 0u);
}

// SDM Vol. 3A, 11.5.3
TEST_F(LapicRegisters, ErrorsShowAfterAWrite)
{
    enable(0);
    write(kApicLvtError, 0xe1);
    icr(0x0f, 0); // an illegal vector
    EXPECT_EQ(read(kApicEsr), 0u);
    EXPECT_EQ(receivers(0xe1), 1u);
    icr(0x0e, 0);
    EXPECT_EQ(receivers(0xe1), 0u) << "one interrupt until ESR is written";
    write(kApicEsr, 0);
    EXPECT_EQ(read(kApicEsr), 0x20u);
    write(kApicEsr, 0);
    EXPECT_EQ(read(kApicEsr), 0u);
    lapic_post(apic(), 3, false, false);
    EXPECT_EQ(receivers(0xe1), 1u);
    write(kApicEsr, 0xff);
    EXPECT_EQ(read(kApicEsr), 0x40u);
    write(kApicLvtError, 4); // the error interrupt's own vector is illegal
    icr(0x0f, 0);
    write(kApicEsr, 0);
    EXPECT_EQ(read(kApicEsr), 0x60u);
}

// ---- x2APIC: SDM Vol. 3A, 11.12 ----

TEST_F(LapicRegisters, MsrsOnlyInX2apicMode)
{
    u64 value = 0;
    EXPECT_FALSE(lapic_read_msr(vmx(), 0x802, value));
    EXPECT_FALSE(lapic_write_msr(vmx(), 0x808, 0));
    x2apic();
    EXPECT_TRUE(lapic_read_msr(vmx(), 0x802, value));
    u32 word = 0;
    EXPECT_TRUE(lapic_mmio(vmx(), 0xfee00030, false, &word, 4));
    EXPECT_EQ(word, 0xffffffffu) << "the page is gone";
}

// SDM Vol. 3C, 30.5: the CPU serves the task priority, if the MSR bitmap lets the access through;
// all other registers are the hypervisor's.
TEST_F(LapicRegisters, OnlyX2apicTaskPriorityDoesNotExit)
{
    const auto exits = [this](u32 index, bool write) {
        const u8 *bitmap = static_cast<const u8 *>(vmx().msr_bitmap) + (write ? 2048 : 0);
        return (bitmap[index / 8] >> index % 8 & 1) != 0;
    };
    EXPECT_TRUE(exits(0x808, false));
    EXPECT_TRUE(exits(0x808, true));
    x2apic();
    for (u32 index = 0x800; index < 0x900; index++) {
        EXPECT_EQ(exits(index, false), index != 0x808) << std::hex << index;
        EXPECT_EQ(exits(index, true), index != 0x808) << std::hex << index;
    }
    write_apic_base(vmx(), vmx().apic_base & ~u64{0xc00});
    EXPECT_TRUE(exits(0x808, false)) << "off: no such MSR";
}

TEST_F(LapicRegisters, X2apicMsrs)
{
    x2apic();
    EXPECT_EQ(msr(0x802), 0u);
    EXPECT_EQ(msr(0x803), 0x50014u);
    EXPECT_EQ(msr(0x80d), 1u) << "the logical ID comes from the ID";
    u64 value = 0;
    // No such register, or not to be read: EOI, DFR, ICR's second half, SELF IPI, APR.
    for (const u32 index : {0x800u, 0x801u, 0x804u, 0x809u, 0x80bu, 0x80eu, 0x831u, 0x83fu, 0x840u,
                            0x8ffu, 0x83au, 0x82fu})
        EXPECT_FALSE(lapic_read_msr(vmx(), index, value)) << std::hex << index;
    // Read-only, or absent.
    for (const u32 index :
         {0x802u, 0x803u, 0x80au, 0x80du, 0x80eu, 0x810u, 0x827u, 0x831u, 0x839u, 0x800u, 0x840u})
        EXPECT_FALSE(lapic_write_msr(vmx(), index, 0)) << std::hex << index;
}

TEST_F(LapicRegisters, X2apicReservedBitsFault)
{
    x2apic();
    const struct {
        u32 index;
        u64 good, bad;
    } rows[] = {
        {0x808, 0xff, 0x100},
        {0x80b, 0, 1},
        {0x80f, 0x1ff, 0x1000},
        {0x828, 0, 1},
        {0x830, 0xc4000, 0x2000},
        {0x830, 0x1000, 0x10000},
        {0x830, 0, 0x100000},
        {0x832, 0x600ff & ~0x20000u, 0x80000},
        {0x833, 0x10700, 0x2000},
        {0x835, 0x1a7ff, 0x800},
        {0x837, 0x100ff, 0x700},
        {0x838, 0xffffffff, 0x100000000},
        {0x83e, 0xb, 4},
        {0x83f, 0xff, 0x100},
        {0x808, 0x10, 0x100000000ull},
    };
    for (const auto &row : rows) {
        EXPECT_TRUE(lapic_write_msr(vmx(), row.index, row.good)) << std::hex << row.index;
        EXPECT_FALSE(lapic_write_msr(vmx(), row.index, row.bad)) << std::hex << row.index;
    }
}

TEST_F(LapicRegisters, X2apicIcrIsOneRegister)
{
    x2apic();
    EXPECT_TRUE(lapic_write_msr(vmx(), 0x80f, 0x1ff));
    EXPECT_TRUE(lapic_write_msr(vmx(), 0x830, 0x0000000700000000ull | 0x55));
    EXPECT_EQ(msr(0x830), 0x0000000700000055ull);
    EXPECT_EQ(receivers(0x55), 0u);
    EXPECT_TRUE(lapic_write_msr(vmx(), 0x83f, 0x56));
    EXPECT_EQ(receivers(0x56), 1u);
    EXPECT_EQ(msr(0x830), 0x0000000700000055ull) << "SELF IPI leaves ICR alone";
}

// SDM Vol. 3C, 30.1 and 30.4: which accesses are virtualized follows the mode.
TEST_F(LapicRegisters, ControlsFollowTheMode)
{
    auto secondary = [this] {
        return static_cast<u32>(guest.field(host(), SECONDARY_VM_EXEC_CONTROL.encoding));
    };
    EXPECT_TRUE(secondary() & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
    EXPECT_EQ(guest.field(host(), VIRTUAL_APIC_PAGE_ADDR.encoding), host_page_phys(apic().page));
    EXPECT_NE(guest.field(host(), APIC_ACCESS_ADDR.encoding), 0u);
    const u32 primary = static_cast<u32>(guest.field(host(), CPU_BASED_VM_EXEC_CONTROL.encoding));
    EXPECT_TRUE(primary & CPU_BASED_TPR_SHADOW);
    EXPECT_FALSE(primary & (CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING));
    x2apic();
    EXPECT_FALSE(secondary() & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
    write_apic_base(vmx(), vmx().apic_base & ~(bit64(10) | bit64(11)));
    EXPECT_FALSE(secondary() & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
    EXPECT_EQ(apic_mode(apic()), ApicMode::kDisabled);
    write_apic_base(vmx(), vmx().apic_base | bit64(11));
    EXPECT_TRUE(secondary() & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
}

// ---- KVM_GET_LAPIC, KVM_SET_LAPIC ----

TEST_F(LapicRegisters, StateComesBack)
{
    enable(0);
    write(kApicTpr, 0x20);
    write(kApicLdr, 0x02000000);
    write(kApicDfr, 0);
    write(kApicLvtTimer, 0x20040);
    write(kApicLvtLint0, 0x8700);
    write(kApicDivide, 0xb);
    write(kApicInitialCount, 1'000'000);
    write(kApicIcrHigh, 0x05000000);
    lapic_post(apic(), 0x81, true, false);
    ASSERT_EQ(take_next(), 0x81);
    lapic_post(apic(), 0x35, false, false);
    guest.machine.advance(400'000);

    kvm_lapic_state saved{}, again{};
    ASSERT_EQ(core_get_lapic(host().core, &saved), 0);
    lapic_reset(vmx(), false);
    ASSERT_EQ(core_set_lapic(host().core, &saved), 0);
    ASSERT_EQ(core_get_lapic(host().core, &again), 0);
    EXPECT_EQ(std::memcmp(&saved, &again, sizeof(saved)), 0);
    EXPECT_EQ(read(kApicCurrentCount), 600'000u);
    EXPECT_EQ(guest.machine.next_deadline(), guest.machine.time_ns + 600'000);
    write(kApicEoi, 0);
    EXPECT_EQ(take_next(), 0x35);
}

TEST_F(LapicRegisters, X2apicStateKeepsTheIdInTheHighByte)
{
    x2apic();
    kvm_lapic_state state{};
    ASSERT_EQ(core_get_lapic(host().core, &state), 0);
    u32 id = 0x07000000, ldr = 0xffffffff;
    std::memcpy(state.regs + kApicId, &id, 4);
    std::memcpy(state.regs + kApicLdr, &ldr, 4);
    ASSERT_EQ(core_set_lapic(host().core, &state), 0);
    EXPECT_EQ(msr(0x802), 7u);
    EXPECT_EQ(msr(0x80d), 0x80u);
    vmx().kvm->x2apic_format = true;
    EXPECT_EQ(core_set_lapic(host().core, &state), -EINVAL) << "all bits of it, and the vCPU's own";
}

// They can't become pending in a real APIC; a client may put them there, and finds them again.
TEST_F(LapicRegisters, IllegalVectorsStayAndAreNotDelivered)
{
    x2apic();
    kvm_lapic_state state{}, again{};
    ASSERT_EQ(core_get_lapic(host().core, &state), 0);
    const u32 illegal = 0xffff, irr = kApicIrr, isr = kApicIsr, tmr = kApicTmr;
    for (const u32 bitmap : {irr, isr, tmr})
        std::memcpy(state.regs + bitmap, &illegal, 4);
    ASSERT_EQ(core_set_lapic(host().core, &state), 0);
    ASSERT_EQ(core_get_lapic(host().core, &again), 0);
    EXPECT_EQ(std::memcmp(&state, &again, sizeof(state)), 0);
    EXPECT_EQ(msr(0x820), illegal);
    EXPECT_EQ(msr(0x810), illegal);
    EXPECT_EQ(next_interrupt(vmx()), kNoInterrupt);
    EXPECT_EQ(take_next(), -1);
    lapic_post(apic(), 0x31, false, false);
    EXPECT_EQ(take_next(), 0x31) << "class 0 holds nothing back";
    lapic_eoi(vmx());
    for (int i = 15; i >= 0; i--)
        lapic_eoi(vmx());
    EXPECT_EQ(msr(0x810), 0u);
    EXPECT_EQ(msr(0x820), illegal);
}

// Whatever a client writes, the registers keep their rules and nothing breaks.
TEST_F(LapicRegisters, HostileState)
{
    kvm_lapic_state state;
    for (const int fill : {0xff, 0x00, 0xaa, 0x55}) {
        std::memset(&state, fill, sizeof(state));
        ASSERT_EQ(core_set_lapic(host().core, &state), 0);
        EXPECT_EQ(read(kApicVersion), 0x50014u);
        EXPECT_EQ(read(kApicSvr) & ~0x13ffu, 0u);
        EXPECT_EQ(read(kApicTpr) & ~0xffu, 0u);
        EXPECT_EQ(read(kApicDivide) & ~0xbu, 0u);
        (void)run({EXIT_REASON_EXTERNAL_INTERRUPT, EXIT_REASON_PREEMPTION_TIMER});
        guest.machine.advance(10'000'000);
        for (int i = 0; i < 300; i++)
            write(kApicEoi, 0);
    }
}

TEST(LapicAbsent, IoctlsAnswerEinval)
{
    Parameters params = default_parameters();
    params.report = 0;
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), params);
    host_vcpu &vcpu = guest.create_vcpu();
    kvm_lapic_state state{};
    EXPECT_EQ(core_get_lapic(vcpu.core, &state), -EINVAL);
    EXPECT_EQ(core_set_lapic(vcpu.core, &state), -EINVAL);
    EXPECT_EQ(core_set_vapic_addr(vcpu.core, 0), -EINVAL);
    host_u32 mp_state = 99;
    EXPECT_EQ(core_get_mp_state(vcpu.core, &mp_state), 0);
    EXPECT_EQ(mp_state, u32{KVM_MP_STATE_RUNNABLE});
    for (const u32 other : {1u, 2u, 3u, 4u, 9u})
        EXPECT_EQ(core_set_mp_state(vcpu.core, other), -EINVAL) << other;
    EXPECT_EQ(core_set_mp_state(vcpu.core, KVM_MP_STATE_RUNNABLE), 0);
}

} // namespace
} // namespace minivmx::test
