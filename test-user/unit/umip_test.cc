// SPDX-License-Identifier: GPL-2.0-only
//
// UMIP on a CPU that lacks it: CR4.UMIP is the guest's to set, the CPU never sees it, and
// descriptor-table exiting does its work.
#include "intercept_fixture.hpp"

namespace minivmx::test {
namespace {

class Umip : public Intercept {
  protected:
    Umip() { use_cpuid(); }

    int set_umip(bool on)
    {
        core_vcpu_load(vcpu.core, 0);
        kvm_sregs sregs{};
        EXPECT_EQ(core_get_sregs(vcpu.core, &sregs), 0);
        sregs.cr4 = on ? sregs.cr4 | X86_CR4_UMIP : sregs.cr4 & ~X86_CR4_UMIP;
        const int result = core_set_sregs(vcpu.core, &sregs);
        core_vcpu_put(vcpu.core);
        return result;
    }
    bool tables_exit() { return (secondary_now() & SECONDARY_EXEC_DESC) != 0; }
};

TEST_F(Umip, IsOfferedWhereTheCpuCanEmulateIt)
{
    EXPECT_TRUE(umip_is_emulated());
    EXPECT_TRUE(supports(CpuidFeature::kUmip));
}

TEST_F(Umip, FollowsTheGuestsCr4)
{
    EXPECT_FALSE(tables_exit());
    ASSERT_EQ(set_umip(true), 0);
    EXPECT_TRUE(tables_exit());
    EXPECT_FALSE(field(GUEST_CR4.encoding) & X86_CR4_UMIP) << "a bit that this CPU refuses";
    EXPECT_TRUE(field(CR4_READ_SHADOW.encoding) & X86_CR4_UMIP);
    EXPECT_TRUE(field(CR4_GUEST_HOST_MASK.encoding) & X86_CR4_UMIP);
    ASSERT_EQ(set_umip(false), 0);
    EXPECT_FALSE(tables_exit());
}

TEST_F(Umip, BesideAnIntercept)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE), 0);
    ASSERT_EQ(set_umip(true), 0);
    ASSERT_EQ(set_umip(false), 0);
    EXPECT_TRUE(tables_exit()) << "the client's";
    ASSERT_EQ(set_umip(true), 0);
    ASSERT_EQ(ask_controls(0), 0);
    EXPECT_TRUE(tables_exit()) << "UMIP's";
}

// What UMIP forbids is a #GP, and no client's question: a CPU that has it wouldn't exit.
TEST_F(Umip, TheUsersStoresAreNotReported)
{
    ASSERT_EQ(ask_controls(MINIVMX_INTERCEPT_DESCRIPTOR_TABLE), 0);
    ASSERT_EQ(set_umip(true), 0);
    const u64 hva = guest.machine.add_user_memory(0x10000, true, 4096);
    const kvm_userspace_memory_region region = {0, 0, 0xf0000, 0x10000, hva};
    ASSERT_EQ(core_set_memory_region(guest.vm.core, &region), 0);
    reinterpret_cast<u8 *>(hva)[0xfff0] = 0x0f; // SGDT [DI], at the reset vector
    reinterpret_cast<u8 *>(hva)[0xfff1] = 0x01;
    reinterpret_cast<u8 *>(hva)[0xfff2] = 0x05;
    set(GUEST_CS_BASE.encoding, 0xf0000);
    set(GUEST_SS_AR_BYTES.encoding, 0xf3); // DPL 3
    exits({{EXIT_REASON_GDTR_IDTR}, {EXIT_REASON_HLT}});
    expect_halt();
    EXPECT_EQ(injected[1] & 0x7ff, INTR_TYPE_HARD_EXCEPTION | GP_VECTOR);
}

class NoUmip : public Intercept {
  protected:
    NoUmip() : Intercept("core2_penryn_t9600") {}
};

TEST_F(NoUmip, WithoutTheControl)
{
    EXPECT_FALSE(umip_is_emulated());
    EXPECT_FALSE(supports(CpuidFeature::kUmip));
}

} // namespace
} // namespace minivmx::test
