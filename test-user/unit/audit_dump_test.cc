// SPDX-License-Identifier: GPL-2.0-only
//
// A dump that the core itself prints is read back by the tool as the VMCS that it was.
#include "vcpu_fixture.hpp"

#include <audit/audit_report.hpp>
#include <audit/vmcs_dump.hpp>

#include <minivmx/vmcs_setup.hpp>

#include <profiles.hpp>

#include <gtest/gtest.h>

namespace minivmx::test {
namespace {

using tool::AuditReport;

Parameters dumping()
{
    Parameters params = default_parameters();
    params.report = 0;
    params.dump_invalid_vmcs = true;
    return params;
}

/// 64-bit mode with paging, which every CPU can enter.
void enter_long_mode(core_vcpu *vcpu)
{
    kvm_sregs s;
    core_vcpu_load(vcpu, sim::Machine::current().this_cpu);
    ASSERT_EQ(core_get_sregs(vcpu, &s), 0);
    s.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_ET | X86_CR0_PG;
    s.cr3 = 0x1000;
    s.cr4 = X86_CR4_PAE;
    s.efer = EFER_LME | EFER_LMA;
    for (kvm_segment *segment : {&s.ds, &s.es, &s.fs, &s.gs, &s.ss})
        *segment = kvm_segment{.base = 0,
                               .limit = ~0u,
                               .selector = 0x10,
                               .type = 3,
                               .present = 1,
                               .dpl = 0,
                               .db = 1,
                               .s = 1,
                               .l = 0,
                               .g = 1,
                               .avl = 0,
                               .unusable = 0,
                               .padding = 0};
    s.cs = s.ds;
    s.cs.selector = 8;
    s.cs.type = 11;
    s.cs.db = 0;
    s.cs.l = 1;
    ASSERT_EQ(core_set_sregs(vcpu, &s), 0);
    core_vcpu_put(vcpu);
}

/// A vCPU runs until its first VM entry, is dumped as it stands there, and then halts.
std::string dump_at_first_entry(GuestMachine &guest, bool long_mode)
{
    host_vcpu &vcpu = guest.create_vcpu();
    if (long_mode)
        enter_long_mode(vcpu.core);
    guest.machine.on_vmenter = [](host_vcpu &entered) {
        dump_vmcs(to_vmx(entered.core));
        auto &fields = sim::Machine::current().current_vmcs().fields;
        fields[VM_EXIT_REASON.encoding] = EXIT_REASON_HLT;
        fields[VM_EXIT_INSTRUCTION_LEN.encoding] = 1;
        return 0u;
    };
    EXPECT_EQ(guest.run(vcpu), 0);
    return guest.machine.log_text();
}

bool can_load(const HostDesc &host, Parameters params)
{
    Hardware hw;
    SetupLog log;
    return hardware_setup(host, params, hw, log).ok();
}

/// What is read back is what the VMCS held; and on every CPU that we know the vCPU passes all
/// checks, none of which lacks anything.
void expect_clean(const HostDesc &host, bool long_mode)
{
    GuestMachine guest(host, dumping());
    const tool::VmcsDumps dumps =
        tool::parse_vmcs_dumps("log", dump_at_first_entry(guest, long_mode));
    ASSERT_EQ(dumps.dumps.size(), 1u);
    const AuditReport report = tool::audit_dumps("log", dumps, {});
    EXPECT_EQ(report.result(), tool::AuditResult::kClean) << tool::audit_text(report);
    auto &fields = guest.vmcs_of(*guest.vm.vcpus[0]).fields;
    for (const auto &[encoding, value] : dumps.dumps[0].fields) {
        if (vmcs_kind(encoding) == VmcsKind::kExitInfo || encoding == GUEST_RIP.encoding)
            continue; // these move on
        EXPECT_EQ(value, fields[encoding]) << vmcs_field_name(encoding);
    }
}

TEST(AuditDump, OurOwnDumpsAreCompleteAndValid)
{
    unsigned tested = 0;
    for (const profiles::CpuProfile &profile : profiles::shipped_profiles()) {
        const u32 allowed = static_cast<u32>(profile.msr[MSR_IA32_VMX_PROCBASED_CTLS2] >> 32);
        // Without EPT the guest's own page tables can't be used, so nothing is entered.
        if (!can_load(profile.host(), dumping()) || !(allowed & SECONDARY_EXEC_ENABLE_EPT))
            continue;
        SCOPED_TRACE(profile.name);
        expect_clean(profile.host(), true);
        // Real mode, as it is after RESET, is entered only by unrestricted guests.
        if (allowed & SECONDARY_EXEC_UNRESTRICTED_GUEST)
            expect_clean(profile.host(), false);
        tested++;
    }
    EXPECT_GT(tested, 60u);
}

} // namespace
} // namespace minivmx::test
