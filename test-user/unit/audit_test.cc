// SPDX-License-Identifier: GPL-2.0-only
//
// The audit of a VM entry as a whole: what it says, and what it says when it does not know.
#include "audit_fixture.hpp"

#include <gtest/gtest.h>

#include <random>

namespace minivmx::test {
namespace {

TEST(Audit, AValidVmcsIsSilent)
{
    AuditImage image = valid_image();
    AuditSummary summary;
    EXPECT_TRUE(image.audit(&summary).empty());
    EXPECT_EQ(summary.held, audit_check_count());
    EXPECT_EQ(summary.violated + summary.not_checkable, 0u);
}

TEST(Audit, ChecksAreWellFormed)
{
    std::set<std::string> names;
    for (const AuditCheck *check : all_checks()) {
        SCOPED_TRACE(check->name);
        EXPECT_TRUE(names.insert(check->name).second) << "is there twice";
        EXPECT_EQ(find_audit_check(check->name), check);
        EXPECT_NE(vmcs_field_name(check->field), nullptr);
        EXPECT_EQ(std::string(check->sdm).substr(0, 3), "27.");
        EXPECT_NE(std::string(check->rule).find(" must "), std::string::npos) << check->rule;
        // The longest sentence that it can make.
        const AuditFinding worst{check, AuditVerdict::kViolated, ~u64{0}, 0x5555555555555555, 4095,
                                 {}};
        EXPECT_FALSE(sentence(worst).ends_with("...")) << sentence(worst);
    }
    EXPECT_EQ(find_audit_check("no-such-check"), nullptr);
}

TEST(Audit, AFindingTellsFieldValueBitsRuleAndClause)
{
    AuditImage image = valid_image();
    image[GUEST_CS_AR_BYTES] = 0xa092;
    const auto found = image.audit();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].finding.value, 0xa092u);
    EXPECT_EQ(found[0].finding.bits, 0xfu);
    EXPECT_EQ(found[0].finding.check->stage, AuditStage::kGuest);
    EXPECT_EQ(sentence(found[0].finding),
              "guest-cs-type: GUEST_CS_AR_BYTES = 0xa092, type (bits 3:0); the type of CS must be "
              "9, 11, 13 or 15 (accessed code); 3 is possible with unrestricted guest (SDM Vol. "
              "3C, 27.3.1.2)");
}

TEST(Audit, ControlBitsHaveTheirNames)
{
    AuditImage image = valid_image();
    image.msr.set(MSR_IA32_VMX_TRUE_PINBASED_CTLS, u64{0x51} << 32);
    const auto found = image.audit();
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].finding.bits, u64{PIN_BASED_NMI_EXITING | PIN_BASED_VIRTUAL_NMIS});
    EXPECT_NE(sentence(found[0].finding).find("NMI exiting (bit 3), Virtual NMIs (bit 5)"),
              std::string::npos)
        << sentence(found[0].finding);
}

TEST(Audit, HostValuesAreNotForClients)
{
    AuditImage image = valid_image();
    image[HOST_FS_BASE] = 0x800012345000;
    image[MSR_BITMAP] = 0xabc001;
    for (const Found &f : image.audit()) {
        EXPECT_EQ(sentence(f.finding, false).find("0x"), std::string::npos) << f.name;
        EXPECT_NE(sentence(f.finding, true).find("0x"), std::string::npos) << f.name;
    }
    for (u32 field : {HOST_CR3.encoding, EPT_POINTER.encoding, VMCS_LINK_POINTER.encoding,
                      VM_ENTRY_MSR_LOAD_ADDR.encoding, PID_POINTER_TABLE.encoding})
        EXPECT_TRUE(field_tells_of_host(field)) << vmcs_field_name(field);
    for (u32 field : {GUEST_CR3.encoding, TSC_OFFSET.encoding, EOI_EXIT_BITMAP2.encoding,
                      CPU_BASED_VM_EXEC_CONTROL.encoding})
        EXPECT_FALSE(field_tells_of_host(field)) << vmcs_field_name(field);
}

TEST(Audit, AMissingFieldIsNeverPassed)
{
    AuditImage image = valid_image();
    image.fields.erase(VMCS_LINK_POINTER.encoding);
    AuditSummary summary;
    const auto found = image.audit(&summary);
    EXPECT_EQ(names_of(found, AuditVerdict::kNotCheckable),
              (std::set<std::string>{"link-pointer-address", "link-pointer-revision",
                                     "link-pointer-not-current"}));
    EXPECT_EQ(summary.not_checkable, 3u);
    for (const Found &f : found) {
        EXPECT_EQ(f.finding.missing.kind, AuditInput::Kind::kField);
        EXPECT_EQ(f.finding.missing.number, VMCS_LINK_POINTER.encoding);
    }
}

TEST(Audit, AnUnknownCpuMakesChecksNotCheckable)
{
    AuditImage image = valid_image();
    AuditSource source = image.source();
    source.cpu = AuditCpu{};
    source.memory = nullptr;
    const auto found = AuditImage::audit(source);
    EXPECT_TRUE(names_of(found, AuditVerdict::kViolated).empty());
    const auto unknown = names_of(found, AuditVerdict::kNotCheckable);
    for (const char *name : {"pin-must-be-1", "guest-cr0-fixed", "host-efer-reserved",
                             "eptp-memory-type", "host-size-in-legacy-mode"})
        EXPECT_TRUE(unknown.contains(name)) << name;
    // Small addresses are within any width, and low ones canonical everywhere.
    EXPECT_FALSE(unknown.contains("msr-bitmap"));
    EXPECT_FALSE(unknown.contains("guest-fs-base-canonical"));
}

TEST(Audit, WidthsThatAreNotKnown)
{
    AuditImage image = valid_image();
    image.cpu.physical_bits = image.cpu.linear_bits = 0;
    image.msr.remove(MSR_IA32_VMX_CR4_FIXED1);
    image[MSR_BITMAP] = bit64(40);    // possible
    image[GUEST_CR3] = bit64(52);     // beyond any width
    image[GUEST_FS_BASE] = bit64(50); // canonical with 57 bits
    image[GUEST_GS_BASE] = bit64(57); // nowhere
    image[GUEST_RIP] = bit64(47);     // fits both
    const auto found = image.audit();
    EXPECT_EQ(names_of(found, AuditVerdict::kViolated),
              (std::set<std::string>{"guest-cr3-reserved", "guest-gs-base-canonical"}));
    EXPECT_EQ(names_of(found, AuditVerdict::kNotCheckable),
              (std::set<std::string>{"msr-bitmap", "guest-fs-base-canonical", "guest-cr4-fixed",
                                     "host-cr4-fixed"}));
    // The CPUs that may use 5-level paging are those that have such addresses.
    image.msr.set(MSR_IA32_VMX_CR4_FIXED1, 0x3767ff);
    EXPECT_TRUE(
        names_of(image.audit(), AuditVerdict::kViolated).contains("guest-fs-base-canonical"));
    image.msr.set(MSR_IA32_VMX_CR4_FIXED1, 0x3777ff);
    EXPECT_FALSE(
        names_of(image.audit(), AuditVerdict::kViolated).contains("guest-fs-base-canonical"));
}

TEST(Audit, AnMsrLoadAreaIsCheckedEntryByEntry)
{
    AuditImage image = valid_image();
    const AuditMsrEntry entries[] = {
        {MSR_STAR, 0, 0}, {0x802, 0, 0}, {MSR_LSTAR, 7, 0}, {0x803, 0, 0}};
    image[VM_ENTRY_MSR_LOAD_COUNT] = std::size(entries);
    image[VM_ENTRY_MSR_LOAD_ADDR] = 0x9000;
    image.memory[0x9000].resize(sizeof(entries));
    std::memcpy(image.memory[0x9000].data(), entries, sizeof(entries));
    AuditSummary summary;
    const auto found = image.audit(&summary);
    std::vector<std::string> violated;
    for (const Found &f : found)
        if (f.finding.verdict == AuditVerdict::kViolated)
            violated.push_back(f.name + " " + std::to_string(f.finding.entry));
    EXPECT_EQ(violated, (std::vector<std::string>{"msr-load-reserved 2", "msr-load-x2apic 1",
                                                  "msr-load-x2apic 3"}));
    EXPECT_EQ(summary.violated, 2u);
}

TEST(Audit, FieldsHaveNames)
{
    u32 encoding = 0;
    ASSERT_TRUE(find_vmcs_field("GUEST_CS_AR_BYTES", &encoding));
    EXPECT_EQ(encoding, GUEST_CS_AR_BYTES.encoding);
    EXPECT_STREQ(vmcs_field_name(encoding), "GUEST_CS_AR_BYTES");
    EXPECT_EQ(vmcs_field_name(0x7ffe), nullptr);
    EXPECT_FALSE(find_vmcs_field("GUEST_CS", &encoding));
}

/// Values near what the checks look for, besides random ones.
u64 some_value(std::mt19937_64 &random)
{
    switch (random() % 5) {
    case 0:
        return random();
    case 1:
        return bit64(random() % 64);
    case 2:
        return ~bit64(random() % 64);
    case 3:
        return random() % 256;
    default:
        return 0;
    }
}

TEST(Audit, RandomFieldsNeverConfuseIt)
{
    std::mt19937_64 random(4);
    for (unsigned round = 0; round < 2000; round++) {
        AuditImage image = valid_image();
        for (auto &[encoding, value] : image.fields)
            if (random() % 4 == 0)
                value = some_value(random);
        if (round % 3 == 0)
            std::erase_if(image.fields, [&](const auto &) { return random() % 8 == 0; });
        image.cpu.physical_bits = static_cast<u32>(random() % 80);
        image.cpu.linear_bits = static_cast<u32>(random() % 80);
        image[VM_ENTRY_MSR_LOAD_COUNT] = random() % 4;
        AuditSummary summary;
        for (const Found &f : image.audit(&summary)) {
            EXPECT_FALSE(sentence(f.finding).empty());
            EXPECT_EQ(f.finding.verdict == AuditVerdict::kViolated, f.finding.bits != 0);
        }
        EXPECT_EQ(summary.violated + summary.not_checkable + summary.held, audit_check_count());
    }
}

} // namespace
} // namespace minivmx::test
