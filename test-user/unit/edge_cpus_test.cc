// SPDX-License-Identifier: GPL-2.0-only
//
// CPUs that once surprised somebody.
#include "support.hpp"

#include <minivmx/capabilities.hpp>

#include <gtest/gtest.h>

namespace minivmx {
namespace {

using test::Loaded;
using test::profile;
using test::set_up;

TEST(EdgeCpus, ConroeHasNoSecondaryControlsNoVirtualNmisNoTrueMsrs)
{
    const Loaded s = set_up(profile("Conroe").host());
    ASSERT_EQ(s.code, 0) << s.why;
    const vmcs_config &c = s.hardware.config;
    EXPECT_FALSE(cpu_has_secondary_exec_ctrls(c));
    EXPECT_EQ(c.cpu_based_2nd_exec_ctrl, 0u);
    EXPECT_FALSE(s.params.vnmi);
    EXPECT_FALSE(s.params.ept);
    EXPECT_FALSE(s.params.flexpriority);
    EXPECT_FALSE(VmxBasic{s.hardware.host.msr[MSR_IA32_VMX_BASIC]}.true_controls());
    EXPECT_EQ(c.cpu_based_exec_ctrl & 0x18200, 0x18200u) << "CR3 and INVLPG exits stay";
}

TEST(EdgeCpus, TunnelCreekHasNeitherSecondaryControlsNorPerfGlobalCtrl)
{
    HostDesc host = profile("TunnelCreek").host();
    EXPECT_EQ(host.max_phys_bits, 32u);
    for (const bool is_64bit : {false, true}) {
        host.is_64bit = is_64bit;
        const Loaded s = set_up(host);
        ASSERT_EQ(s.code, 0) << s.why;
        EXPECT_FALSE(cpu_has_secondary_exec_ctrls(s.hardware.config));
        EXPECT_EQ(s.hardware.config.size, 1024u);
        EXPECT_EQ(s.hardware.config.vmexit_ctrl & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, 0u);
        EXPECT_FALSE(s.params.ept || s.params.vpid || s.params.flexpriority);
        EXPECT_TRUE(s.params.vnmi);
    }
}

TEST(EdgeCpus, YorkfieldHasSecondaryControlsButNoEpt)
{
    const Loaded s = set_up(profile("Yorkfield").host());
    ASSERT_EQ(s.code, 0) << s.why;
    const vmcs_config &c = s.hardware.config;
    EXPECT_TRUE(cpu_has_secondary_exec_ctrls(c));
    EXPECT_TRUE(cpu_has_vmx_virtualize_apic_accesses(c));
    EXPECT_FALSE(cpu_has_vmx_ept(c));
    EXPECT_TRUE(s.params.flexpriority);
    EXPECT_FALSE(s.params.ept || s.params.vpid || s.params.unrestricted_guest);
    EXPECT_EQ(s.hardware.capability.ept, 0u);
}

TEST(EdgeCpus, DunningtonHasA2048ByteVmcs)
{
    // It shares its MSRs with Yorkfield: the Xeon E7450 of that entry.
    const test::CpuProfile &p = profile("Yorkfield");
    ASSERT_EQ(p.also.size(), 1u);
    EXPECT_TRUE(test::contains(p.also[0], "E7450"));
    const Loaded s = set_up(p.host());
    EXPECT_EQ(s.hardware.config.size, 2048u);
    EXPECT_EQ(s.hardware.config.order, 0u);
}

TEST(EdgeCpus, ZhaoxinHasEptButNoPreemptionTimer)
{
    const Loaded s = set_up(profile("6640MA").host());
    ASSERT_EQ(s.code, 0) << s.why;
    EXPECT_TRUE(s.params.ept);
    EXPECT_FALSE(s.params.preemption_timer);
    EXPECT_FALSE(cpu_has_vmx_preemption_timer(s.hardware.config));
    EXPECT_STRNE(s.hardware.host.vendor, "GenuineIntel");
}

TEST(EdgeCpus, LakefieldsCoresDiffer)
{
    const Loaded big = set_up(profile("Lakefield#core-type-0").host());
    ASSERT_EQ(big.code, 0) << big.why;
    HostDesc small = profile("Lakefield#core-type-1").host();
    small.cpu = 4;
    SetupLog log;
    const Status status = check_processor_compatibility(big.hardware, small, log);
    EXPECT_EQ(status.code(), -EIO);
    EXPECT_TRUE(test::contains(status.why(), "CPU 4 differs from CPU 0")) << status.why();
}

TEST(EdgeCpus, LynnfieldHasEptButNoUnrestrictedGuest)
{
    const Loaded s = set_up(profile("corei5_lynnfield_750").host());
    ASSERT_EQ(s.code, 0) << s.why;
    EXPECT_TRUE(s.params.ept);
    EXPECT_FALSE(s.params.unrestricted_guest);
    EXPECT_FALSE(s.params.preemption_timer) << "its timer is on the list of broken ones";
    EXPECT_EQ(s.hardware.config.vmexit_ctrl & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, 0u);
}

TEST(EdgeCpus, EveryShippedCpuIsTaken)
{
    for (const test::CpuProfile &p : test::shipped_profiles()) {
        const Loaded s = set_up(p.host());
        EXPECT_EQ(s.code, 0) << p.name << ": " << s.why;
    }
}

} // namespace
} // namespace minivmx
