// SPDX-License-Identifier: GPL-2.0-only
//
// A failed requirement is a sentence: which control, which bit, which MSR and its value, and what
// that means for the user.
#include "support.hpp"

#include <gtest/gtest.h>

#include <set>

namespace minivmx {
namespace {

using test::contains;
using test::Loaded;
using test::negotiate;
using test::Negotiated;
using test::profile;
using test::set_up;

HostDesc haswell()
{
    return profile("corei7_haswell_4770").host();
}

std::string as_hex(u64 value)
{
    Text<32> text;
    text.put(hex(value, 16));
    return text.c_str();
}

TEST(MissingControl, EachRequiredBitHasItsOwnSentence)
{
    std::set<std::string> sentences;
    unsigned required = 0;
    for (const ControlBit &row : all_control_bits()) {
        if (row.use != ControlUse::kRequired)
            continue;
        required++;
        HostDesc host = haswell();
        test::forbid(host, row.field, row.mask());
        const Negotiated n = negotiate(host);
        EXPECT_EQ(n.code, -EIO) << row.slug;
        EXPECT_TRUE(contains(n.why, std::string("\"") + row.name + "\"")) << n.why;
        EXPECT_TRUE(contains(n.why, "bit " + std::to_string(row.bit) + " of the ")) << n.why;
        const ControlWordInfo &word = control_word_info(row.field);
        EXPECT_TRUE(contains(n.why, word.name)) << n.why;
        EXPECT_TRUE(contains(n.why, msr_name(word.msr))) << n.why;
        EXPECT_TRUE(contains(n.why, as_hex(host.msr[word.msr]))) << n.why;
        EXPECT_FALSE(contains(n.why, "...")) << "does not fit: " << n.why;
        EXPECT_TRUE(sentences.insert(n.why).second) << n.why;
    }
    EXPECT_EQ(required, 20u);
}

TEST(MissingControl, OptionalBitsMayBeMissing)
{
    for (const ControlBit &row : all_control_bits()) {
        if (row.use == ControlUse::kRequired)
            continue;
        HostDesc host = profile("AlderLake_02").host();
        test::forbid(host, row.field, row.mask());
        Parameters params = default_parameters();
        params.error_on_inconsistent_vmcs_config = false;
        EXPECT_EQ(negotiate(host, params).code, 0) << row.slug << negotiate(host, params).why;
    }
}

TEST(MissingControl, SeveralAreNamedTogether)
{
    HostDesc host = haswell();
    test::forbid(host, ControlField::kPin, 0x9);
    const Negotiated n = negotiate(host);
    EXPECT_TRUE(contains(n.why, "\"External-interrupt exiting\", \"NMI exiting\"")) << n.why;
    EXPECT_TRUE(contains(n.why, "bits 0 and 3 of the pin-based controls")) << n.why;
}

TEST(MissingControl, AMissingMsrIsCalledMissing)
{
    HostDesc host = haswell();
    host.msr.remove(MSR_IA32_VMX_EXIT_CTLS);
    const Negotiated n = negotiate(host);
    EXPECT_EQ(n.code, -EIO);
    EXPECT_TRUE(contains(n.why, "IA32_VMX_EXIT_CTLS (0x483) does not exist")) << n.why;
}

TEST(MissingControl, NoMsrAtAllIsAnErrorToo)
{
    HostDesc host = haswell();
    host.msr = VmxMsrs{};
    EXPECT_EQ(negotiate(host).code, -EIO);
}

TEST(NoVmx, CpuWithout)
{
    HostDesc host = haswell();
    host.has_vmx = false;
    const Loaded s = set_up(host);
    EXPECT_EQ(s.code, -EOPNOTSUPP);
    EXPECT_TRUE(contains(s.why, "no VMX on CPU 0 (GenuineIntel)")) << s.why;
}

TEST(NoVmx, LockedOffByFirmware)
{
    HostDesc host = haswell();
    host.msr.set(MSR_IA32_FEATURE_CONTROL, 1);
    const Loaded s = set_up(host);
    EXPECT_EQ(s.code, -EOPNOTSUPP);
    EXPECT_TRUE(contains(s.why, "VMX disabled by firmware")) << s.why;
    EXPECT_TRUE(contains(s.why, "IA32_FEATURE_CONTROL (0x3a) is 0x1, locked")) << s.why;
}

TEST(NoVmx, NeverLocked)
{
    HostDesc host = haswell();
    for (const u64 value : {u64{0}, u64{4}}) {
        host.msr.set(MSR_IA32_FEATURE_CONTROL, value);
        const Loaded s = set_up(host);
        EXPECT_EQ(s.code, -EOPNOTSUPP);
        EXPECT_TRUE(contains(s.why, "neither firmware nor kernel has locked it")) << s.why;
    }
}

TEST(NoVmx, FeatureControlMissing)
{
    HostDesc host = haswell();
    host.msr.remove(MSR_IA32_FEATURE_CONTROL);
    EXPECT_EQ(set_up(host).code, -EOPNOTSUPP);
    EXPECT_TRUE(contains(set_up(host).why, "can't be read")) << set_up(host).why;
}

TEST(NoVmx, MeasuredLaunchNeedsTheOtherBit)
{
    HostDesc host = haswell();
    host.in_smx = true;
    host.msr.set(MSR_IA32_FEATURE_CONTROL, 5);
    EXPECT_EQ(set_up(host).code, -EOPNOTSUPP);
    EXPECT_TRUE(contains(set_up(host).why, "bit 1 (VMX inside SMX) 0")) << set_up(host).why;
    host.msr.set(MSR_IA32_FEATURE_CONTROL, 3);
    EXPECT_EQ(set_up(host).code, 0);
    host.in_smx = false;
    EXPECT_EQ(set_up(host).code, -EOPNOTSUPP);
}

TEST(NoVmx, TheKernelTurnedItOff)
{
    HostDesc host = haswell();
    host.kernel_uses_vmx = false;
    EXPECT_EQ(set_up(host).code, -EOPNOTSUPP);
    EXPECT_TRUE(contains(set_up(host).why, "clearcpuid=vmx")) << set_up(host).why;
}

TEST(InUse, NamesTheCpuAndTheRemedy)
{
    Sentence why;
    const Status known = vmx_in_use(3, "kvm_intel", why);
    EXPECT_EQ(known.code(), -EBUSY);
    EXPECT_TRUE(contains(known.why(), "in use by another hypervisor")) << known.why();
    EXPECT_TRUE(contains(known.why(), "CPU 3")) << known.why();
    EXPECT_TRUE(contains(known.why(), "modprobe -r kvm_intel")) << known.why();
    const Status unknown = vmx_in_use(0, nullptr, why);
    EXPECT_TRUE(contains(unknown.why(), "unload its module")) << unknown.why();
}

// ---- CPUs that differ ----

struct Compared {
    int code;
    std::string why;
};

Compared compare(const HostDesc &first, HostDesc second, u32 number = 3)
{
    const Loaded s = set_up(first);
    EXPECT_EQ(s.code, 0) << s.why;
    second.cpu = number;
    SetupLog log;
    const Status status = check_processor_compatibility(s.hardware, second, log);
    return Compared{status.code(), status.why()};
}

TEST(CpusDiffer, EqualOnesDoNot)
{
    for (const test::CpuProfile &p : test::shipped_profiles()) {
        if (set_up(p.host()).code == 0) {
            EXPECT_EQ(compare(p.host(), p.host()).code, 0) << p.name;
        }
    }
}

TEST(CpusDiffer, EachNamedControlIsTold)
{
    for (const ControlBit &row : all_control_bits()) {
        HostDesc first = profile("AlderLake_02").host();
        const ControlWordInfo &word = control_word_info(row.field);
        if (!true_allowed_settings(first.msr, row.field).may_be_1(row.mask()))
            continue;
        HostDesc second = first;
        test::forbid(second, row.field, row.mask());
        const Compared c = compare(first, second);
        EXPECT_EQ(c.code, -EIO) << row.slug;
        EXPECT_TRUE(contains(c.why, "CPU 3 differs from CPU 0: ")) << c.why;
        EXPECT_TRUE(contains(c.why, std::string(word.slug) + " bit " + std::to_string(row.bit) +
                                        " (" + row.name + ") is absent, not available"))
            << c.why;
        EXPECT_FALSE(contains(c.why, "...")) << c.why;
    }
}

TEST(CpusDiffer, BitsWithoutANameMayDiffer)
{
    const HostDesc first = haswell();
    HostDesc second = first;
    second.msr.set(0x482, second.msr[0x482] | u64{1} << (32 + 18));
    second.msr.set(0x48e, second.msr[0x48e] | u64{1} << (32 + 18));
    EXPECT_EQ(compare(first, second).code, 0) << compare(first, second).why;
}

// Only the TRUE MSR tells that one CPU wants "Load debug controls" on and the other does not.
TEST(CpusDiffer, ABitThatMustBeOneOnOneCpu)
{
    HostDesc second = haswell();
    ASSERT_EQ(second.msr[MSR_IA32_VMX_TRUE_ENTRY_CTLS] & VM_ENTRY_LOAD_DEBUG_CONTROLS, 0u);
    second.msr.set(MSR_IA32_VMX_TRUE_ENTRY_CTLS,
                   second.msr[MSR_IA32_VMX_TRUE_ENTRY_CTLS] | VM_ENTRY_LOAD_DEBUG_CONTROLS);
    const Compared c = compare(haswell(), second);
    EXPECT_EQ(c.code, -EIO);
    EXPECT_TRUE(contains(c.why, "entry bit 2 (Load debug controls) is always on, not available"))
        << c.why;
}

TEST(CpusDiffer, OtherCapabilityMsrs)
{
    for (const u32 msr : {MSR_IA32_VMX_BASIC, MSR_IA32_VMX_MISC, MSR_IA32_VMX_EPT_VPID_CAP,
                          MSR_IA32_VMX_CR0_FIXED0, MSR_IA32_VMX_CR4_FIXED1}) {
        HostDesc second = haswell();
        second.msr.set(msr, second.msr[msr] ^ 0x40000);
        const Compared c = compare(haswell(), second);
        EXPECT_EQ(c.code, -EIO);
        EXPECT_TRUE(contains(c.why, msr_name(msr))) << c.why;
        EXPECT_TRUE(contains(c.why, "bit 18")) << c.why;
    }
}

TEST(CpusDiffer, AnErratumOfOneModelOnly)
{
    HostDesc second = haswell();
    second.signature.raw = 0x000106e5;
    const Compared c = compare(haswell(), second);
    EXPECT_EQ(c.code, -EIO);
    EXPECT_TRUE(contains(c.why, "Activate VMX-preemption timer") ||
                contains(c.why, "Load IA32_PERF_GLOBAL_CTRL"))
        << c.why;
}

TEST(CpusDiffer, VmxOffOnOneCpu)
{
    HostDesc second = haswell();
    second.msr.set(MSR_IA32_FEATURE_CONTROL, 1);
    const Compared c = compare(haswell(), second, 1);
    EXPECT_EQ(c.code, -EIO);
    EXPECT_TRUE(contains(c.why, "VMX disabled by firmware on CPU 1")) << c.why;
}

} // namespace
} // namespace minivmx
