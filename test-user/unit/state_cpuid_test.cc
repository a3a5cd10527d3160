// SPDX-License-Identifier: GPL-2.0-only
#include "state_support.hpp"

#include <minivmx/capabilities.hpp>
#include <minivmx/control_shadow.hpp>

namespace minivmx::test {
namespace {

using Entry = kvm_cpuid_entry2;

Entry entry(u32 leaf, u32 eax, u32 ebx = 0, u32 ecx = 0, u32 edx = 0)
{
    return Entry{leaf, 0, 0, eax, ebx, ecx, edx, {}};
}

Entry subleaf(u32 leaf, u32 index, u32 eax, u32 ebx = 0, u32 ecx = 0, u32 edx = 0)
{
    return Entry{leaf, index, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, eax, ebx, ecx, edx, {}};
}

// ---- KVM_GET_SUPPORTED_CPUID ----

TEST(SupportedCpuid, HasKvmsOrderOfLeaves)
{
    StateGuest guest;
    std::vector<std::pair<u32, u32>> order;
    for (const Entry &e : guest.supported())
        order.push_back({e.function, e.index});
    std::vector<std::pair<u32, u32>> expected = {
        {0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0},   {4, 1},   {4, 2},   {5, 0},   {6, 0},  {7, 0},
        {7, 1}, {7, 2}, {8, 0}, {9, 0}, {0xa, 0}, {0xb, 0}, {0xc, 0}, {0xd, 0}, {0xd, 1}};
    for (const u32 i : {2u, 5u, 6u, 7u}) // no MPX on this CPU
        expected.push_back({0xd, i});
    for (u32 leaf = 0xe; leaf <= 0x16; leaf++)
        expected.push_back({leaf, 0});
    for (u32 leaf = 0x80000000; leaf <= 0x80000008; leaf++)
        expected.push_back({leaf, 0});
    expected.push_back({0x40000000, 0});
    expected.push_back({0x40000001, 0});
    EXPECT_EQ(order, expected);
}

TEST(SupportedCpuid, OffersNothingThatIsNotVirtualised)
{
    StateGuest guest;
    const auto cpuid = guest.supported();
    const Entry &leaf_1 = *find(cpuid, 1);
    for (const unsigned bit : {2u, 3u, 4u, 5u, 6u, 7u, 8u, 15u, 24u, 27u, 31u})
        EXPECT_EQ(leaf_1.ecx >> bit & 1, 0u) << "leaf 1 ECX bit " << bit;
    for (const unsigned bit : {21u, 22u, 28u, 29u, 30u, 31u})
        EXPECT_EQ(leaf_1.edx >> bit & 1, 0u) << "leaf 1 EDX bit " << bit;
    const Entry &leaf_7 = *find(cpuid, 7);
    EXPECT_EQ(leaf_7.eax, 2u);
    for (const unsigned bit : {2u, 12u, 15u, 22u, 25u}) // SGX, RDT-M, RDT-A, PT
        EXPECT_EQ(leaf_7.ebx >> bit & 1, 0u) << "leaf 7 EBX bit " << bit;
    for (const unsigned bit :
         {3u, 4u, 7u, 16u, 24u, 30u}) // PKU, OSPKE, CET, LA57, bus lock, SGX_LC
        EXPECT_EQ(leaf_7.ecx >> bit & 1, 0u) << "leaf 7 ECX bit " << bit;
    for (const unsigned bit : {20u, 22u, 24u, 25u}) // CET_IBT, AMX
        EXPECT_EQ(leaf_7.edx >> bit & 1, 0u) << "leaf 7 EDX bit " << bit;
    EXPECT_EQ(find(cpuid, 7, 1)->eax, bit32(4) | bit32(5));
    EXPECT_EQ(find(cpuid, 7, 1)->edx, 0u);
    for (const u32 leaf : {3u, 5u, 0xau, 0x12u, 0x14u, 0x15u, 0x80000002u, 0x80000005u}) {
        const Entry &e = *find(cpuid, leaf);
        EXPECT_EQ(e.eax | e.ebx | e.ecx | e.edx, 0u) << "leaf " << std::hex << leaf;
    }
    EXPECT_EQ(find(cpuid, 6)->eax, 4u);
    EXPECT_EQ(find(cpuid, 0xb)->eax, 0u);
    EXPECT_EQ(find(cpuid, 0xb)->edx, 5u);
    EXPECT_EQ(find(cpuid, 0x80000001)->edx,
              bit32(11) | bit32(20) | bit32(26) | bit32(27) | bit32(29));
    EXPECT_EQ(find(cpuid, 0x80000006)->edx, 0u);
    EXPECT_EQ(find(cpuid, 0x80000007)->edx, bit32(8));
    EXPECT_EQ(find(cpuid, 0x80000008)->eax, 0x302eu);
}

TEST(SupportedCpuid, ExtendedStateIsWhatXcr0MayHold)
{
    StateGuest guest;
    const auto cpuid = guest.supported();
    const bool mpx = (hardware.config.vmentry_ctrl & VM_ENTRY_LOAD_BNDCFGS) != 0;
    EXPECT_EQ(find(cpuid, 0xd)->eax, mpx ? 0xffu : 0xe7u);
    EXPECT_EQ(find(cpuid, 0xd)->ebx, 1664u + 1024);
    EXPECT_EQ(find(cpuid, 0xd)->ecx, 1664u + 1024);
    const bool xsaves = cpu_has_vmx_xsaves(hardware.config);
    EXPECT_EQ(find(cpuid, 0xd, 1)->eax, xsaves ? 0xfu : 0x7u); // no XFD
    EXPECT_EQ(find(cpuid, 0xd, 1)->ecx, 0u);                   // no supervisor state
    EXPECT_EQ(find(cpuid, 0xd, 6)->ecx, 2u);
    EXPECT_EQ(find(cpuid, 0xd, 9), nullptr); // PKRU
}

TEST(SupportedCpuid, WithoutXsaveThereIsNoExtendedState)
{
    StateGuest guest("tigerlake", [](sim::Machine &machine, Parameters &) {
        machine.host_info.features[HOST_FEATURES_1_ECX] &= ~bit32(26); // the kernel gave it up
        machine.host_info.xcr0 = 0;
    });
    const auto cpuid = guest.supported();
    EXPECT_EQ(find(cpuid, 1)->ecx >> 26 & 1, 0u);
    EXPECT_EQ(find(cpuid, 0xd)->eax, 0u);
    EXPECT_EQ(find(cpuid, 0xd, 1), nullptr);
}

TEST(SupportedCpuid, FollowsTheVmxControls)
{
    // Penryn has none of the controls that give these instructions to a guest.
    StateGuest guest("core2_penryn_t9600");
    EXPECT_FALSE(supports(CpuidFeature::kInvpcid));
    EXPECT_FALSE(supports(CpuidFeature::kRdtscp));
    EXPECT_FALSE(supports(CpuidFeature::kRdpid));
    EXPECT_FALSE(supports(CpuidFeature::kXsaves));
    EXPECT_FALSE(supports(CpuidFeature::kWaitpkg));
    EXPECT_FALSE(supports(CpuidFeature::kMpx));
    EXPECT_TRUE(supports(CpuidFeature::kRdrand));
    EXPECT_TRUE(supports(CpuidFeature::kRdseed));
    EXPECT_EQ(find(guest.supported(), 0xd)->eax, 0xe7u);
}

TEST(SupportedCpuid, KernelAndCpuBothDecide)
{
    StateGuest guest("corei7_haswell_4770", [](sim::Machine &machine, Parameters &) {
        machine.host_info.features[HOST_FEATURES_7_EBX] &= ~bit32(7); // nosmep
        machine.cpuid[{7, 0}].ebx &= ~bit32(20);                      // no SMAP
    });
    EXPECT_FALSE(supports(CpuidFeature::kSmep));
    EXPECT_FALSE(supports(CpuidFeature::kSmap));
    EXPECT_TRUE(supports(CpuidFeature::kFsgsbase));
}

TEST(SupportedCpuid, AddsWhatSoftwareEmulates)
{
    StateGuest guest("corei7_haswell_4770", [](sim::Machine &machine, Parameters &) {
        machine.cpuid[{1, 0}].ecx = bit32(5); // VMX
        machine.cpuid[{7, 0}] = {0, 0, 0, 0};
        machine.host_info.bugs = HOST_BUG_SPEC_STORE_BYPASS;
    });
    const auto cpuid = guest.supported();
    EXPECT_EQ(find(cpuid, 1)->ecx, bit32(21));         // x2APIC
    EXPECT_EQ(find(cpuid, 7)->ebx, bit32(1));          // TSC_ADJUST
    EXPECT_EQ(find(cpuid, 7)->edx, bit32(29));         // ARCH_CAPABILITIES
    EXPECT_EQ(find(cpuid, 7, 1), nullptr);             // EAX of leaf 7 says so
    EXPECT_EQ(find(cpuid, 0x80000008)->ebx, bit32(9)); // WBNOINVD
}

TEST(SupportedCpuid, ShowsSpeculationControlUnderBothNames)
{
    StateGuest guest;
    const u32 amd = find(guest.supported(), 0x80000008)->ebx;
    for (const unsigned bit : {12u, 14u, 15u, 24u, 26u})
        EXPECT_EQ(amd >> bit & 1, 1u) << bit;
}

TEST(SupportedCpuid, HypervisorSignatureAndKvmclock)
{
    StateGuest guest;
    const auto cpuid = guest.supported();
    const Entry &signature = *find(cpuid, 0x40000000);
    char text[13] = "";
    std::memcpy(text, &signature.ebx, 4);
    std::memcpy(text + 4, &signature.ecx, 4);
    std::memcpy(text + 8, &signature.edx, 4);
    EXPECT_STREQ(text, "KVMKVMKVM");
    EXPECT_EQ(signature.eax, 0x40000001u);
    // kvmclock by both pairs of MSRs, no I/O delay, and TSCs may be stable
    EXPECT_EQ(find(cpuid, 0x40000001)->eax, 0x0100000bu);
}

TEST(SupportedCpuid, SaysWhenTheListIsTooShort)
{
    StateGuest guest;
    const u32 needed = static_cast<u32>(guest.supported().size());
    std::vector<Entry> entries(needed);
    u32 count = 0;
    EXPECT_EQ(core_get_supported_cpuid(entries.data(), &count), -E2BIG);
    for (count = 1; count < needed;) {
        const u32 tried = count;
        EXPECT_EQ(core_get_supported_cpuid(entries.data(), &count), -E2BIG);
        EXPECT_EQ(count, tried);
        count = tried + 1;
    }
    EXPECT_EQ(core_get_supported_cpuid(entries.data(), &count), 0);
    EXPECT_EQ(count, needed);
    std::vector<Entry> many(1000);
    count = 1000;
    EXPECT_EQ(core_get_supported_cpuid(many.data(), &count), 0);
    EXPECT_EQ(count, needed);
}

// ---- KVM_SET_CPUID2, KVM_GET_CPUID2 ----

TEST(SetCpuid, FreshVcpuKnowsNothing)
{
    StateGuest guest;
    u32 count = 0;
    EXPECT_EQ(core_get_cpuid2(guest.vcpu(), nullptr, &count), 0);
    EXPECT_EQ(count, 0u);
    EXPECT_EQ(guest_physical_bits(guest.vmx()), 36u);
    const CpuidAnswer answer = guest_cpuid(guest.vmx(), 0, 0);
    EXPECT_EQ(answer.eax | answer.ebx | answer.ecx | answer.edx, 0u);
}

TEST(SetCpuid, TooManyEntries)
{
    StateGuest guest;
    std::vector<Entry> entries(257);
    EXPECT_EQ(guest.set_cpuid(entries), -E2BIG);
    entries.resize(256);
    EXPECT_EQ(guest.set_cpuid(entries), 0);
}

TEST(SetCpuid, EmptyListForgetsTheOldOne)
{
    StateGuest guest;
    guest.set_supported_cpuid();
    EXPECT_EQ(guest.set_cpuid({}), 0);
    EXPECT_FALSE(guest.vmx().cpuid.has(CpuidFeature::kLm));
    EXPECT_EQ(guest_physical_bits(guest.vmx()), 36u);
}

TEST(SetCpuid, NoMemoryChangesNothing)
{
    StateGuest guest;
    guest.set_supported_cpuid();
    guest.machine.allocations_left = 0;
    EXPECT_EQ(guest.set_cpuid({entry(0, 1)}), -ENOMEM);
    guest.machine.allocations_left = -1;
    EXPECT_TRUE(guest.vmx().cpuid.has(CpuidFeature::kLm));
}

TEST(SetCpuid, OnlyKnownWidthsOfLinearAddresses)
{
    StateGuest guest;
    for (const u32 width : {0u, 48u, 57u})
        EXPECT_EQ(guest.set_cpuid({entry(0x80000008, width << 8 | 40)}), 0) << width;
    for (const u32 width : {1u, 47u, 49u, 52u, 56u, 58u, 64u, 255u})
        EXPECT_EQ(guest.set_cpuid({entry(0x80000008, width << 8 | 40)}), -EINVAL) << width;
}

TEST(SetCpuid, GetReturnsWhatWasSetAndTheCount)
{
    StateGuest guest;
    const auto supported = guest.supported();
    ASSERT_EQ(guest.set_cpuid(supported), 0);
    std::vector<Entry> back(kMaxCpuidEntries);
    u32 count = static_cast<u32>(supported.size()) - 1;
    EXPECT_EQ(core_get_cpuid2(guest.vcpu(), back.data(), &count), -E2BIG);
    EXPECT_EQ(count, supported.size());
    count = kMaxCpuidEntries;
    EXPECT_EQ(core_get_cpuid2(guest.vcpu(), back.data(), &count), 0);
    ASSERT_EQ(count, supported.size());
    for (u32 i = 0; i < count; i++) {
        EXPECT_EQ(back[i].function, supported[i].function);
        EXPECT_EQ(back[i].index, supported[i].index);
        EXPECT_EQ(back[i].flags, supported[i].flags);
    }
}

TEST(SetCpuid, AfterTheFirstRunOnlyTheSameAgain)
{
    StateGuest guest;
    auto entries = guest.supported();
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    guest.vmx().last_vmentry_cpu = 0;
    EXPECT_EQ(guest.set_cpuid(entries), 0);
    auto changed = entries;
    changed[3].ebx ^= 1;
    EXPECT_EQ(guest.set_cpuid(changed), -EINVAL);
    changed = entries;
    changed.pop_back();
    EXPECT_EQ(guest.set_cpuid(changed), -EINVAL);
    // What shows the vCPU's state is compared after it was filled in, so a client's stale copy is
    // fine.
    changed = entries;
    find(changed, 1)->ecx ^= bit32(27);
    find(changed, 1)->edx ^= bit32(9);
    find(changed, 0xd)->ebx = 12345;
    EXPECT_EQ(guest.set_cpuid(changed), 0);
}

TEST(SetCpuid, PhysicalAddressWidth)
{
    StateGuest guest;
    ASSERT_EQ(guest.set_cpuid({entry(0x80000000, 0x80000008), entry(0x80000008, 0x3027)}), 0);
    EXPECT_EQ(guest_physical_bits(guest.vmx()), 39u);
    EXPECT_TRUE(is_illegal_gpa(guest.vmx(), bit64(39)));
    EXPECT_FALSE(is_illegal_gpa(guest.vmx(), bit64(39) - 1));
    ASSERT_EQ(guest.set_cpuid({entry(0x80000000, 0x80000007), entry(0x80000008, 0x3027)}), 0);
    EXPECT_EQ(guest_physical_bits(guest.vmx()), 36u);
    ASSERT_EQ(guest.set_cpuid({entry(0x80000000, 0x80000008), entry(0x80000008, 0x30ff)}), 0);
    EXPECT_FALSE(is_illegal_gpa(guest.vmx(), ~u64{0}));
}

TEST(SetCpuid, MovesTheSecondaryControls)
{
    StateGuest guest;
    const u32 all = SECONDARY_EXEC_XSAVES | SECONDARY_EXEC_ENABLE_RDTSCP |
                    SECONDARY_EXEC_ENABLE_INVPCID | SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE;
    const u32 exiting = SECONDARY_EXEC_RDRAND_EXITING | SECONDARY_EXEC_RDSEED_EXITING;
    const u32 negotiated = hardware.config.cpu_based_2nd_exec_ctrl;
    EXPECT_EQ(secondary_exec_controls_get(guest.vmx().vmcs01) & (all | exiting),
              exiting & negotiated);
    guest.set_supported_cpuid();
    EXPECT_EQ(secondary_exec_controls_get(guest.vmx().vmcs01) & (all | exiting), all & negotiated);
    EXPECT_EQ(guest.get(SECONDARY_VM_EXEC_CONTROL) & (all | exiting), all & negotiated);
    EXPECT_EQ(guest.vmx().xsaves_enabled, cpu_has_vmx_xsaves(hardware.config));
    EXPECT_EQ(guest.area().uret_mask[URET_TSC_AUX], ~u64{0});
    // RDPID hangs on the same control as RDTSCP.
    auto entries = guest.supported();
    find(entries, 0x80000001)->edx &= ~bit32(27);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    EXPECT_TRUE(secondary_exec_controls_get(guest.vmx().vmcs01) & SECONDARY_EXEC_ENABLE_RDTSCP);
    find(entries, 7)->ecx &= ~bit32(22);
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    EXPECT_FALSE(secondary_exec_controls_get(guest.vmx().vmcs01) & SECONDARY_EXEC_ENABLE_RDTSCP);
    EXPECT_EQ(guest.area().uret_mask[URET_TSC_AUX], 0u);
}

// ---- The instruction ----

TEST(Cpuid, FirstMatchingEntryCounts)
{
    StateGuest guest;
    ASSERT_EQ(guest.set_cpuid({entry(0, 7), entry(1, 0x11), entry(1, 0x22), subleaf(4, 1, 0x41),
                               subleaf(4, 0, 0x40), entry(5, 0x50)}),
              0);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 1, 0).eax, 0x11u);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 4, 0).eax, 0x40u);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 4, 1).eax, 0x41u);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 4, 2).eax, 0u);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 5, 1234).eax, 0x50u); // its subleaf doesn't matter
}

struct RangeCase {
    u32 leaf;
    u32 eax;
};

TEST(Cpuid, BeyondTheLastLeafOfAClassIntelShowsTheLastBasicOne)
{
    StateGuest guest;
    const std::vector<Entry> entries = {entry(0, 0xd, kGenu, kNtel, kIneI),
                                        entry(1, 0x11),
                                        subleaf(0xd, 0, 0xd0),
                                        subleaf(0xd, 1, 0xd1),
                                        entry(0x80000000, 0x80000001),
                                        entry(0x80000001, 0x81),
                                        entry(0x40000000, 0x40000001),
                                        entry(0x40000001, 0x41),
                                        entry(0x40000100, 0x40000100)};
    ASSERT_EQ(guest.set_cpuid(entries), 0);
    const RangeCase cases[] = {
        {1, 0x11},
        {2, 0}, // in range but absent: zeros
        {0xe, 0xd0},
        {0x3fffffff, 0xd0},
        {0x50000000, 0xd0}, // basic
        {0x80000001, 0x81},
        {0x80000002, 0xd0},
        {0xbfffffff, 0xd0}, // extended
        {0x40000001, 0x41},
        {0x40000002, 0xd0}, // hypervisor
        {0x40000100, 0x40000100},
        {0x40000101, 0xd0}, // a second hypervisor class
        {0x40000200, 0xd0}, // a class that isn't there
        {0xc0000000, 0xd0},
        {0xffffffff, 0xd0}, // Centaur's isn't there
    };
    for (const RangeCase &c : cases)
        EXPECT_EQ(guest_cpuid(guest.vmx(), c.leaf, 0).eax, c.eax) << std::hex << c.leaf;
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0x80000002, 1).eax, 0xd1u); // the subleaf is the asked one
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0x80000002, 7).eax, 0u);
}

TEST(Cpuid, BeyondTheLastLeafAmdAndHygonShowZeros)
{
    StateGuest guest;
    const char *const vendors[] = {"AuthenticAMD", "AMDisbetter!", "HygonGenuine"};
    for (const char *vendor : vendors) {
        u32 words[3];
        std::memcpy(words, vendor, 12);
        ASSERT_EQ(guest.set_cpuid({entry(0, 1, words[0], words[2], words[1]), entry(1, 0x11)}), 0);
        EXPECT_EQ(guest_cpuid(guest.vmx(), 2, 0).eax, 0u) << vendor;
        EXPECT_EQ(guest_cpuid(guest.vmx(), 1, 0).eax, 0x11u) << vendor;
        EXPECT_TRUE(guest.vmx().cpuid.is_amd_compatible());
        EXPECT_FALSE(guest.vmx().cpuid.is_intel());
    }
    u32 words[3];
    std::memcpy(words, "CentaurHauls", 12);
    ASSERT_EQ(guest.set_cpuid({entry(0, 1, words[0], words[2], words[1]), entry(1, 0x11)}), 0);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 2, 0).eax, 0x11u);
}

TEST(Cpuid, TopologySubleavesBeyondTheLast)
{
    StateGuest guest;
    ASSERT_EQ(guest.set_cpuid({entry(0, 0xb), subleaf(0xb, 0, 1, 2, 0x100, 9),
                               subleaf(0xb, 1, 3, 4, 0x201, 9)}),
              0);
    const CpuidAnswer answer = guest_cpuid(guest.vmx(), 0xb, 0x302);
    EXPECT_EQ(answer.eax, 0u);
    EXPECT_EQ(answer.ebx, 0u);
    EXPECT_EQ(answer.ecx, 2u); // CL as it came in
    EXPECT_EQ(answer.edx, 9u);
    // Also when the last basic leaf stands in for another.
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0xc, 5).edx, 9u);
    // Without subleaf 1 the leaf is not implemented.
    ASSERT_EQ(guest.set_cpuid({entry(0, 0xb), subleaf(0xb, 0, 1, 2, 0x100, 9)}), 0);
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0xb, 2).edx, 0u);
}

TEST(Cpuid, ShowsTheStateOfTheVcpu)
{
    StateGuest guest;
    guest.set_supported_cpuid();
    auto has = [&](u32 leaf, unsigned bit, bool edx = false) {
        const CpuidAnswer a = guest_cpuid(guest.vmx(), leaf, 0);
        return ((edx ? a.edx : a.ecx) >> bit & 1) != 0;
    };
    EXPECT_FALSE(has(1, 27));
    EXPECT_TRUE(has(1, 9, true));
    EXPECT_TRUE(set_cr4(guest.vmx(), X86_CR4_OSXSAVE));
    EXPECT_TRUE(has(1, 27));
    EXPECT_TRUE(set_cr4(guest.vmx(), 0));
    EXPECT_FALSE(has(1, 27));
    EXPECT_TRUE(guest.wrmsr(0x1b, 0xfee00100)); // the APIC goes off
    EXPECT_FALSE(has(1, 9, true));

    EXPECT_EQ(guest_cpuid(guest.vmx(), 0xd, 0).ebx, 576u);
    guest.vmx().msrs.xcr0 = 7;
    update_cpuid_runtime(guest.vmx());
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0xd, 0).ebx, 576u + 256);
    guest.vmx().msrs.xcr0 = 0xe7;
    update_cpuid_runtime(guest.vmx());
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0xd, 0).ebx, 2688u);
    // Compacted: 576 + 256 + 64, the next two at multiples of 64.
    EXPECT_EQ(guest_cpuid(guest.vmx(), 0xd, 1).ebx, 896u + 512 + 1024);
}

TEST(Cpuid, ExitFillsTheRegistersAndGoesOn)
{
    StateGuest guest;
    guest.set_supported_cpuid();
    guest.instruction(0x1000, 2);
    guest.reg(kRax) =
        0xffffffff00000000; // only the low halves count, and the high ones are cleared
    guest.reg(kRcx) = 0xffffffff00000000;
    guest.reg(kRbx) = ~u64{0};
    EXPECT_TRUE(handle_cpuid(guest.vmx()).resumes());
    EXPECT_EQ(guest.reg(kRax), 0x16u);
    EXPECT_EQ(guest.reg(kRbx), kGenu);
    EXPECT_EQ(guest.reg(kRdx), kIneI);
    EXPECT_EQ(guest.reg(kRcx), kNtel);
    EXPECT_EQ(guest.rip(), 0x1002u);
    EXPECT_EQ(guest.exception(), -1);
}

TEST(Cpuid, FaultsInUserModeIfTheGuestAskedForIt)
{
    StateGuest guest;
    guest.set_supported_cpuid();
    EXPECT_TRUE(guest.wrmsr(0x140, 1));
    guest.instruction(0x1000, 2);
    EXPECT_TRUE(handle_cpuid(guest.vmx()).resumes());
    EXPECT_EQ(guest.exception(), -1);
    guest.set_cpl(3);
    guest.instruction(0x1000, 2);
    EXPECT_TRUE(handle_cpuid(guest.vmx()).resumes());
    EXPECT_EQ(guest.exception(), GP_VECTOR);
    EXPECT_EQ(guest.rip(), 0x1000u);
}

} // namespace
} // namespace minivmx::test
