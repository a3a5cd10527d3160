// SPDX-License-Identifier: GPL-2.0-only
//
// setup_vmcs_config() and hardware_setup() on every shipped CPU, with every combination of the
// parameters that matter, against kvm_intel's behaviour and against the raw MSRs.
#include "kvm_61_oracle.hpp"
#include "support.hpp"

#include <minivmx/capabilities.hpp>

#include <gtest/gtest.h>

namespace minivmx {
namespace {

using test::combination;
using test::CpuProfile;
using test::Loaded;
using test::negotiate;
using test::Negotiated;
using test::profile;
using test::set_up;
using test::shipped_profiles;

/// The words obey the hardware. Recomputed from the raw MSRs: bits must be inside allowed-1, and
/// hold every allowed-0 bit of the TRUE MSR (or of the plain one where there is no TRUE MSR).
void expect_accepted_by_hardware(const HostDesc &host, const vmcs_config &conf)
{
    const bool has_true = (host.msr[0x480] >> 55 & 1) != 0;
    const struct {
        u64 word;
        u32 msr;
        u32 true_msr;
    } words[] = {
        {conf.pin_based_exec_ctrl, 0x481, 0x48d}, {conf.cpu_based_exec_ctrl, 0x482, 0x48e},
        {conf.vmexit_ctrl, 0x483, 0x48f},         {conf.vmentry_ctrl, 0x484, 0x490},
        {conf.cpu_based_2nd_exec_ctrl, 0x48b, 0},
    };
    for (const auto &w : words) {
        const u64 must = host.msr[has_true && w.true_msr != 0 ? w.true_msr : w.msr] & 0xffffffff;
        EXPECT_EQ(w.word & ~(host.msr[w.msr] >> 32), 0u) << std::hex << "MSR " << w.msr;
        if (w.msr != 0x48b || (conf.cpu_based_exec_ctrl & 0x80000000) != 0) {
            EXPECT_EQ(must & ~w.word, 0u) << std::hex << "MSR " << w.msr;
        }
    }
    EXPECT_EQ(conf.cpu_based_3rd_exec_ctrl & ~host.msr[0x492], 0u);
    if ((conf.cpu_based_exec_ctrl & 0x80000000) == 0) {
        EXPECT_EQ(conf.cpu_based_2nd_exec_ctrl, 0u);
    }
    if ((conf.cpu_based_exec_ctrl & 0x20000) == 0) {
        EXPECT_EQ(conf.cpu_based_3rd_exec_ctrl, 0u);
    }
}

class EveryCpu : public testing::TestWithParam<CpuProfile> {};

TEST_P(EveryCpu, NegotiatesWhatKvmIntelDoes)
{
    const HostDesc host = GetParam().host();
    const test::KvmWords kvm = test::kvm_61::config(host);
    const Negotiated ours = negotiate(host);
    ASSERT_EQ(ours.code != 0, kvm.refused) << ours.why;
    if (kvm.refused)
        return;
    // The rules that the document has in setup_vmcs_config() and 6.1 elsewhere.
    u64 primary = kvm.primary;
    if ((primary & CPU_BASED_TPR_SHADOW) != 0)
        primary &= ~u64{CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING};
    if ((kvm.secondary & SECONDARY_EXEC_ENABLE_EPT) != 0)
        primary &= ~u64{CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING |
                        CPU_BASED_INVLPG_EXITING};
    EXPECT_EQ(ours.config.pin_based_exec_ctrl, kvm.pin);
    EXPECT_EQ(ours.config.cpu_based_exec_ctrl, primary);
    EXPECT_EQ(ours.config.cpu_based_2nd_exec_ctrl, kvm.secondary);
    EXPECT_EQ(ours.config.cpu_based_3rd_exec_ctrl, kvm.tertiary);
    EXPECT_EQ(ours.capability.ept, kvm.ept);
    EXPECT_EQ(ours.capability.vpid, kvm.vpid);
    EXPECT_EQ(ours.config.misc, host.msr[0x485]);
    const u32 model = host.signature.model();
    const bool erratum = host.signature.family() == 6 &&
                         (model == 26 || model == 30 || model == 37 || model == 44 || model == 46);
    EXPECT_EQ(ours.config.vmexit_ctrl, erratum ? kvm.exit & ~u64{0x1000} : kvm.exit);
    EXPECT_EQ(ours.config.vmentry_ctrl, erratum ? kvm.entry & ~u64{0x2000} : kvm.entry);
}

TEST_P(EveryCpu, ObeysItsMsrsInEveryVariant)
{
    for (const bool is_64bit : {true, false}) {
        for (const bool enlightened : {true, false}) {
            for (const bool sgx : {true, false}) {
                HostDesc host = GetParam().host();
                host.is_64bit = is_64bit;
                host.enlightened_vmcs = enlightened;
                host.has_sgx = sgx;
                const Negotiated n = negotiate(host);
                if (n.code == 0)
                    expect_accepted_by_hardware(host, n.config);
                else
                    EXPECT_GT(n.why.size(), 40u);
            }
        }
    }
}

TEST_P(EveryCpu, BasicsAreTheMsrs)
{
    const HostDesc host = GetParam().host();
    const Negotiated n = negotiate(host);
    if (n.code != 0)
        GTEST_SKIP() << n.why;
    const u64 basic = host.msr[MSR_IA32_VMX_BASIC];
    EXPECT_EQ(n.config.size, basic >> 32 & 0x1fff);
    EXPECT_EQ(n.config.order, 0u);
    EXPECT_EQ(n.config.revision_id, basic & 0x7fffffff);
    EXPECT_EQ(n.config.basic_cap, basic >> 32 & ~u64{0x1fff});
}

TEST_P(EveryCpu, ParametersComeOutAsKvmIntels)
{
    for (const u32 tsc_khz : {0u, 400000u, 2000000u, 5000000u}) {
        HostDesc host = GetParam().host();
        host.tsc_khz = tsc_khz;
        const test::KvmWords kvm = test::kvm_61::config(host);
        if (kvm.refused)
            return;
        for (unsigned number = 0; number < 128; number++) {
            const Parameters asked = combination(number);
            const Loaded s = set_up(host, asked);
            ASSERT_EQ(s.code, 0) << s.why;
            const test::kvm_61::Knobs k = test::kvm_61::knobs(host, kvm, asked);
            EXPECT_EQ(s.params.vnmi, k.vnmi);
            EXPECT_EQ(s.params.preemption_timer, k.preemption_timer);
            EXPECT_EQ(s.params.ept, k.ept);
            EXPECT_EQ(s.params.vpid, k.vpid);
            EXPECT_EQ(s.params.unrestricted_guest, k.unrestricted_guest);
            EXPECT_EQ(s.params.flexpriority, k.flexpriority);
            EXPECT_EQ(s.params.ple_gap, k.ple_gap);
            if (testing::Test::HasFailure())
                FAIL() << "combination " << number << ", TSC " << tsc_khz;
        }
    }
}

// What is off although it was asked for has a reason, and only that.
TEST_P(EveryCpu, ReasonsMatchTheParameters)
{
    for (unsigned number = 0; number < 128; number++) {
        const Loaded s = set_up(GetParam().host(), combination(number));
        if (s.code != 0)
            return;
        for (unsigned i = 1; i < kParameterCount; i++) {
            const Parameter parameter = static_cast<Parameter>(i);
            const bool lost = parameter_on(s.hardware.asked, parameter) &&
                              !parameter_on(s.hardware.params, parameter);
            EXPECT_EQ(lost, s.hardware.why_off[i] != nullptr) << parameter_name(parameter);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shipped, EveryCpu, testing::ValuesIn(shipped_profiles()));

// ---- One rule at a time ----

HostDesc haswell()
{
    return profile("corei7_haswell_4770").host();
}

HostDesc modern()
{
    return profile("AlderLake_02").host();
}

TEST(SetupVmcsConfig, ClearsCr8ExitingWithTprShadow)
{
    const Negotiated with = negotiate(haswell());
    EXPECT_EQ(with.config.cpu_based_exec_ctrl & 0x180000, 0u);
    HostDesc host = haswell();
    test::forbid(host, ControlField::kPrimary, CPU_BASED_TPR_SHADOW);
    const Negotiated without = negotiate(host);
    ASSERT_EQ(without.code, 0) << without.why;
    EXPECT_EQ(without.config.cpu_based_exec_ctrl & 0x180000, 0x180000u);
}

TEST(SetupVmcsConfig, WithoutTprShadowThereIsNoApicVirtualization)
{
    HostDesc host = modern();
    ASSERT_NE(negotiate(host).config.cpu_based_2nd_exec_ctrl & 0x300, 0u);
    test::forbid(host, ControlField::kPrimary, CPU_BASED_TPR_SHADOW);
    const Negotiated n = negotiate(host);
    ASSERT_EQ(n.code, 0) << n.why;
    EXPECT_EQ(n.config.cpu_based_2nd_exec_ctrl & 0x310, 0u);
    EXPECT_EQ(n.config.pin_based_exec_ctrl & PIN_BASED_POSTED_INTR, 0u)
        << "posted interrupts need virtual-interrupt delivery";
}

TEST(SetupVmcsConfig, PostedInterruptsNeedInterruptDelivery)
{
    HostDesc host = modern();
    ASSERT_NE(negotiate(host).config.pin_based_exec_ctrl & PIN_BASED_POSTED_INTR, 0u);
    test::forbid(host, ControlField::kSecondary, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY);
    EXPECT_EQ(negotiate(host).config.pin_based_exec_ctrl & PIN_BASED_POSTED_INTR, 0u);
}

TEST(SetupVmcsConfig, Cr3AndInvlpgExitOnlyWithoutEpt)
{
    EXPECT_EQ(negotiate(haswell()).config.cpu_based_exec_ctrl & 0x18200, 0u);
    EXPECT_EQ(negotiate(profile("core2_penryn_t9600").host()).config.cpu_based_exec_ctrl & 0x18200,
              0x18200u);
}

TEST(SetupVmcsConfig, EnclsExitingOnlyWithSgx)
{
    HostDesc host = profile("corei3_cnl").host();
    test::forbid(host, ControlField::kSecondary, 0);
    host.msr.set(0x48b, host.msr[0x48b] | u64{SECONDARY_EXEC_ENCLS_EXITING} << 32);
    host.has_sgx = true;
    EXPECT_NE(negotiate(host).config.cpu_based_2nd_exec_ctrl & SECONDARY_EXEC_ENCLS_EXITING, 0u);
    host.has_sgx = false;
    EXPECT_EQ(negotiate(host).config.cpu_based_2nd_exec_ctrl & SECONDARY_EXEC_ENCLS_EXITING, 0u);
}

TEST(SetupVmcsConfig, TertiaryControlsComeFromTheir64BitMsr)
{
    HostDesc host = modern();
    host.msr.set(0x482, host.msr[0x482] | u64{CPU_BASED_ACTIVATE_TERTIARY_CONTROLS} << 32);
    host.msr.set(0x492, 0xff);
    const Negotiated n = negotiate(host);
    ASSERT_EQ(n.code, 0) << n.why;
    EXPECT_EQ(n.config.cpu_based_3rd_exec_ctrl, TERTIARY_EXEC_IPI_VIRT);
    test::forbid(host, ControlField::kPrimary, CPU_BASED_ACTIVATE_TERTIARY_CONTROLS);
    EXPECT_EQ(negotiate(host).config.cpu_based_3rd_exec_ctrl, 0u);
}

// ---- The 32-bit host ----

TEST(SetupVmcsConfig32, HasNoCr8AndNoLongMode)
{
    HostDesc host = haswell();
    host.is_64bit = false;
    const Negotiated n = negotiate(host);
    ASSERT_EQ(n.code, 0) << n.why;
    EXPECT_EQ(n.config.cpu_based_exec_ctrl & 0x180000, 0u);
    EXPECT_EQ(n.config.vmexit_ctrl & VM_EXIT_HOST_ADDR_SPACE_SIZE, 0u);
    EXPECT_EQ(n.config.vmentry_ctrl & VM_ENTRY_IA32E_MODE, 0u);
    EXPECT_NE(n.config.cpu_based_exec_ctrl & CPU_BASED_TPR_SHADOW, 0u);
}

TEST(SetupVmcsConfig32, TprShadowNeedsApicAccesses)
{
    HostDesc host = haswell();
    host.is_64bit = false;
    test::forbid(host, ControlField::kSecondary, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES);
    EXPECT_EQ(negotiate(host).config.cpu_based_exec_ctrl & CPU_BASED_TPR_SHADOW, 0u);
    host.is_64bit = true;
    EXPECT_NE(negotiate(host).config.cpu_based_exec_ctrl & CPU_BASED_TPR_SHADOW, 0u);
}

TEST(SetupVmcsConfig32, TakesCpusThatOnlyKnow32BitAddresses)
{
    HostDesc host = haswell();
    host.msr.set(0x480, host.msr[0x480] | u64{1} << 48);
    EXPECT_EQ(negotiate(host).code, -EIO);
    host.is_64bit = false;
    EXPECT_EQ(negotiate(host).code, 0);
}

TEST(SetupVmcsConfig32, DoesNotNeedWhatA64BitHostNeeds)
{
    HostDesc host = haswell();
    test::forbid(host, ControlField::kPrimary, 0x180000);
    test::forbid(host, ControlField::kExit, VM_EXIT_HOST_ADDR_SPACE_SIZE);
    test::forbid(host, ControlField::kEntry, VM_ENTRY_IA32E_MODE);
    EXPECT_EQ(negotiate(host).code, -EIO);
    host.is_64bit = false;
    EXPECT_EQ(negotiate(host).code, 0) << negotiate(host).why;
}

// ---- Hyper-V's enlightened VMCS ----

TEST(EnlightenedVmcs, DropsControlsWithoutFields)
{
    HostDesc host = modern();
    host.msr.set(0x482, host.msr[0x482] | u64{CPU_BASED_ACTIVATE_TERTIARY_CONTROLS} << 32);
    host.msr.set(0x492, TERTIARY_EXEC_IPI_VIRT);
    const Negotiated plain = negotiate(host);
    host.enlightened_vmcs = true;
    const Negotiated n = negotiate(host);
    ASSERT_EQ(n.code, 0) << n.why;
    EXPECT_EQ(plain.config.pin_based_exec_ctrl & ~n.config.pin_based_exec_ctrl, 0xc0u);
    EXPECT_EQ(plain.config.cpu_based_exec_ctrl & ~n.config.cpu_based_exec_ctrl, 0x20000u);
    EXPECT_EQ(n.config.cpu_based_2nd_exec_ctrl & 0x2026701, 0u);
    EXPECT_EQ(plain.config.cpu_based_2nd_exec_ctrl & ~u64{0x2026701},
              n.config.cpu_based_2nd_exec_ctrl);
    EXPECT_EQ(n.config.vmexit_ctrl & 0x401000, 0u);
    EXPECT_EQ(n.config.vmentry_ctrl & 0x2000, 0u);
}

// ---- Errata ----

TEST(Errata, PerfGlobalCtrlModels)
{
    for (const u32 model : {26u, 30u, 37u, 44u, 46u}) {
        HostDesc host = haswell();
        host.signature.raw = 0x600 | (model & 0xf) << 4 | (model >> 4) << 16;
        ASSERT_EQ(host.signature.model(), model);
        const Negotiated n = negotiate(host);
        ASSERT_EQ(n.code, 0) << n.why;
        EXPECT_EQ(n.config.vmentry_ctrl & VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL, 0u) << model;
        EXPECT_EQ(n.config.vmexit_ctrl & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, 0u) << model;
        EXPECT_TRUE(test::contains(n.warnings, "erratum")) << n.warnings;
    }
}

TEST(Errata, PerfGlobalCtrlSparesOtherModelsAndFamilies)
{
    HostDesc host = haswell();
    for (const u32 signature : {0x000106d0u, 0x00020660u, 0x000f06a0u | 0xf00u}) {
        host.signature.raw = signature;
        const Negotiated n = negotiate(host);
        EXPECT_NE(n.config.vmexit_ctrl & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, 0u);
        EXPECT_EQ(n.warnings, "");
    }
}

TEST(Errata, BrokenPreemptionTimers)
{
    HostDesc host = modern();
    ASSERT_NE(negotiate(host).config.pin_based_exec_ctrl & PIN_BASED_VMX_PREEMPTION_TIMER, 0u);
    for (const u32 signature : {0x000206e6u, 0x00020652u, 0x00020655u, 0x000106e5u, 0x000106a0u,
                                0x000106a1u, 0x000106a4u, 0x000106a5u, 0x000306a8u}) {
        host.signature.raw = signature | 0xf000c000; // reserved bits don't count
        const Loaded s = set_up(host);
        ASSERT_EQ(s.code, 0) << s.why;
        EXPECT_EQ(s.hardware.config.pin_based_exec_ctrl & PIN_BASED_VMX_PREEMPTION_TIMER, 0u)
            << std::hex << signature;
        EXPECT_FALSE(s.params.preemption_timer);
    }
    for (const u32 signature : {0x000206e7u, 0x000306a9u, 0x000106a2u}) {
        host.signature.raw = signature;
        EXPECT_NE(negotiate(host).config.pin_based_exec_ctrl & PIN_BASED_VMX_PREEMPTION_TIMER, 0u)
            << std::hex << signature;
    }
}

// ---- The preemption timer's rate ----

HostDesc with_timer(u32 tsc_khz, u32 shift)
{
    HostDesc host = modern();
    host.tsc_khz = tsc_khz;
    host.msr.set(0x485, (host.msr[0x485] & ~u64{0x1f}) | shift);
    return host;
}

TEST(PreemptionTimer, RateLimitIsATenthOf2To32)
{
    EXPECT_TRUE(set_up(with_timer(429496, 0)).params.preemption_timer);
    EXPECT_FALSE(set_up(with_timer(429497, 0)).params.preemption_timer);
    EXPECT_TRUE(set_up(with_timer(3400000, 5)).params.preemption_timer);
    EXPECT_TRUE(set_up(with_timer(3400000, 3)).params.preemption_timer);
    EXPECT_FALSE(set_up(with_timer(3400000, 2)).params.preemption_timer);
}

TEST(PreemptionTimer, UnknownTscCountsAs5Ghz)
{
    EXPECT_TRUE(set_up(with_timer(0, 4)).params.preemption_timer);
    EXPECT_FALSE(set_up(with_timer(0, 3)).params.preemption_timer);
}

TEST(PreemptionTimer, VeryFastTscDoesNotOverflow)
{
    EXPECT_FALSE(set_up(with_timer(~0u, 3)).params.preemption_timer);
    EXPECT_TRUE(set_up(with_timer(~0u, 31)).params.preemption_timer);
}

// ---- Contradictions ----

TEST(Inconsistent, EptCapabilityWithoutEpt)
{
    HostDesc host = haswell();
    test::forbid(host, ControlField::kSecondary,
                 SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST);
    const Negotiated strict = negotiate(host);
    EXPECT_EQ(strict.code, -EIO);
    EXPECT_TRUE(test::contains(strict.why, "Enable EPT")) << strict.why;
    EXPECT_TRUE(test::contains(strict.why, "0x48c")) << strict.why;
    EXPECT_TRUE(test::contains(strict.why, "error_on_inconsistent_vmcs_config")) << strict.why;

    Parameters params = default_parameters();
    params.error_on_inconsistent_vmcs_config = false;
    const Negotiated document = negotiate(host, params);
    ASSERT_EQ(document.code, 0) << document.why;
    EXPECT_EQ(document.capability.ept, 0u);
    EXPECT_NE(document.capability.vpid, 0u);
    EXPECT_TRUE(test::contains(document.warnings, "Enable EPT")) << document.warnings;
    EXPECT_FALSE(test::contains(document.warnings, "error_on_inconsistent")) << document.warnings;
}

TEST(Inconsistent, VpidCapabilityWithoutVpid)
{
    HostDesc host = haswell();
    test::forbid(host, ControlField::kSecondary, SECONDARY_EXEC_ENABLE_VPID);
    EXPECT_EQ(negotiate(host).code, -EIO);
    EXPECT_TRUE(test::contains(negotiate(host).why, "Enable VPID"));

    Parameters params = default_parameters();
    params.error_on_inconsistent_vmcs_config = false;
    const Negotiated document = negotiate(host, params);
    ASSERT_EQ(document.code, 0) << document.why;
    EXPECT_EQ(document.capability.vpid, 0u);
    EXPECT_NE(document.capability.ept, 0u);
}

TEST(Inconsistent, EntryAndExitPairs)
{
    const struct {
        u32 entry, exit;
    } pairs[] = {
        {0x2000, 0x1000},    {0x4000, 0x80000},    {0x8000, 0x200000},
        {0x10000, 0x800000}, {0x40000, 0x2000000},
    };
    Parameters lax = default_parameters();
    lax.error_on_inconsistent_vmcs_config = false;
    for (const auto &pair : pairs) {
        for (const bool at_entry : {true, false}) {
            HostDesc host = modern();
            host.msr.set(0x484, host.msr[0x484] | u64{0x7e000} << 32);
            host.msr.set(0x483, host.msr[0x483] | u64{0x3fc1000} << 32);
            ASSERT_EQ(negotiate(host).code, 0) << negotiate(host).why;
            if (at_entry)
                test::forbid(host, ControlField::kExit, pair.exit);
            else
                test::forbid(host, ControlField::kEntry, pair.entry);
            const Negotiated strict = negotiate(host);
            EXPECT_EQ(strict.code, -EIO);
            EXPECT_TRUE(test::contains(
                strict.why, find_control(ControlField::kEntry, lowest_bit(pair.entry))->name))
                << strict.why;

            const Negotiated result = negotiate(host, lax);
            ASSERT_EQ(result.code, 0) << result.why;
            EXPECT_EQ(result.config.vmentry_ctrl & pair.entry, 0u);
            EXPECT_EQ(result.config.vmexit_ctrl & pair.exit, 0u);
            EXPECT_TRUE(test::contains(result.warnings, "neither is used")) << result.warnings;
        }
    }
}

// No CPU is known to do this; the negotiated words would fail every VM entry.
TEST(Inconsistent, ABitThatMustStayOnButARuleClears)
{
    HostDesc host = haswell();
    host.msr.set(0x48e, host.msr[0x48e] | CPU_BASED_CR3_LOAD_EXITING);
    const Negotiated n = negotiate(host);
    EXPECT_EQ(n.code, -EIO);
    EXPECT_TRUE(test::contains(n.why, "CR3-load exiting")) << n.why;
    EXPECT_TRUE(test::contains(n.why, "IA32_VMX_TRUE_PROCBASED_CTLS")) << n.why;
}

// ---- IA32_VMX_BASIC ----

TEST(VmxBasicChecks, VmcsSize)
{
    HostDesc host = haswell();
    const u64 basic = host.msr[0x480] & ~(u64{0x1fff} << 32);
    host.msr.set(0x480, basic | u64{4097} << 32);
    EXPECT_EQ(negotiate(host).code, -EIO);
    EXPECT_TRUE(test::contains(negotiate(host).why, "4096 bytes")) << negotiate(host).why;
    host.msr.set(0x480, basic);
    EXPECT_EQ(negotiate(host).code, -EIO);
    host.msr.set(0x480, basic | u64{1} << 32);
    EXPECT_EQ(negotiate(host).code, 0);
    host.msr.set(0x480, basic | u64{4096} << 32);
    EXPECT_EQ(negotiate(host).code, 0);
}

TEST(VmxBasicChecks, MemoryType)
{
    for (u64 type = 0; type < 16; type++) {
        HostDesc host = haswell();
        host.msr.set(0x480, (host.msr[0x480] & ~(u64{0xf} << 50)) | type << 50);
        EXPECT_EQ(negotiate(host).code, type == 6 ? 0 : -EIO) << type;
    }
}

// ---- Parameters ----

TEST(Parameters, DefaultsAreKvmIntels)
{
    const Parameters p = default_parameters();
    EXPECT_TRUE(p.vnmi && p.preemption_timer && p.ept && p.vpid && p.unrestricted_guest);
    EXPECT_TRUE(p.flexpriority && p.eptad && p.pml && p.error_on_inconsistent_vmcs_config);
    EXPECT_FALSE(p.dump_invalid_vmcs);
    EXPECT_EQ(p.ple_gap, 128u);
    EXPECT_EQ(p.ple_window, 4096u);
}

TEST(Parameters, ImpossibleCombinationsAreCorrectedWithAMessage)
{
    Parameters p = default_parameters();
    p.ept = false;
    const Loaded s = set_up(modern(), p);
    ASSERT_EQ(s.code, 0);
    EXPECT_FALSE(s.params.unrestricted_guest || s.params.eptad || s.params.pml);
    EXPECT_TRUE(test::contains(s.warnings, "parameter unrestricted_guest is off: it needs ept"));
    EXPECT_TRUE(test::contains(s.warnings, "parameter eptad is off: it needs ept"));
    EXPECT_TRUE(test::contains(s.warnings, "parameter pml is off: it needs ept"));
}

TEST(Parameters, WhatTheHardwareLacksOnlyReadsBackAsOff)
{
    const Loaded s = set_up(profile("core2_penryn_t9600").host());
    ASSERT_EQ(s.code, 0);
    EXPECT_FALSE(s.params.ept || s.params.vpid || s.params.unrestricted_guest || s.params.eptad);
    EXPECT_EQ(s.params.ple_gap, 0u);
    EXPECT_EQ(s.params.ple_window, 0u);
    EXPECT_EQ(s.warnings, "");
}

TEST(Parameters, EptNeedsItsCapabilities)
{
    const struct {
        unsigned bit;
        const char *word;
    } needs[] = {{6, "4-level"}, {14, "write-back"}, {26, "INVEPT"}};
    for (const auto &need : needs) {
        HostDesc host = modern();
        host.msr.set(0x48c, host.msr[0x48c] & ~bit64(need.bit));
        const Loaded s = set_up(host);
        ASSERT_EQ(s.code, 0) << s.why;
        EXPECT_FALSE(s.params.ept);
        const char *why = s.hardware.why_off[static_cast<unsigned>(Parameter::kEpt)];
        ASSERT_NE(why, nullptr);
        EXPECT_TRUE(test::contains(why, need.word)) << why;
    }
}

TEST(Parameters, VpidNeedsItsCapabilities)
{
    HostDesc host = modern();
    host.msr.set(0x48c, host.msr[0x48c] & ~bit64(32));
    EXPECT_FALSE(set_up(host).params.vpid);
    host = modern();
    host.msr.set(0x48c, host.msr[0x48c] & ~(bit64(41) | bit64(42)));
    EXPECT_FALSE(set_up(host).params.vpid);
    host = modern();
    host.msr.set(0x48c, host.msr[0x48c] & ~bit64(41));
    EXPECT_TRUE(set_up(host).params.vpid);
}

TEST(Parameters, VnmiNeedsTheNmiWindow)
{
    HostDesc host = modern();
    test::forbid(host, ControlField::kPrimary, CPU_BASED_NMI_WINDOW_EXITING);
    const Loaded s = set_up(host);
    ASSERT_EQ(s.code, 0) << s.why;
    EXPECT_FALSE(s.params.vnmi);
}

TEST(Parameters, WithoutEptTheGuestNeedsNx)
{
    HostDesc host = modern();
    host.has_nx = false;
    EXPECT_EQ(set_up(host).code, 0);
    Parameters p = default_parameters();
    p.ept = false;
    const Loaded s = set_up(host, p);
    EXPECT_EQ(s.code, -EOPNOTSUPP);
    EXPECT_TRUE(test::contains(s.why, "NX")) << s.why;
}

TEST(Parameters, AFailureLeavesThemAlone)
{
    HostDesc host = modern();
    host.has_vmx = false;
    Parameters p = default_parameters();
    EXPECT_EQ(set_up(host, p).code, -EOPNOTSUPP);
    EXPECT_TRUE(p.ept);
}

} // namespace
} // namespace minivmx
