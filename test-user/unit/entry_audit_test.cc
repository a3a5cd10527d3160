// SPDX-License-Identifier: GPL-2.0-only
//
// What is told of a VM entry that failed: to dmesg, and by MINIVMX_GET_ENTRY_AUDIT to the client.
// The simulated CPU enters whatever it is given; these tests play the failure and break the field.
#include <minivmx/audit.hpp>
#include <minivmx/entry_audit.hpp>
#include <minivmx/exit_name.hpp>

#include "support.hpp"
#include "vcpu_fixture.hpp"

#include <gtest/gtest.h>

#include <minivmx.h>

#include <array>

namespace minivmx::test {
namespace {

constexpr u64 kNotCanonical = 0x8000'0000'0000'0000;

class EntryAuditTest : public testing::Test {
  protected:
    // The first entry has things to prepare for which it lets its thread sleep; those that follow
    // don't.
    EntryAuditTest() : guest(sim::cpu("corei7_haswell_4770"), quiet()), vcpu(guest.create_vcpu())
    {
        run_well();
    }

    static Parameters quiet()
    {
        Parameters params = default_parameters();
        params.report = 0;
        return params;
    }

    u64 &current(u32 encoding) { return guest.machine.current_vmcs().fields[encoding]; }

    // The next KVM_RUN: `field` has `value` when the CPU looks, and the entry ends with `reason`,
    // an exit reason or (as `instruction_error`) that of VMLAUNCH.
    void run_broken(u32 field, u64 value, u32 reason, u32 instruction_error = 0)
    {
        guest.machine.on_vmenter = [=, this](host_vcpu &) -> u32 {
            current(field) = value;
            current(VM_EXIT_REASON.encoding) = reason;
            current(VM_INSTRUCTION_ERROR.encoding) = instruction_error;
            return instruction_error != 0;
        };
        ASSERT_EQ(guest.run(vcpu), 0);
    }
    void run_well()
    {
        guest.machine.on_vmenter = [this](host_vcpu &) -> u32 {
            current(VM_EXIT_REASON.encoding) = EXIT_REASON_HLT;
            return 0;
        };
        ASSERT_EQ(guest.run(vcpu), 0);
    }

    int ask(u32 room = EntryAudit::kRoom)
    {
        audit = {};
        audit.count = room;
        return core_get_entry_audit(vcpu.core, &audit, findings.data());
    }
    const minivmx_audit_finding *about(u32 field) const
    {
        for (u32 i = 0; i < audit.count; i++)
            if (findings[i].field == field)
                return &findings[i];
        return nullptr;
    }
    std::string log() { return guest.machine.log_text(); }

    GuestMachine guest;
    host_vcpu &vcpu;
    minivmx_entry_audit audit{};
    std::array<minivmx_audit_finding, EntryAudit::kRoom> findings{};
};

TEST_F(EntryAuditTest, ThereIsNoneBeforeAnEntryFails)
{
    EXPECT_EQ(ask(), -ENOENT);
    run_well();
    EXPECT_EQ(ask(), -ENOENT);
}

TEST_F(EntryAuditTest, NamesTheBrokenFieldAndItsValue)
{
    run_broken(GUEST_FS_BASE.encoding, kNotCanonical,
               EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry);
    ASSERT_EQ(ask(), 0);
    EXPECT_EQ(audit.exit_reason, 0x80000021u);
    EXPECT_EQ(audit.instruction_error, 0u);
    EXPECT_EQ(audit.violated, audit.count);
    const minivmx_audit_finding *finding = about(GUEST_FS_BASE.encoding);
    ASSERT_TRUE(finding);
    EXPECT_STREQ(finding->field_name, "GUEST_FS_BASE");
    EXPECT_STREQ(finding->clause, "27.3.1.2");
    EXPECT_EQ(finding->stage, u32{MINIVMX_AUDIT_GUEST});
    EXPECT_EQ(finding->flags, MINIVMX_AUDIT_HAS_VALUE);
    EXPECT_EQ(finding->value, kNotCanonical);
    EXPECT_NE(finding->rule[0], '\0');
    EXPECT_NE(finding->check[0], '\0');
}

TEST_F(EntryAuditTest, TellsNoHostStateToTheClient)
{
    run_broken(HOST_RIP.encoding, kNotCanonical | 0x1234, 0, 8);
    ASSERT_EQ(ask(), 0);
    EXPECT_EQ(audit.exit_reason, 0u);
    EXPECT_EQ(audit.instruction_error, 8u);
    const minivmx_audit_finding *finding = about(HOST_RIP.encoding);
    ASSERT_TRUE(finding);
    EXPECT_EQ(finding->flags, 0u);
    EXPECT_EQ(finding->value, 0u);
    EXPECT_EQ(finding->stage, u32{MINIVMX_AUDIT_HOST});
}

// Nor where physical memory of the host is.
TEST_F(EntryAuditTest, TellsNoHostAddressToTheClient)
{
    const u64 address = to_vmx(vcpu.core).vmcs01.phys;
    run_broken(MSR_BITMAP.encoding, address | 1, 0, 7);
    ASSERT_EQ(ask(), 0);
    const minivmx_audit_finding *finding = about(MSR_BITMAP.encoding);
    ASSERT_TRUE(finding);
    EXPECT_EQ(finding->value, 0u);
    for (u32 i = 0; i < audit.count; i++) {
        EXPECT_EQ(field_tells_of_host(findings[i].field),
                  !(findings[i].flags & MINIVMX_AUDIT_HAS_VALUE));
        EXPECT_EQ(std::string(findings[i].rule).find("0x"), std::string::npos);
    }
}

TEST_F(EntryAuditTest, NamesTheBitsOfAControlWord)
{
    const u64 pin = guest.field(vcpu, PIN_BASED_VM_EXEC_CONTROL.encoding);
    run_broken(PIN_BASED_VM_EXEC_CONTROL.encoding, pin & ~u64{PIN_BASED_NMI_EXITING}, 0, 7);
    ASSERT_EQ(ask(), 0);
    const minivmx_audit_finding *finding = about(PIN_BASED_VM_EXEC_CONTROL.encoding);
    ASSERT_TRUE(finding);
    EXPECT_EQ(finding->bits, u64{PIN_BASED_VIRTUAL_NMIS});
    EXPECT_NE(std::string(finding->bit_names).find("Virtual NMIs"), std::string::npos)
        << finding->bit_names;
}

// A client that gives too little room hears how much there should be, and gets nothing.
TEST_F(EntryAuditTest, SaysHowMuchRoomThereShouldBe)
{
    run_broken(GUEST_RFLAGS.encoding, u64{1} << 63,
               EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry);
    findings[0].field = 0xabcd;
    EXPECT_EQ(ask(0), -E2BIG);
    EXPECT_GT(audit.count, 0u);
    EXPECT_EQ(findings[0].field, 0xabcdu);
    EXPECT_EQ(ask(audit.count), 0);
}

// It belongs to the KVM_RUN that failed.
TEST_F(EntryAuditTest, IsOverWithTheNextRun)
{
    const u64 flags = guest.field(vcpu, GUEST_RFLAGS.encoding);
    run_broken(GUEST_RFLAGS.encoding, flags & ~u64{2},
               EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry);
    EXPECT_EQ(ask(), 0);
    EXPECT_EQ(ask(), 0); // as often as one likes
    guest.vmcs_of(vcpu).fields[GUEST_RFLAGS.encoding] = flags;
    run_well();
    EXPECT_EQ(ask(), -ENOENT);
}

TEST_F(EntryAuditTest, TellsDmesgInWords)
{
    guest.machine.log.clear();
    run_broken(GUEST_FS_BASE.encoding, kNotCanonical,
               EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry);
    EXPECT_NE(log().find("VM entry of vCPU 0 failed: exit reason 33"), std::string::npos) << log();
    EXPECT_NE(log().find("GUEST_FS_BASE"), std::string::npos) << log();
    EXPECT_NE(log().find("27.3.1.2"), std::string::npos) << log();
}

TEST_F(EntryAuditTest, TellsDmesgNoHostState)
{
    guest.machine.log.clear();
    run_broken(HOST_RIP.encoding, 0x8000'1234'5678'9abc, 0, 8);
    EXPECT_NE(log().find("VM-instruction error 8, invalid host-state fields"), std::string::npos)
        << log();
    EXPECT_NE(log().find("HOST_RIP"), std::string::npos) << log();
    EXPECT_EQ(log().find("56789abc"), std::string::npos) << log();
}

// The CPU says no, and the audit doesn't see why: that is told, too.
TEST_F(EntryAuditTest, AdmitsThatItFindsNothing)
{
    const u64 flags = guest.field(vcpu, GUEST_RFLAGS.encoding);
    guest.machine.log.clear();
    run_broken(GUEST_RFLAGS.encoding, flags, EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry);
    ASSERT_EQ(ask(), 0) << log();
    EXPECT_EQ(audit.violated, 0u) << log();
    EXPECT_EQ(audit.count, 0u);
    EXPECT_NE(log().find("finds no check"), std::string::npos) << log();
}

TEST_F(EntryAuditTest, KeepsWhatItHasRoomFor)
{
    // Nothing of a VMCS of ones is right.
    guest.machine.on_vmenter = [this](host_vcpu &) -> u32 {
        for (auto &[encoding, value] : guest.machine.current_vmcs().fields)
            if (vmcs_kind(encoding) == VmcsKind::kGuest)
                value = ~u64{0};
        current(VM_EXIT_REASON.encoding) = EXIT_REASON_INVALID_STATE | kExitReasonFailedEntry;
        return 0;
    };
    ASSERT_EQ(guest.run(vcpu), 0);
    ASSERT_EQ(ask(), 0);
    EXPECT_EQ(audit.count, EntryAudit::kRoom);
    EXPECT_GT(audit.violated, audit.count);
    EXPECT_NE(log().find("more"), std::string::npos) << log();
}

TEST(InstructionErrors, AreThoseOfVmEntries)
{
    EXPECT_STREQ(instruction_error_name(7), "invalid control fields");
    EXPECT_STREQ(instruction_error_name(8), "invalid host-state fields");
    EXPECT_EQ(instruction_error_name(12), nullptr); // VMREAD's and VMWRITE's
}

} // namespace
} // namespace minivmx::test
