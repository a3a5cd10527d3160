// SPDX-License-Identifier: GPL-2.0-only
//
// The control words of a fresh vCPU (irqchip in user space, CPUID not set) on every shipped CPU,
// with every combination of parameters and disabled exits: the document's rules in two steps must
// end where kvm_intel 6.1's rules end.
#include "kvm_61_oracle.hpp"
#include "support.hpp"

#include <minivmx/vmcs_setup.hpp>

#include <gtest/gtest.h>

namespace minivmx {
namespace {

using test::combination;
using test::CpuProfile;
using test::Loaded;
using test::set_up;
using test::shipped_profiles;

constexpr u32 kMwait = 1; // KVM_X86_DISABLE_EXITS_MWAIT and its siblings
constexpr u32 kHlt = 2;
constexpr u32 kPause = 4;

/// A vCPU of a VM whose owner emulates the APIC and has told no CPUID.
VcpuControlInputs fresh_vcpu(const Hardware &hw, u32 disabled_exits)
{
    VcpuControlInputs in{};
    in.mwait_in_guest = (disabled_exits & kMwait) != 0;
    in.hlt_in_guest = (disabled_exits & kHlt) != 0;
    in.pause_in_guest = (disabled_exits & kPause) != 0 || hw.params.ple_gap == 0;
    in.has_vpid = hw.params.vpid;
    return in;
}

class FreshVcpu : public testing::TestWithParam<CpuProfile> {};

TEST_P(FreshVcpu, HasKvmIntelsWords)
{
    const HostDesc host = GetParam().host();
    for (unsigned number = 0; number < 128; number++) {
        const Parameters asked = combination(number);
        const Loaded s = set_up(host, asked);
        ASSERT_EQ(s.code, 0) << s.why;
        for (u32 disabled = 0; disabled < 8; disabled++) {
            const test::KvmWords kvm = test::kvm_61::vcpu(host, asked, disabled);
            const VcpuControlInputs in = fresh_vcpu(s.hardware, disabled);
            ASSERT_EQ(vmx_pin_based_exec_ctrl(s.hardware, in), kvm.pin) << number;
            ASSERT_EQ(vmx_exec_control(s.hardware, in), kvm.primary) << number << " " << disabled;
            ASSERT_EQ(vmx_secondary_exec_control(s.hardware, in), kvm.secondary)
                << number << " " << disabled;
            ASSERT_EQ(vmx_vmexit_ctrl(s.hardware), kvm.exit);
            ASSERT_EQ(vmx_vmentry_ctrl(s.hardware), kvm.entry);
        }
    }
}

// VM entry would refuse anything else: inside the TRUE MSRs' allowed settings, and without the
// combinations that SDM Vol. 3C, 27.2.1.1 forbids.
TEST_P(FreshVcpu, WordsAreAcceptedByTheHardware)
{
    const HostDesc host = GetParam().host();
    for (unsigned number = 0; number < 128; number++) {
        const Loaded s = set_up(host, combination(number));
        ASSERT_EQ(s.code, 0) << s.why;
        for (u32 disabled = 0; disabled < 8; disabled++) {
            const VcpuControlInputs in = fresh_vcpu(s.hardware, disabled);
            const u32 pin = vmx_pin_based_exec_ctrl(s.hardware, in);
            const u32 primary = vmx_exec_control(s.hardware, in);
            const u32 secondary = vmx_secondary_exec_control(s.hardware, in);
            const auto accepts = [&](ControlField field, u64 word) {
                return true_allowed_settings(host.msr, field).accepts(word);
            };
            ASSERT_TRUE(accepts(ControlField::kPin, pin));
            ASSERT_TRUE(accepts(ControlField::kPrimary, primary)) << std::hex << primary;
            ASSERT_TRUE((primary & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS) == 0 ||
                        accepts(ControlField::kSecondary, secondary));
            ASSERT_TRUE(accepts(ControlField::kExit, vmx_vmexit_ctrl(s.hardware)));
            ASSERT_TRUE(accepts(ControlField::kEntry, vmx_vmentry_ctrl(s.hardware)));

            const bool ept = (secondary & SECONDARY_EXEC_ENABLE_EPT) != 0;
            ASSERT_TRUE(ept || (secondary & SECONDARY_EXEC_UNRESTRICTED_GUEST) == 0);
            ASSERT_TRUE(ept || (secondary & SECONDARY_EXEC_ENABLE_PML) == 0);
            ASSERT_TRUE((pin & PIN_BASED_VIRTUAL_NMIS) != 0 ||
                        (primary & CPU_BASED_NMI_WINDOW_EXITING) == 0);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Shipped, FreshVcpu, testing::ValuesIn(shipped_profiles()));

} // namespace
} // namespace minivmx
