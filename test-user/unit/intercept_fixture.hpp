// SPDX-License-Identifier: GPL-2.0-only
//
// A vCPU whose client asks for intercepts; the guest is a list of exits.
#pragma once

#include <minivmx/intercept_controls.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

namespace minivmx::test {

inline Parameters quiet()
{
    Parameters params = default_parameters();
    params.report = 0;
    return params;
}

class Intercept : public testing::Test {
  protected:
    explicit Intercept(const char *cpu = "corei7_skylake_x", Parameters params = quiet())
        : guest(sim::cpu(cpu), params), vcpu(guest.create_vcpu())
    {
        guest.machine.on_vmenter = [this](host_vcpu &) { return play(); };
    }

    // One exit each, the last one repeats; `fields` are what the CPU says of it.
    struct Exit {
        u32 reason;
        std::map<u32, u64> fields{};
    };
    u32 play()
    {
        auto &fields = guest.machine.current_vmcs().fields;
        injected.push_back(static_cast<u32>(fields[VM_ENTRY_INTR_INFO_FIELD.encoding]));
        primary.push_back(static_cast<u32>(fields[CPU_BASED_VM_EXEC_CONTROL.encoding]));
        secondary.push_back(static_cast<u32>(fields[SECONDARY_VM_EXEC_CONTROL.encoding]));
        fields[VM_ENTRY_INTR_INFO_FIELD.encoding] &= ~u64{INTR_INFO_VALID};
        fields[IDT_VECTORING_INFO_FIELD.encoding] = 0;
        fields[VM_EXIT_INTR_INFO.encoding] = 0;
        fields[EXIT_QUALIFICATION.encoding] = 0;
        fields[VMX_INSTRUCTION_INFO.encoding] = 0;
        fields[VM_EXIT_INSTRUCTION_LEN.encoding] = 2;
        const Exit exit =
            script.empty() ? Exit{EXIT_REASON_HLT} : script[std::min(entry, script.size() - 1)];
        fields[VM_EXIT_REASON.encoding] = exit.reason;
        for (const auto &[field, value] : exit.fields)
            fields[field] = value;
        entry++;
        return 0;
    }

    // The guest's next exits.
    void exits(std::vector<Exit> next)
    {
        script = std::move(next);
        entry = 0;
    }

    int ask(const minivmx_intercepts &asked, const std::vector<minivmx_port_range> &ports = {},
            const std::vector<minivmx_msr_range> &msrs = {})
    {
        minivmx_intercepts copy = asked;
        if (!ports.empty())
            copy.port_count = static_cast<u32>(ports.size());
        if (!msrs.empty())
            copy.msr_count = static_cast<u32>(msrs.size());
        core_vcpu_load(vcpu.core, 0);
        const int result = core_set_intercepts(vcpu.core, &copy, ports.data(), msrs.data());
        core_vcpu_put(vcpu.core);
        return result;
    }
    int ask_controls(u64 controls)
    {
        minivmx_intercepts asked{};
        asked.controls = controls;
        return ask(asked);
    }
    int ask_exceptions(u32 exceptions)
    {
        minivmx_intercepts asked{};
        asked.exceptions = exceptions;
        return ask(asked);
    }

    const minivmx_exit_intercept &facts() { return *MINIVMX_INTERCEPT_FACTS(vcpu.area.run); }
    minivmx_exit_intercept &answer() { return *MINIVMX_INTERCEPT_FACTS(vcpu.area.run); }
    // Runs until the client is asked.
    void expect_question(u64 control, u32 reason)
    {
        ASSERT_EQ(guest.run(vcpu), 0);
        ASSERT_EQ(vcpu.area.run->exit_reason, u32{MINIVMX_EXIT_INTERCEPT});
        EXPECT_EQ(facts().control, control);
        EXPECT_EQ(facts().exit_reason, reason);
        EXPECT_EQ(facts().answer, u32{MINIVMX_ANSWER_PROCEED});
    }
    void expect_halt()
    {
        ASSERT_EQ(guest.run(vcpu), 0);
        EXPECT_EQ(vcpu.area.run->exit_reason, u32{KVM_EXIT_HLT});
    }

    u64 field(u32 encoding) { return guest.field(vcpu, encoding); }
    void set(u32 encoding, u64 value) { guest.vmcs_of(vcpu).fields[encoding] = value; }
    u32 primary_now() { return static_cast<u32>(field(CPU_BASED_VM_EXEC_CONTROL.encoding)); }
    u32 secondary_now() { return static_cast<u32>(field(SECONDARY_VM_EXEC_CONTROL.encoding)); }
    u64 &reg(Gpr gpr) { return vcpu.area.regs[gpr]; }
    u64 rip()
    {
        kvm_regs regs{};
        core_vcpu_load(vcpu.core, 0);
        EXPECT_EQ(core_get_regs(vcpu.core, &regs), 0);
        core_vcpu_put(vcpu.core);
        return regs.rip;
    }
    bool msr_exits(u32 msr, bool write)
    {
        const auto *bits = static_cast<const u8 *>(to_vmx(vcpu.core).msr_bitmap);
        const u32 at = (write ? 2048 : 0) + (msr >> 31 ? 1024 : 0);
        return bits[at + (msr & 0x1fff) / 8] >> (msr & 7) & 1;
    }
    void use_cpuid()
    {
        kvm_cpuid_entry2 basic{}, more{}, xsave{};
        basic.function = 1;
        basic.ecx = bit32(26) | bit32(30); // XSAVE, RDRAND
        more.function = 7;
        more.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        more.ebx = bit32(10) | bit32(18); // INVPCID, RDSEED
        more.ecx = bit32(2) | bit32(5);   // UMIP, WAITPKG
        xsave.function = 0xd;
        xsave.index = 1;
        xsave.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        xsave.eax = bit32(3); // XSAVES
        const kvm_cpuid_entry2 entries[] = {basic, more, xsave};
        core_vcpu_load(vcpu.core, 0);
        ASSERT_EQ(core_set_cpuid2(vcpu.core, entries, 3), 0);
        core_vcpu_put(vcpu.core);
    }

    GuestMachine guest;
    host_vcpu &vcpu;
    std::vector<Exit> script;
    std::vector<u32> injected, primary, secondary;
    usize entry = 0;
};

} // namespace minivmx::test
