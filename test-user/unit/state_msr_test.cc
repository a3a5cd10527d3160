// SPDX-License-Identifier: GPL-2.0-only
#include "state_support.hpp"

#include <minivmx/capabilities.hpp>

namespace minivmx::test {
namespace {

constexpr u64 kCanonical = 0xffff800000001000, kNonCanonical = 0x0000800000000000;

class Msr : public ::testing::Test {
  protected:
    Msr()
    {
        guest.set_supported_cpuid();
        guest.machine.tsc = 1000000;
    }
    StateGuest guest;

    void read_write(u32 msr, u64 value, u64 reads_back)
    {
        EXPECT_TRUE(guest.wrmsr(msr, value)) << std::hex << msr << " <- " << value;
        EXPECT_EQ(guest.rdmsr(msr), reads_back) << std::hex << msr;
    }
    void read_write(u32 msr, u64 value) { read_write(msr, value, value); }
    void refuses(u32 msr, u64 value)
    {
        const std::optional<u64> before = guest.rdmsr(msr);
        EXPECT_FALSE(guest.wrmsr(msr, value)) << std::hex << msr << " <- " << value;
        EXPECT_EQ(guest.rdmsr(msr), before) << std::hex << msr << " changed";
    }
    void read_only(u32 msr, u64 value)
    {
        EXPECT_EQ(guest.rdmsr(msr), value) << std::hex << msr;
        EXPECT_FALSE(guest.wrmsr(msr, value)) << std::hex << msr;
    }
    void absent(u32 msr)
    {
        EXPECT_EQ(guest.rdmsr(msr), std::nullopt) << std::hex << msr;
        EXPECT_FALSE(guest.wrmsr(msr, 0)) << std::hex << msr;
    }
    void without(u32 leaf, u32 kvm_cpuid_entry2::*word, unsigned bit)
    {
        auto entries = guest.supported();
        kvm_cpuid_entry2 *entry = find(entries, leaf);
        ASSERT_NE(entry, nullptr);
        entry->*word &= ~bit32(bit);
        ASSERT_EQ(guest.set_cpuid(entries), 0);
    }
};

TEST_F(Msr, UnknownOnesFault)
{
    for (const u32 msr :
         {0x2u,        0x16u,       0x18u,       0x30u,       0x3cu,      0x4au,  0xcfu,
          0x10bu,      0x122u,      0x17bu,      0x188u,      0x210u,     0x24fu, 0x251u,
          0x25au,      0x267u,      0x270u,      0x280u,      0x2feu,     0x300u, 0x38fu,
          0x3ffu,      0x480u,      0x491u,      0x570u,      0x800u,     0x830u, 0x8ffu,
          0xc0000105u, 0x40000000u, 0x4b564d02u, 0xffffffffu, 0xc0011020u})
        absent(msr);
}

TEST_F(Msr, SweepOfAllNumbersNearTheTableNeverChangesTheHost)
{
    // Every row's read and write with a few values; what may reach the CPU is named here.
    const size_t before = guest.machine.wrmsr_log.size();
    for (const u32 base : {0u, 0x1000u, 0xc0000000u, 0xc0010000u, 0xc0011000u})
        for (u32 msr = base; msr < base + 0x1000; msr++)
            for (const u64 value : {u64{0}, u64{1}, ~u64{0}, u64{0x8000000000000000}}) {
                u64 ignored;
                (void)get_msr(guest.vmx(), msr, ignored);
                (void)set_msr(guest.vmx(), msr, value);
            }
    for (size_t i = before; i < guest.machine.wrmsr_log.size(); i++) {
        const u32 msr = guest.machine.wrmsr_log[i].first;
        EXPECT_TRUE(msr == MSR_IA32_SPEC_CTRL || msr == MSR_IA32_PRED_CMD) << std::hex << msr;
    }
}

TEST_F(Msr, SyscallTargets)
{
    read_write(MSR_STAR, ~u64{0});
    read_write(MSR_LSTAR, kCanonical);
    read_write(MSR_CSTAR, kCanonical);
    read_write(MSR_SYSCALL_MASK, 0x47700);
    refuses(MSR_LSTAR, kNonCanonical);
    refuses(MSR_CSTAR, kNonCanonical);
    EXPECT_EQ(guest.area().uret[URET_LSTAR], kCanonical);
    guest.area().uret_dirty = 0;
    EXPECT_TRUE(guest.wrmsr(MSR_LSTAR, 0));
    EXPECT_EQ(guest.area().uret_dirty, 1u);
}

TEST_F(Msr, SyscallTargetsAreLoadedOnlyWhereSyscallExists)
{
    const vcpu_area &area = guest.area();
    EXPECT_EQ(area.uret_mask[URET_LSTAR], 0u);
    guest.enter_long_mode();
    EXPECT_EQ(area.uret_mask[URET_LSTAR], 0u);
    EXPECT_TRUE(guest.wrmsr(MSR_EFER, EFER_LME | EFER_SCE));
    for (const vcpu_uret_msr slot : {URET_STAR, URET_LSTAR, URET_SYSCALL_MASK})
        EXPECT_EQ(area.uret_mask[slot], ~u64{0});
    EXPECT_EQ(area.uret_mask[URET_CSTAR], 0u);
    EXPECT_TRUE(guest.wrmsr(MSR_EFER, EFER_LME));
    EXPECT_EQ(area.uret_mask[URET_LSTAR], 0u);
}

TEST_F(Msr, SegmentBases)
{
    for (const u32 msr : {MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE}) {
        read_write(msr, kCanonical);
        refuses(msr, kNonCanonical);
        refuses(msr, 0x8000000000000000);
    }
    EXPECT_EQ(guest.get(GUEST_FS_BASE), kCanonical);
    EXPECT_EQ(guest.get(GUEST_GS_BASE), kCanonical);
}

TEST_F(Msr, Sysenter)
{
    read_write(MSR_IA32_SYSENTER_CS, 0x123456789, 0x23456789);
    read_write(MSR_IA32_SYSENTER_ESP, kCanonical);
    read_write(MSR_IA32_SYSENTER_EIP, kCanonical);
    refuses(MSR_IA32_SYSENTER_ESP, kNonCanonical);
    refuses(MSR_IA32_SYSENTER_EIP, kNonCanonical);
}

TEST_F(Msr, TscAux)
{
    read_write(MSR_TSC_AUX, 0xffffffff);
    EXPECT_EQ(guest.area().uret[URET_TSC_AUX], 0xffffffffu);
    refuses(MSR_TSC_AUX, 0x100000000);
    without(0x80000001, &kvm_cpuid_entry2::edx, 27);
    read_write(MSR_TSC_AUX, 5); // RDPID still reads it
    auto entries = guest.supported();
    find(entries, 0x80000001)->edx &= ~bit32(27);
    find(entries, 7)->ecx &= ~bit32(22);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    absent(MSR_TSC_AUX);
}

TEST_F(Msr, TscAuxOfAmdIgnoresTheHighHalf)
{
    auto entries = guest.supported();
    u32 words[3];
    std::memcpy(words, "AuthenticAMD", 12);
    find(entries, 0)->ebx = words[0];
    find(entries, 0)->edx = words[1];
    find(entries, 0)->ecx = words[2];
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    read_write(MSR_TSC_AUX, 0x500000003, 3);
}

TEST_F(Msr, Efer)
{
    read_write(MSR_EFER, EFER_SCE | EFER_LME | EFER_NX);
    read_write(MSR_EFER, EFER_LMA, 0); // read-only
    for (const unsigned bit : {1u, 2u, 7u, 9u, 12u, 13u, 14u, 15u, 63u})
        refuses(MSR_EFER, bit64(bit));
    without(0x80000001, &kvm_cpuid_entry2::edx, 20);
    refuses(MSR_EFER, EFER_NX);
    without(0x80000001, &kvm_cpuid_entry2::edx, 29);
    refuses(MSR_EFER, EFER_LME);
    refuses(MSR_EFER, EFER_LMA);
    read_write(MSR_EFER, EFER_NX | EFER_SCE);
}

TEST_F(Msr, EferLmeMayNotChangeWhilePagingIsOn)
{
    guest.enter_long_mode();
    refuses(MSR_EFER, 0);
    read_write(MSR_EFER, EFER_LME | EFER_NX, EFER_LME | EFER_LMA | EFER_NX);
}

TEST_F(Msr, EferNeedsTheCpusExecuteDisable)
{
    // The guest may be told of NX, but reserved bits of the CPU's EFER stay reserved.
    guest.machine.cpuid[{0x80000001, 0}].edx &= ~bit32(20);
    init_supported_cpuid();
    refuses(MSR_EFER, EFER_NX);
}

TEST_F(Msr, PageAttributeTable)
{
    EXPECT_EQ(guest.rdmsr(MSR_IA32_PAT), 0x0007040600070406u);
    for (unsigned entry = 0; entry < 8; entry++)
        for (u64 type = 0; type < 256; type++) {
            const bool valid = type == 0 || type == 1 || (type >= 4 && type <= 7);
            EXPECT_EQ(guest.wrmsr(MSR_IA32_PAT, type << 8 * entry), valid) << entry << " " << type;
        }
    read_write(MSR_IA32_PAT, 0x0707060504010001);
    EXPECT_EQ(guest.get(GUEST_IA32_PAT), 0x0707060504010001u);
}

TEST_F(Msr, TimeStampCounter)
{
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_TSC, 5000));
    guest.machine.tsc = 1000100;
    const u64 read = *guest.rdmsr(MSR_IA32_TSC);
    EXPECT_GE(read, 5100u);
    EXPECT_LT(read, 6000u);
    EXPECT_EQ(guest.get(TSC_OFFSET), guest.vmx().msrs.tsc_offset);
    // IA32_TSC_ADJUST moved by as much as the TSC did.
    const u64 offset = guest.vmx().msrs.tsc_offset;
    const u64 adjust = *guest.rdmsr(MSR_IA32_TSC_ADJUST);
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_TSC_ADJUST, adjust + 1000));
    EXPECT_EQ(guest.vmx().msrs.tsc_offset, offset + 1000);
    EXPECT_EQ(guest.get(TSC_OFFSET), offset + 1000);
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_TSC_ADJUST, adjust - 5));
    EXPECT_EQ(guest.vmx().msrs.tsc_offset, offset - 5);
}

TEST_F(Msr, TscAdjustWithoutItsFeatureIsIgnored)
{
    without(7, &kvm_cpuid_entry2::ebx, 1);
    const u64 offset = guest.vmx().msrs.tsc_offset;
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_TSC_ADJUST, 77));
    EXPECT_EQ(guest.vmx().msrs.tsc_offset, offset);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_TSC_ADJUST), 0u);
}

TEST_F(Msr, TscMultiplierIsOneWhereThereIsScaling)
{
    StateGuest *const g = &guest;
    if (cpu_has_vmx_tsc_scaling(hardware.config)) {
        EXPECT_EQ(g->get(TSC_MULTIPLIER), bit64(48));
    } else {
        FAIL() << "the test's CPU has no TSC scaling";
    }
}

TEST_F(Msr, ApicBase)
{
    EXPECT_EQ(guest.rdmsr(MSR_IA32_APICBASE), 0xfee00900u);
    read_write(MSR_IA32_APICBASE, 0xfee01900);
    for (const unsigned bit : {0u, 1u, 7u, 9u})
        refuses(MSR_IA32_APICBASE, 0xfee00900 | bit64(bit));
    refuses(MSR_IA32_APICBASE, 0xfee00900 | bit64(46)); // beyond MAXPHYADDR
    read_write(MSR_IA32_APICBASE, 0xfee00900 | bit64(45));
}

TEST_F(Msr, ApicModes)
{
    const u64 base = 0xfee00100, off = base, xapic = base | 0x800, x2apic = base | 0xc00,
              invalid = base | 0x400;
    refuses(MSR_IA32_APICBASE, invalid);
    auto entries = guest.supported();
    find(entries, 1)->ecx &= ~bit32(21);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    refuses(MSR_IA32_APICBASE, x2apic); // not in the guest's CPUID
    ASSERT_EQ(guest.set_cpuid(guest.supported()), 0);
    read_write(MSR_IA32_APICBASE, x2apic);
    refuses(MSR_IA32_APICBASE, xapic); // back only through "disabled"
    refuses(MSR_IA32_APICBASE, invalid);
    read_write(MSR_IA32_APICBASE, off);
    refuses(MSR_IA32_APICBASE, x2apic);
    read_write(MSR_IA32_APICBASE, xapic);
}

TEST_F(Msr, SecondVcpuIsNotTheBootstrapProcessor)
{
    vcpu_vmx other{};
    other.kvm = &guest.kvm();
    other.vcpu_id = 1;
    init_guest_msrs(other);
    EXPECT_EQ(other.apic_base, 0xfee00800u);
}

TEST_F(Msr, MiscEnable)
{
    const u64 reset = bit64(11) | bit64(12);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_MISC_ENABLE), reset);
    read_write(MSR_IA32_MISC_ENABLE, reset | 1);
    refuses(MSR_IA32_MISC_ENABLE, bit64(11));
    refuses(MSR_IA32_MISC_ENABLE, bit64(12));
    read_write(MSR_IA32_MISC_ENABLE, reset | bit64(7), reset); // performance monitoring: read-only
    read_write(MSR_IA32_MISC_ENABLE, reset | bit64(18));
}

TEST_F(Msr, DebugControl)
{
    read_write(MSR_IA32_DEBUGCTL, 0);
    read_write(MSR_IA32_DEBUGCTL, 3, 0); // LBR and BTF: accepted, not done
    for (const unsigned bit : {2u, 6u, 7u, 8u, 9u, 11u, 14u, 63u})
        refuses(MSR_IA32_DEBUGCTL, bit64(bit));
    read_write(MSR_IA32_DEBUGCTL, bit64(15));
    EXPECT_EQ(guest.get(GUEST_IA32_DEBUGCTL), bit64(15));
    read_write(MSR_IA32_DEBUGCTL, 0);
    without(7, &kvm_cpuid_entry2::ebx, 11);
    refuses(MSR_IA32_DEBUGCTL, bit64(15)); // RTM debugging without RTM
}

TEST_F(Msr, MtrrCapability)
{
    read_only(0xfe, 0x508);
}

TEST_F(Msr, MtrrDefaultType)
{
    for (u64 type = 0; type < 256; type++)
        EXPECT_EQ(guest.wrmsr(0x2ff, type), type == 0 || type == 1 || (type >= 4 && type <= 6))
            << type;
    read_write(0x2ff, 0xc06);
    for (const unsigned bit : {8u, 9u, 12u, 32u, 63u})
        refuses(0x2ff, 6 | bit64(bit));
}

TEST_F(Msr, MtrrFixed)
{
    for (const u32 msr :
         {0x250u, 0x258u, 0x259u, 0x268u, 0x269u, 0x26au, 0x26bu, 0x26cu, 0x26du, 0x26eu, 0x26fu}) {
        EXPECT_EQ(guest.rdmsr(msr), 0u);
        read_write(msr, 0x0605040106050401);
        for (unsigned i = 0; i < 8; i++)
            for (const u64 type : {2u, 3u, 7u, 8u, 0xffu})
                refuses(msr, type << 8 * i);
    }
    EXPECT_TRUE(guest.wrmsr(0x26f, 0));
    EXPECT_EQ(guest.rdmsr(0x26e), 0x0605040106050401u); // neighbours are their own
}

TEST_F(Msr, MtrrVariable)
{
    for (u32 i = 0; i < 8; i++) {
        const u32 base = 0x200 + 2 * i, mask = base + 1;
        read_write(base, 0x00000000c0000006 + (u64{i} << 32));
        read_write(mask, 0x00003fffc0000800);
        for (const u64 type : {2u, 3u, 7u, 8u, 0xffu})
            refuses(base, 0xc0000000 | type);
        for (const unsigned bit : {8u, 9u, 10u, 11u, 46u, 63u})
            refuses(base, 6 | bit64(bit));
        for (const unsigned bit : {0u, 1u, 10u, 46u, 63u})
            refuses(mask, 0x800 | bit64(bit));
    }
    EXPECT_EQ(guest.rdmsr(0x204), 0x00000002c0000006u);
}

TEST_F(Msr, MachineCheck)
{
    read_only(0x179, 32);
    read_write(0x17a, 7);
    absent(0x17b); // no IA32_MCG_CTL
    for (const u32 bank : {0u, 1u, 31u}) {
        const u32 ctl = 0x400 + 4 * bank;
        read_write(ctl, 0);
        read_write(ctl, ~u64{0});
        read_write(ctl, ~bit64(10));
        read_write(ctl, ~u64{1});
        refuses(ctl, 1);
        refuses(ctl, ~bit64(5));
        read_write(ctl + 1, 0);
        refuses(ctl + 1, 1);
        read_write(ctl + 2, 0x123456789);
        read_write(ctl + 3, ~u64{0});
    }
    absent(0x480);
    absent(0x280); // no corrected-error interrupts
}

TEST_F(Msr, AmdGuestsMayForgeMachineChecks)
{
    read_write(0xc0010015, bit64(18));
    refuses(0x401, 1);
    auto entries = guest.supported();
    u32 words[3];
    std::memcpy(words, "AuthenticAMD", 12);
    find(entries, 0)->ebx = words[0];
    find(entries, 0)->edx = words[1];
    find(entries, 0)->ecx = words[2];
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    read_write(0x401, 1);
    read_write(0xc0010015, 0x148, 0);
    refuses(0xc0010015, 1);
    refuses(0x401, 3);
}

TEST_F(Msr, FeatureControl)
{
    EXPECT_EQ(guest.rdmsr(0x3a), 0u);
    for (const unsigned bit : {1u, 2u, 8u, 17u, 18u, 20u, 63u})
        refuses(0x3a, bit64(bit));
    read_write(0x3a, 1);
    refuses(0x3a, 1);
    refuses(0x3a, 0);
}

TEST_F(Msr, PlatformAndCpuidFaulting)
{
    read_only(0xce, bit64(31));
    refuses(0x140, 2);
    read_write(0x140, 1);
    read_write(0x140, 0);
    guest.vmx().msrs.platform_info = 0;
    refuses(0x140, 1);
}

TEST_F(Msr, ExtendedStates)
{
    if (supports(CpuidFeature::kXsaves)) {
        read_write(MSR_IA32_XSS, 0);
        refuses(MSR_IA32_XSS, bit64(8));
        refuses(MSR_IA32_XSS, bit64(11));
    }
    auto entries = guest.supported();
    find(entries, 0xd, 1)->eax &= ~bit32(3);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    absent(MSR_IA32_XSS);
    absent(MSR_IA32_BNDCFGS); // this CPU's guests have no MPX
}

TEST(MsrMpx, Bndcfgs)
{
    StateGuest guest("CannonLake");
    guest.set_supported_cpuid();
    ASSERT_TRUE(supports(CpuidFeature::kMpx));
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_BNDCFGS, kCanonical | 3));
    EXPECT_EQ(guest.rdmsr(MSR_IA32_BNDCFGS), kCanonical | 3);
    EXPECT_EQ(guest.get(GUEST_BNDCFGS), kCanonical | 3);
    for (unsigned bit = 2; bit < 12; bit++)
        EXPECT_FALSE(guest.wrmsr(MSR_IA32_BNDCFGS, bit64(bit))) << bit;
    EXPECT_FALSE(guest.wrmsr(MSR_IA32_BNDCFGS, kNonCanonical));
    EXPECT_EQ(find(guest.supported(), 0xd)->eax, 0xffu);
}

TEST_F(Msr, UmwaitControlNeedsTheControl)
{
    absent(0xe1);
}

TEST(MsrWaitpkg, UmwaitControl)
{
    StateGuest guest("ElkhartLake");
    EXPECT_FALSE(guest.wrmsr(0xe1, 0)) << "the guest's CPUID doesn't have WAITPKG yet";
    guest.set_supported_cpuid();
    EXPECT_TRUE(guest.wrmsr(0xe1, 0xfffffffd));
    EXPECT_EQ(guest.rdmsr(0xe1), 0xfffffffdu);
    EXPECT_FALSE(guest.wrmsr(0xe1, 2));
    EXPECT_FALSE(guest.wrmsr(0xe1, bit64(32)));
}

TEST_F(Msr, ArchCapabilities)
{
    guest.machine.msr[MSR_IA32_ARCH_CAPABILITIES] = ~u64{0};
    vcpu_vmx &vmx = guest.vmx();
    hardware.info.bugs = ~0u;
    init_guest_msrs(vmx);
    const u64 all = *guest.rdmsr(MSR_IA32_ARCH_CAPABILITIES);
    EXPECT_EQ(
        all & (bit64(7) | bit64(10) | bit64(11) | bit64(12) | bit64(18) | bit64(21) | bit64(23)),
        0u)
        << "bits that tell of MSRs which guests don't have";
    EXPECT_TRUE(all & bit64(0));
    EXPECT_FALSE(guest.wrmsr(MSR_IA32_ARCH_CAPABILITIES, 0));

    guest.machine.msr.erase(MSR_IA32_ARCH_CAPABILITIES);
    init_guest_msrs(vmx);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_ARCH_CAPABILITIES), bit64(6)) << "a CPU with every bug";
    hardware.info.bugs = 0;
    init_guest_msrs(vmx);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_ARCH_CAPABILITIES), bit64(0) | bit64(3) | bit64(4) | bit64(5) |
                                                           bit64(6) | bit64(8) | bit64(26) |
                                                           bit64(27) | bit64(62));
    without(7, &kvm_cpuid_entry2::edx, 29);
    absent(MSR_IA32_ARCH_CAPABILITIES);
}

TEST_F(Msr, SpecCtrlIsTriedOnTheCpuAndThenPassedThrough)
{
    EXPECT_FALSE(guest.wrmsr(MSR_IA32_SPEC_CTRL, 0)) << "a CPU without it";
    guest.machine.msr[MSR_IA32_SPEC_CTRL] = 4;
    u8 *const bitmap = static_cast<u8 *>(guest.vmx().msr_bitmap);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_SPEC_CTRL), 0u);
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_SPEC_CTRL, 0));
    EXPECT_TRUE(bitmap[0x48 / 8] & 1 << 0x48 % 8) << "zero is no use of it";
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_SPEC_CTRL, 1));
    EXPECT_EQ(guest.machine.msr[MSR_IA32_SPEC_CTRL], 4u) << "the host's value is back";
    EXPECT_EQ(guest.area().spec_ctrl, 1u);
    EXPECT_EQ(guest.area().save_spec_ctrl, 1u);
    EXPECT_FALSE(bitmap[0x48 / 8] & 1 << 0x48 % 8);
    EXPECT_FALSE(bitmap[2048 + 0x48 / 8] & 1 << 0x48 % 8);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_SPEC_CTRL), 1u);
    EXPECT_FALSE(guest.machine.irqs_off);

    auto entries = guest.supported();
    find(entries, 7)->edx &= ~bit32(26);
    find(entries, 0x80000008)->ebx = 0;
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    absent(MSR_IA32_SPEC_CTRL);
}

TEST_F(Msr, PredCmd)
{
    guest.machine.msr[MSR_IA32_PRED_CMD] = 0;
    u8 *const bitmap = static_cast<u8 *>(guest.vmx().msr_bitmap);
    EXPECT_EQ(guest.rdmsr(MSR_IA32_PRED_CMD), std::nullopt);
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_PRED_CMD, 0));
    EXPECT_TRUE(guest.machine.wrmsr_log.empty() ||
                guest.machine.wrmsr_log.back().first != MSR_IA32_PRED_CMD);
    EXPECT_FALSE(guest.wrmsr(MSR_IA32_PRED_CMD, 2));
    EXPECT_TRUE(guest.wrmsr(MSR_IA32_PRED_CMD, 1));
    EXPECT_EQ(guest.machine.wrmsr_log.back().first, MSR_IA32_PRED_CMD);
    EXPECT_TRUE(bitmap[0x49 / 8] & 1 << 0x49 % 8) << "reads still exit, to fault";
    EXPECT_FALSE(bitmap[2048 + 0x49 / 8] & 1 << 0x49 % 8);
    auto entries = guest.supported();
    find(entries, 7)->edx &= ~bit32(26);
    find(entries, 0x80000008)->ebx = 0;
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    EXPECT_FALSE(guest.wrmsr(MSR_IA32_PRED_CMD, 1));
}

TEST_F(Msr, FixedAnswers)
{
    for (const u32 msr :
         {0x0u, 0x1u, 0x17u, 0x2au, 0x34u, 0x199u, 0x1dbu, 0x1dcu, 0x1ddu, 0x1deu, 0x606u, 0x611u,
          0x619u, 0x639u, 0x641u, 0xc0010010u, 0xc0010055u, 0xc0010112u, 0xc0010113u})
        read_only(msr, 0);
    read_only(0x2c, 0x1000000);
    read_only(0xcd, 3);
    read_only(0x198, 1000 | u64{4} << 40);
    // Writes vanish.
    const std::pair<u32, u64> ignored[] = {{0x8b, u64{1} << 32},
                                           {0xc1, 0},
                                           {0xc2, 0},
                                           {0x11e, 0xbe702111},
                                           {0x186, 0},
                                           {0x187, 0},
                                           {0x6e0, 0},
                                           {0xc0010000, 0},
                                           {0xc0010007, 0},
                                           {0xc001001b, 0x20000000},
                                           {0xc001001f, 0},
                                           {0xc0010117, 0},
                                           {0xc0011022, 0},
                                           {0xc0011023, 0},
                                           {0xc001102a, 0},
                                           {0xc001102c, 0}};
    for (const auto &[msr, value] : ignored)
        read_write(msr, 0x1234, value);
    EXPECT_TRUE(guest.wrmsr(0x79, kCanonical)); // microcode update: nothing happens
    EXPECT_EQ(guest.rdmsr(0x79), std::nullopt);
    EXPECT_TRUE(guest.wrmsr(0xc0010020, 1));
    EXPECT_EQ(guest.rdmsr(0xc0010020), std::nullopt);
    read_write(0x1fc, 0x12345);
    read_write(0xc0010058, 0);
    refuses(0xc0010058, 1);
}

TEST_F(Msr, ReadExit)
{
    guest.instruction(0x2000, 2);
    guest.reg(kRcx) = 0xffffffff00000000 | MSR_IA32_PAT;
    guest.reg(kRax) = guest.reg(kRdx) = ~u64{0};
    EXPECT_TRUE(handle_rdmsr(guest.vmx()).resumes());
    EXPECT_EQ(guest.reg(kRax), 0x00070406u);
    EXPECT_EQ(guest.reg(kRdx), 0x00070406u);
    EXPECT_EQ(guest.rip(), 0x2002u);
    guest.reg(kRcx) = 0x12345;
    EXPECT_TRUE(handle_rdmsr(guest.vmx()).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
    EXPECT_EQ(guest.reg(kRax), 0x00070406u);
    EXPECT_EQ(guest.rip(), 0x2002u);
}

TEST_F(Msr, WriteExit)
{
    guest.instruction(0x2000, 2);
    guest.reg(kRcx) = MSR_STAR;
    guest.reg(kRax) = 0xffffffff12345678;
    guest.reg(kRdx) = 0xffffffff9abcdef0;
    EXPECT_TRUE(handle_wrmsr(guest.vmx()).resumes());
    EXPECT_EQ(guest.rdmsr(MSR_STAR), 0x9abcdef012345678u);
    EXPECT_EQ(guest.rip(), 0x2002u);
    guest.reg(kRcx) = MSR_LSTAR;
    EXPECT_TRUE(handle_wrmsr(guest.vmx()).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
    EXPECT_EQ(guest.vmx().exception.error_code, 0u);
    EXPECT_TRUE(guest.vmx().exception.has_error_code);
    EXPECT_EQ(guest.rip(), 0x2002u);
}

// ---- Which MSRs don't exit ----

struct Bitmap {
    const u8 *bytes;
    bool exits(u32 msr, bool write) const
    {
        const u32 at = (write ? 2048 : 0) + (msr >= 0xc0000000 ? 1024 : 0);
        const u32 number = msr & 0x1fff;
        return (bytes[at + number / 8] >> number % 8 & 1) != 0;
    }
};

TEST(MsrBitmap, PassesExactlyWhatKvmDoes)
{
    StateGuest guest;
    const Bitmap bitmap{static_cast<const u8 *>(guest.vmx().msr_bitmap)};
    const std::set<u32> both = {MSR_FS_BASE,          MSR_GS_BASE,           MSR_KERNEL_GS_BASE,
                                MSR_IA32_SYSENTER_CS, MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP};
    for (const u32 base : {0u, 0xc0000000u})
        for (u32 msr = base; msr < base + 0x2000; msr++) {
            EXPECT_EQ(bitmap.exits(msr, false), !both.contains(msr) && msr != MSR_IA32_TSC)
                << std::hex << msr;
            EXPECT_EQ(bitmap.exits(msr, true), !both.contains(msr)) << std::hex << msr;
        }
}

TEST(MsrBitmap, IdleStateCountersWithCstatesInGuest)
{
    StateGuest guest;
    guest.kvm().cstate_in_guest = true;
    init_msr_bitmap(guest.vmx());
    const Bitmap bitmap{static_cast<const u8 *>(guest.vmx().msr_bitmap)};
    for (const u32 msr : {0x3fcu, 0x3fdu, 0x3feu, 0x660u}) {
        EXPECT_FALSE(bitmap.exits(msr, false)) << std::hex << msr;
        EXPECT_TRUE(bitmap.exits(msr, true)) << std::hex << msr;
    }
}

} // namespace
} // namespace minivmx::test
