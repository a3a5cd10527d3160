// SPDX-License-Identifier: GPL-2.0-only
//
// Real mode without "unrestricted guest" and with an APIC in the kernel: interrupts, HLT, INIT and
// SIPI of a vCPU that is not entered but emulated.
#include "lapic_fixture.hpp"

#include <minivmx/real_mode.hpp>
#include <minivmx/segment.hpp>

namespace minivmx::test {
namespace {

class EmulatedRealMode : public LapicTest {
  protected:
    static Parameters without()
    {
        Parameters params = quiet();
        params.unrestricted_guest = false;
        return params;
    }
    explicit EmulatedRealMode(unsigned vcpus = 1) : LapicTest(vcpus, without())
    {
        memory = guest.machine.add_user_memory(0x20000);
        const kvm_userspace_memory_region region = {0, 0, 0, 0x20000, memory};
        EXPECT_EQ(core_set_memory_region(guest.vm.core, &region), 0);
        load(0);
    }
    void start_at(u16 ip)
    {
        load_real_mode_segment(vmx(), kCs, 0);
        write_rip(vmx(), ip);
        write_rsp(vmx(), 0x8000);
    }
    void code(u64 gpa, std::initializer_list<u8> bytes)
    {
        for (const u8 byte : bytes)
            *reinterpret_cast<u8 *>(memory + gpa++) = byte;
    }
    u64 memory = 0;
};

// STI; HLT with an interrupt that waits: it ends HLT, and is not delivered before.
TEST_F(EmulatedRealMode, AnInterruptEndsHalt)
{
    code(0x1000, {0xfb, 0xf4, 0xe6, 0x81});   // STI; HLT; OUT 81, AL
    code(0x2000, {0xe6, 0x80});               // OUT 80, AL
    code(0x40 * 4, {0x00, 0x20, 0x00, 0x00}); // 0:2000
    enable(0);
    icr(0x40040); // to itself
    start_at(0x1000);
    ASSERT_EQ(run({}), 0);
    const kvm_run &run = *host().area.run;
    EXPECT_EQ(run.exit_reason, u32{KVM_EXIT_IO});
    EXPECT_EQ(run.io.port, 0x80);
    EXPECT_EQ(vmx().mp_state, u32{KVM_MP_STATE_RUNNABLE});
    EXPECT_TRUE(entered.empty()) << "there is no task state, so nothing enters";
    EXPECT_EQ(*reinterpret_cast<u16 *>(memory + 0x7ffa), 0x1002) << "behind HLT";
    EXPECT_GE(vmx().stats.emulated, 3u);
}

// No exit comes for a window that opens between emulated instructions.
TEST_F(EmulatedRealMode, AnInterruptComesWhenTheGuestAllowsIt)
{
    code(0x1000, {0x90, 0x90, 0xfb, 0x90, 0xe6, 0x81}); // STI; NOP; OUT 81, AL
    code(0x2000, {0xe6, 0x80});
    code(0x40 * 4, {0x00, 0x20, 0x00, 0x00});
    enable(0);
    icr(0x40040);
    start_at(0x1000);
    ASSERT_EQ(run({}), 0);
    EXPECT_EQ(host().area.run->io.port, 0x80);
    EXPECT_EQ(*reinterpret_cast<u16 *>(memory + 0x7ffa), 0x1004) << "behind the shadow of STI";
}

// An endless loop that is emulated leaves KVM_RUN for a signal.
TEST_F(EmulatedRealMode, SignalsAreSeen)
{
    code(0x1000, {0xeb, 0xfe});
    start_at(0x1000);
    guest.machine.signal_pending = true;
    EXPECT_EQ(run({}), -EINTR);
    EXPECT_GT(vmx().stats.emulated, 1u);
    EXPECT_LT(vmx().stats.emulated, 1000u);
}

class TwoEmulated : public EmulatedRealMode {
  protected:
    TwoEmulated() : EmulatedRealMode(2) {}
};

TEST_F(TwoEmulated, InitAndSipiStartInRealMode)
{
    load(1);
    vcpu_vmx &second = vmx(1);
    kvm_sregs s;
    ASSERT_EQ(core_get_sregs(&second, &s), 0);
    s.cr0 |= X86_CR0_PE;
    ASSERT_EQ(core_set_sregs(&second, &s), 0);
    EXPECT_FALSE(second.vm86_active);
    second.mp_state = KVM_MP_STATE_RUNNABLE;

    load(0);
    enable(0);
    icr(0x4500, 1);
    icr(0x4612, 1);
    load(1);
    accept_init_and_sipi(second);
    EXPECT_EQ(second.mp_state, u32{KVM_MP_STATE_RUNNABLE});
    EXPECT_TRUE(second.vm86_active);
    EXPECT_EQ(segment_base(second, kCs), 0x12000u);
    EXPECT_EQ(segment_selector(second, kCs), 0x1200);
    EXPECT_EQ(segment_rights(second, kCs), 0x9bu);
    EXPECT_EQ(segment_rights(second, kTr), 0x8bu);
    EXPECT_EQ(segment_base(second, kTr), 0u);
    EXPECT_EQ(read_rflags(second), X86_EFLAGS_FIXED);
    EXPECT_EQ(guest_cpl(second), 0);

    // Once more, out of virtual-8086 mode.
    load_real_mode_segment(second, kDs, 0x777);
    reset_guest_state(second, true);
    EXPECT_TRUE(second.vm86_active);
    EXPECT_EQ(segment_selector(second, kCs), 0xf000);
    EXPECT_EQ(segment_selector(second, kDs), 0);
    EXPECT_TRUE(guest.field(host(1), GUEST_RFLAGS.encoding) & X86_EFLAGS_VM);
    load(0);
}

} // namespace
} // namespace minivmx::test
