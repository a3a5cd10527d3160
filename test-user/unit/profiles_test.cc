// SPDX-License-Identifier: GPL-2.0-only
//
// The shipped profiles, and the decoders of the capability MSRs against the values that another
// decoder read out of the same MSRs.
#include "support.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace minivmx {
namespace {

using test::CpuProfile;
using test::profile;
using test::shipped_profiles;

TEST(Profiles, AllShippedAreThere)
{
    const auto &all = shipped_profiles();
    const auto emulated =
        std::count_if(all.begin(), all.end(), [](const CpuProfile &p) { return p.emulated; });
    EXPECT_EQ(all.size() - static_cast<std::size_t>(emulated), 65u);
    EXPECT_EQ(emulated, 18);
    for (const CpuProfile &p : all) {
        EXPECT_FALSE(p.source.empty()) << p.name;
        EXPECT_TRUE(p.msr.present(MSR_IA32_VMX_BASIC)) << p.name;
    }
}

TEST(Profiles, FaultsAndAbsencesReadAsZero)
{
    const VmxMsrs &penryn = profile("core2_penryn_t9600").msr;
    EXPECT_FALSE(penryn.present(MSR_IA32_VMX_EPT_VPID_CAP));
    EXPECT_EQ(penryn[MSR_IA32_VMX_EPT_VPID_CAP], 0u);
    EXPECT_EQ(penryn[0x10], 0u);
    EXPECT_FALSE(penryn.present(0x10));
}

TEST(Profiles, BadJsonIsToldInASentence)
{
    EXPECT_THROW(profiles::parse_profiles("{", false), std::runtime_error);
    EXPECT_THROW(profiles::parse_profiles("{\"profiles\":[{}]}", false), std::runtime_error);
    try {
        profiles::parse_profiles(R"({"profiles":[{"name":"a","cpu":"b","vendor":"c","source":"d",
            "also":[],"cpuid1_eax":"0xzz","maxphyaddr":36,"msr":{}}]})",
                                 false);
        FAIL();
    } catch (const std::runtime_error &error) {
        EXPECT_TRUE(test::contains(error.what(), "CPU profile 1")) << error.what();
    }
}

class Decoded : public testing::TestWithParam<CpuProfile> {};

TEST_P(Decoded, AgreesWithTheOtherDecoder)
{
    const CpuProfile &p = GetParam();
    const auto theirs = [&](const char *name) { return p.decoded.at(name); };
    const VmxMsrs &msr = p.msr;

    const VmxBasic basic{msr[MSR_IA32_VMX_BASIC]};
    EXPECT_EQ(basic.revision(), theirs("revision"));
    EXPECT_EQ(basic.vmcs_size(), theirs("vmcs_size"));
    EXPECT_EQ(basic.true_controls(), theirs("true_ctls"));
    EXPECT_EQ(basic.error_code_optional(), theirs("no_errcode_check"));

    const VmxMisc misc{msr[MSR_IA32_VMX_MISC]};
    EXPECT_EQ(misc.preemption_timer_shift(), theirs("preempt_tsc_shift"));
    EXPECT_EQ(misc.cr3_targets(), theirs("cr3_targets"));

    const EptCapability ept{static_cast<u32>(msr[MSR_IA32_VMX_EPT_VPID_CAP])};
    EXPECT_EQ(ept.accessed_dirty(), theirs("ept_ad"));
    EXPECT_EQ(ept.pages_2m(), theirs("ept_2m"));
    EXPECT_EQ(ept.pages_1g(), theirs("ept_1g"));
    EXPECT_EQ(ept.walk_5_levels(), theirs("ept_5level"));

    const auto has = [&](const char *control) {
        const ControlBit *row = find_control(control);
        EXPECT_NE(row, nullptr) << control;
        return row != nullptr && allowed_settings(msr, row->field).may_be_1(row->mask());
    };
    // The other decoder looks at the secondary controls only where they can be activated.
    const std::pair<const char *, const char *> names[] = {
        {"vnmi", "virtual-nmis"},
        {"preemption_timer", "activate-vmx-preemption-timer"},
        {"posted_intr", "process-posted-interrupts"},
        {"tpr_shadow", "use-tpr-shadow"},
        {"msr_bitmap", "use-msr-bitmaps"},
        {"mtf", "monitor-trap-flag"},
        {"tertiary", "activate-tertiary-controls"},
        {"secondary", "activate-secondary-controls"},
        {"apic_access", "virtualize-apic-accesses"},
        {"ept", "enable-ept"},
        {"vpid", "enable-vpid"},
        {"unrestricted_guest", "unrestricted-guest"},
        {"apic_reg_virt", "apic-register-virtualization"},
        {"virt_intr_delivery", "virtual-interrupt-delivery"},
        {"ple", "pause-loop-exiting"},
        {"invpcid", "enable-invpcid"},
        {"vmfunc", "enable-vm-functions"},
        {"shadow_vmcs", "vmcs-shadowing"},
        {"pml", "enable-pml"},
        {"ept_ve", "ept-violation-ve"},
        {"xsaves", "enable-xsaves-xrstors"},
        {"mbec", "mode-based-execute-control-for-ept"},
        {"tsc_scaling", "use-tsc-scaling"},
        {"bus_lock_detection", "vmm-bus-lock-detection"},
        {"notify_vmexit", "instruction-timeout"},
    };
    for (const auto &[name, ours] : names)
        EXPECT_EQ(has(ours), theirs(name)) << name;
}

std::vector<CpuProfile> with_decoded()
{
    std::vector<CpuProfile> result;
    for (const CpuProfile &p : shipped_profiles()) {
        if (!p.decoded.empty())
            result.push_back(p);
    }
    return result;
}
INSTANTIATE_TEST_SUITE_P(RealCpus, Decoded, testing::ValuesIn(with_decoded()));

TEST(VmxMsrs, ReadsThroughAReaderThatMayFault)
{
    VmxMsrs msrs;
    msrs.set(MSR_IA32_VMX_MISC, 5);
    const MsrReader reader{[](void *, u32 msr, u64 *value) {
                               if (msr != MSR_IA32_VMX_BASIC && msr != MSR_IA32_FEATURE_CONTROL)
                                   return false;
                               *value = msr;
                               return true;
                           },
                           nullptr};
    msrs.read_all(reader);
    EXPECT_EQ(msrs[MSR_IA32_VMX_BASIC], 0x480u);
    EXPECT_EQ(msrs[MSR_IA32_FEATURE_CONTROL], 0x3au);
    EXPECT_FALSE(msrs.present(MSR_IA32_VMX_MISC)) << "an old value must not survive";
    EXPECT_EQ(msrs[MSR_IA32_VMX_MISC], 0u);
    msrs.remove(MSR_IA32_VMX_BASIC);
    EXPECT_FALSE(msrs.present(MSR_IA32_VMX_BASIC));
}

TEST(VmxMsrs, HaveNames)
{
    EXPECT_STREQ(msr_name(0x48b), "IA32_VMX_PROCBASED_CTLS2");
    EXPECT_STREQ(msr_name(0x493), "IA32_VMX_EXIT_CTLS2");
    EXPECT_STREQ(msr_name(0x480), "IA32_VMX_BASIC");
    EXPECT_STREQ(msr_name(0x3a), "IA32_FEATURE_CONTROL");
    EXPECT_STREQ(msr_name(0x494), "MSR");
}

TEST(CpuSignature, DecodesAsCpuidDoes)
{
    const CpuSignature haswell{0x000306c3};
    EXPECT_EQ(haswell.family(), 6u);
    EXPECT_EQ(haswell.model(), 60u);
    EXPECT_EQ(haswell.stepping(), 3u);
    const CpuSignature netburst{0x00000f4a};
    EXPECT_EQ(netburst.family(), 15u);
    EXPECT_EQ(netburst.model(), 4u);
    const CpuSignature zen{0x00a20f12};
    EXPECT_EQ(zen.family(), 0x19u);
    EXPECT_EQ(zen.model(), 0x21u);
    const CpuSignature zhaoxin{0x000307b0};
    EXPECT_EQ(zhaoxin.family(), 7u);
    EXPECT_EQ(zhaoxin.model(), 0x3bu);
    EXPECT_EQ(CpuSignature{0xf000f6f1}.without_reserved(), 0x000036f1u);
}

} // namespace
} // namespace minivmx
