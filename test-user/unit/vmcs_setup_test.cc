// SPDX-License-Identifier: GPL-2.0-only
//
// vmx_create_vcpu -> init_vmcs: what a fresh vCPU's VMCS holds, on every CPU we know and with every
// parameter. The simulated CPU accepts only fields it has; whether it would accept the words is
// asked of its capability MSRs.
#include <minivmx/control_shadow.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

namespace minivmx::test {
namespace {

struct Toggle {
    const char *name;
    bool Parameters::*member;
};

const Toggle kToggles[] = {
    {"vnmi", &Parameters::vnmi},
    {"preemption_timer", &Parameters::preemption_timer},
    {"ept", &Parameters::ept},
    {"vpid", &Parameters::vpid},
    {"unrestricted_guest", &Parameters::unrestricted_guest},
    {"flexpriority", &Parameters::flexpriority},
};

Parameters parameters(unsigned off_mask)
{
    Parameters params = default_parameters();
    params.report = 0;
    params.error_on_inconsistent_vmcs_config = false;
    for (unsigned i = 0; i < std::size(kToggles); i++)
        if (off_mask >> i & 1)
            params.*kToggles[i].member = false;
    return params;
}

std::string describe(const CpuProfile &profile, unsigned off_mask)
{
    std::string text = profile.name;
    for (unsigned i = 0; i < std::size(kToggles); i++)
        if (off_mask >> i & 1)
            text += std::string(" ") + kToggles[i].name + "=0";
    return text;
}

bool can_load(const CpuProfile &profile, Parameters params)
{
    Hardware hw;
    SetupLog log;
    return hardware_setup(profile.host(), params, hw, log).ok();
}

void expect_words_accepted(GuestMachine &guest, host_vcpu &vcpu)
{
    const VmxMsrs msrs = guest.machine.vmx_msrs();
    const u64 primary = guest.field(vcpu, CPU_BASED_VM_EXEC_CONTROL.encoding);
    for (const ControlField word :
         {ControlField::kPin, ControlField::kPrimary, ControlField::kSecondary, ControlField::kExit,
          ControlField::kEntry}) {
        if (word == ControlField::kSecondary && !(primary & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS))
            continue;
        const ControlWordInfo &info = control_word_info(word);
        const u64 value = guest.field(vcpu, info.vmcs_field);
        EXPECT_TRUE(true_allowed_settings(msrs, word).accepts(value))
            << info.name << " = 0x" << std::hex << value;
    }
}

// Every real and emulated CPU, every combination of the six parameters: creation succeeds wherever
// the module loads, the hardware would accept each word, and nothing was done that the architecture
// forbids.
TEST(InitVmcs, EveryCpuAcceptsItsWords)
{
    unsigned created = 0;
    for (const CpuProfile &profile : shipped_profiles()) {
        for (unsigned off = 0; off < 1u << std::size(kToggles); off++) {
            const Parameters params = parameters(off);
            if (!can_load(profile, params))
                continue;
            SCOPED_TRACE(describe(profile, off));
            GuestMachine guest(profile.host(), params);
            host_vcpu &vcpu = guest.create_vcpu();
            expect_words_accepted(guest, vcpu);
            EXPECT_EQ(guest.machine.log_text().find("VMWRITE"), std::string::npos)
                << guest.machine.log_text();
            created++;
            if (testing::Test::HasFailure())
                return;
        }
    }
    EXPECT_GT(created, 60u * 64u);
}

class Haswell : public testing::Test {
  protected:
    u64 word(unsigned off_mask, VmcsField32 field)
    {
        GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(off_mask));
        return guest.field(guest.create_vcpu(), field.encoding);
    }
    static constexpr unsigned kVnmi = 1, kPreemptionTimer = 2, kEpt = 4, kVpid = 8,
                              kUnrestricted = 16;
};

// The document's vmx_pin_based_exec_ctrl().
TEST_F(Haswell, PinWordFollowsItsParameters)
{
    const u64 all = word(0, PIN_BASED_VM_EXEC_CONTROL);
    EXPECT_EQ(all & PIN_BASED_VIRTUAL_NMIS, PIN_BASED_VIRTUAL_NMIS);
    EXPECT_EQ(word(kVnmi, PIN_BASED_VM_EXEC_CONTROL), all & ~PIN_BASED_VIRTUAL_NMIS);
    EXPECT_EQ(word(kPreemptionTimer, PIN_BASED_VM_EXEC_CONTROL),
              all & ~PIN_BASED_VMX_PREEMPTION_TIMER);
}

// The document's sections 2.6, 2.10 and 2.11: with EPT off these come back.
TEST_F(Haswell, WithoutEptPageTableChangesExit)
{
    const u32 paging =
        CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING | CPU_BASED_INVLPG_EXITING;
    EXPECT_EQ(word(0, CPU_BASED_VM_EXEC_CONTROL) & paging, 0u);
    EXPECT_EQ(word(kEpt, CPU_BASED_VM_EXEC_CONTROL) & paging, paging);
    EXPECT_EQ(word(kEpt, EXCEPTION_BITMAP) & bit32(PF_VECTOR), bit32(PF_VECTOR));
    EXPECT_EQ(word(0, EXCEPTION_BITMAP) & bit32(PF_VECTOR), 0u);
    EXPECT_EQ(word(kEpt, SECONDARY_VM_EXEC_CONTROL) &
                  (SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_UNRESTRICTED_GUEST),
              0u);
}

TEST_F(Haswell, SecondaryWordFollowsItsParameters)
{
    const u64 all = word(0, SECONDARY_VM_EXEC_CONTROL);
    EXPECT_EQ(word(kVpid, SECONDARY_VM_EXEC_CONTROL), all & ~SECONDARY_EXEC_ENABLE_VPID);
    EXPECT_EQ(word(kUnrestricted, SECONDARY_VM_EXEC_CONTROL),
              all & ~SECONDARY_EXEC_UNRESTRICTED_GUEST);
}

// Without an APIC in the kernel there is nothing to shadow: every CR8 access exits (the
// document's 2.12 to 2.14).
TEST_F(Haswell, WithoutApicCr8Exits)
{
    const u64 primary = word(0, CPU_BASED_VM_EXEC_CONTROL);
    EXPECT_EQ(primary & CPU_BASED_TPR_SHADOW, 0u);
    EXPECT_EQ(primary & CPU_BASED_CR8_LOAD_EXITING, CPU_BASED_CR8_LOAD_EXITING);
    EXPECT_EQ(primary & CPU_BASED_CR8_STORE_EXITING, CPU_BASED_CR8_STORE_EXITING);
}

struct DisabledExit {
    u64 capability;
    ControlField field;
    u32 cleared;
};

class DisableExits : public testing::TestWithParam<DisabledExit> {};

TEST_P(DisableExits, ClearsItsControls)
{
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(0));
    GuestMachine *const g = &guest;
    const u32 encoding = control_word_info(GetParam().field).vmcs_field;
    const u64 before = g->field(g->create_vcpu(), encoding);
    guest.destroy_vcpu(*guest.vm.vcpus.back());
    static_cast<kvm_vm *>(guest.vm.core)->created_vcpus = 0;

    kvm_enable_cap cap{};
    cap.cap = KVM_CAP_X86_DISABLE_EXITS;
    cap.args[0] = GetParam().capability;
    ASSERT_EQ(core_vm_enable_cap(guest.vm.core, &cap), 0);
    const u64 after = guest.field(guest.create_vcpu(), encoding);
    EXPECT_EQ(before & GetParam().cleared, GetParam().cleared);
    EXPECT_EQ(after, before & ~u64{GetParam().cleared});
}

INSTANTIATE_TEST_SUITE_P(
    All, DisableExits,
    testing::Values(DisabledExit{KVM_X86_DISABLE_EXITS_HLT, ControlField::kPrimary,
                                 CPU_BASED_HLT_EXITING},
                    DisabledExit{KVM_X86_DISABLE_EXITS_MWAIT, ControlField::kPrimary,
                                 CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING},
                    DisabledExit{KVM_X86_DISABLE_EXITS_PAUSE, ControlField::kSecondary,
                                 SECONDARY_EXEC_PAUSE_LOOP_EXITING}));

// KVM_DEBUGREG_WONT_EXIT clears MOV-DR exiting: the document's vmx_exec_control().
TEST(ExecControl, LoadedDebugRegistersDontExit)
{
    Hardware hw;
    hw.host.is_64bit = true;
    hw.config.cpu_based_exec_ctrl = CPU_BASED_MOV_DR_EXITING;
    VcpuControlInputs in{};
    EXPECT_EQ(vmx_exec_control(hw, in) & CPU_BASED_MOV_DR_EXITING, CPU_BASED_MOV_DR_EXITING);
    in.debugreg_wont_exit = true;
    EXPECT_EQ(vmx_exec_control(hw, in) & CPU_BASED_MOV_DR_EXITING, 0u);
}

// A 32-bit host has no CR8: its bits are neither set nor cleared.
TEST(ExecControl, ThirtyTwoBitHostsLeaveCr8Alone)
{
    Hardware hw;
    hw.host.is_64bit = false;
    hw.config.cpu_based_exec_ctrl = CPU_BASED_TPR_SHADOW | CPU_BASED_CR8_LOAD_EXITING;
    VcpuControlInputs in{};
    EXPECT_EQ(vmx_exec_control(hw, in) & (CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING),
              CPU_BASED_CR8_LOAD_EXITING);
}

TEST(ExecControl, EveryStepTellsItsRule)
{
    Hardware hw;
    hw.host.is_64bit = true;
    hw.config.cpu_based_exec_ctrl = CPU_BASED_HLT_EXITING | CPU_BASED_RDTSC_EXITING;
    VcpuControlInputs in{};
    in.hlt_in_guest = true;
    std::vector<RuleEvent> events;
    RuleSink sink{[](void *context, const RuleEvent &event) {
                      static_cast<std::vector<RuleEvent> *>(context)->push_back(event);
                  },
                  &events};
    const u32 word = vmx_exec_control(hw, in, &sink);

    // Replaying the steps gives the word: nothing changed it without saying so.
    u64 replayed = 0;
    for (const RuleEvent &event : events)
        replayed = event.set ? replayed | event.bits : replayed & ~event.bits;
    EXPECT_EQ(replayed, word);
    EXPECT_EQ(events.back().rule, Rule::kExitDisabled);
    EXPECT_EQ(events.back().bits, CPU_BASED_HLT_EXITING);
}

TEST(ControlsShadow, WritesOnlyOnChange)
{
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(0));
    host_vcpu &vcpu = guest.create_vcpu();
    loaded_vmcs &v = to_vmx(vcpu.core).vmcs01;
    core_vcpu_load(vcpu.core, 0);
    const u32 encoding = CPU_BASED_VM_EXEC_CONTROL.encoding;
    const u64 before = guest.machine.count_writes(encoding);
    const u64 reads = guest.machine.vmreads;

    exec_controls_set(v, exec_controls_get(v));
    exec_controls_clearbit<CPU_BASED_INTR_WINDOW_EXITING>(v);
    EXPECT_EQ(guest.machine.count_writes(encoding), before);
    exec_controls_setbit<CPU_BASED_INTR_WINDOW_EXITING>(v);
    exec_controls_setbit<CPU_BASED_INTR_WINDOW_EXITING>(v);
    EXPECT_EQ(guest.machine.count_writes(encoding), before + 1);
    EXPECT_EQ(guest.machine.field(encoding) & CPU_BASED_INTR_WINDOW_EXITING,
              CPU_BASED_INTR_WINDOW_EXITING);
    exec_controls_clearbit<CPU_BASED_INTR_WINDOW_EXITING>(v);
    EXPECT_EQ(guest.machine.count_writes(encoding), before + 2);
    EXPECT_EQ(guest.machine.vmreads, reads) << "a shadow exists so that no VMREAD is needed";
}

// SDM Vol. 3C, 25.11.1: a VMCS must not be active on two CPUs.
TEST(LoadedVmcs, MovesToAnotherCpuOnlyCleared)
{
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(0), 2);
    host_vcpu &vcpu = guest.create_vcpu();
    core_vcpu_load(vcpu.core, 0);
    EXPECT_EQ(guest.vmcs_of(vcpu).active_on, 0);
    guest.machine.this_cpu = 1;
    core_vcpu_load(vcpu.core, 1);
    EXPECT_EQ(guest.vmcs_of(vcpu).active_on, 1);
    EXPECT_EQ(vcpu.area.launched, 0u);
}

TEST(LoadedVmcs, LeavingVmxClearsWhatIsLoaded)
{
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(0));
    host_vcpu &a = guest.create_vcpu();
    host_vcpu &b = guest.create_vcpu();
    core_vcpu_load(a.core, 0);
    core_vcpu_load(b.core, 0);
    core_cpu_vmxoff();
    EXPECT_EQ(guest.vmcs_of(a).active_on, -1);
    EXPECT_EQ(guest.vmcs_of(b).active_on, -1);
    EXPECT_FALSE(guest.machine.cpus[0].in_vmx);
    ASSERT_EQ(core_cpu_vmxon(guest.regions[0]), 0);
    core_vcpu_load(a.core, 0);
    EXPECT_EQ(guest.vmcs_of(a).active_on, 0);
}

TEST(Vpid, EachVcpuHasItsOwnAndReturnsIt)
{
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(0));
    const u64 first = guest.field(guest.create_vcpu(), VIRTUAL_PROCESSOR_ID.encoding);
    const u64 second = guest.field(guest.create_vcpu(), VIRTUAL_PROCESSOR_ID.encoding);
    EXPECT_NE(first, 0u);
    EXPECT_NE(first, second);
    guest.destroy_vcpu(*guest.vm.vcpus.back());
    EXPECT_EQ(guest.field(guest.create_vcpu(), VIRTUAL_PROCESSOR_ID.encoding), second);
}

// Each allocation of a vCPU's creation fails in turn: -ENOMEM, and nothing leaks.
TEST(CreateVcpu, SurvivesEveryFailedAllocation)
{
    GuestMachine guest(sim::cpu("corei7_haswell_4770"), parameters(0));
    host_vcpu host;
    host.vm = &guest.vm;
    host.area.run = static_cast<kvm_run *>(host_page_alloc());
    const usize pages = guest.machine.pages.size(), allocations = guest.machine.allocations.size();
    int result = -ENOMEM;
    for (int left = 0; result == -ENOMEM && left < 50; left++) {
        guest.machine.allocations_left = left;
        result = core_vcpu_create(guest.vm.core, &host, &host.area, 0, &host.core);
        guest.machine.allocations_left = -1;
        if (result) {
            EXPECT_EQ(guest.machine.pages.size(), pages);
            // The VM's room for vCPUs stays.
            EXPECT_LE(guest.machine.allocations.size(), allocations + 1);
        }
    }
    ASSERT_EQ(result, 0);
    core_vcpu_destroy(host.core);
    EXPECT_EQ(guest.machine.pages.size(), pages);
    EXPECT_EQ(guest.machine.allocations.size(), allocations + 1);
    host_page_free(host.area.run);
}

} // namespace
} // namespace minivmx::test
