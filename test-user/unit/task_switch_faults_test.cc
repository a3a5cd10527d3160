// SPDX-License-Identifier: GPL-2.0-only
//
// What task switches raise: each row of SDM Vol. 3A, 8.3, table 8-1, "Exception Conditions Checked
// During a Task Switch", page faults, and tables made at random.
#include <minivmx/audit.hpp>

#include "task_fixture.hpp"

#include <random>
#include <set>
#include <string>

namespace minivmx::test {
namespace {

// ---- Faults in the old task -------------------------------------------------

TEST_F(TaskSwitchTest, WhatKeepsItFromTheNewTask)
{
    struct {
        const char *name;
        u32 source;
        u16 selector;
        u64 descriptor; // 0: as it is
        u8 vector;
        u32 error_code;
    } const rows[] = {
        {"null", kJmp, 0, 0, GP_VECTOR, 0},
        {"null, IRET", kIret, 3, 0, TS_VECTOR, 0},
        {"in the LDT", kCall, kNew | 4, 0, GP_VECTOR, kNew | 4},
        {"in the LDT, IRET", kIret, kNew | 4, 0, TS_VECTOR, kNew | 4},
        {"beyond the GDT", kJmp, kBeyond, 0, GP_VECTOR, kBeyond},
        {"beyond the GDT, IRET", kIret, kBeyond, 0, TS_VECTOR, kBeyond},
        {"no TSS", kGate, kData0, 0, GP_VECTOR, kData0},
        {"an LDT", kGate, kLdtSelector, 0, GP_VECTOR, kLdtSelector},
        {"busy", kJmp, kNew, tss_descriptor(kTss2, 0x67, 0x8b), GP_VECTOR, kNew},
        {"not busy, IRET", kIret, kNew, 0, TS_VECTOR, kNew},
        {"absent", kCall, kNew | 3, tss_descriptor(kTss2, 0x67, 0x09), NP_VECTOR, kNew},
        {"absent, IRET", kIret, kNew, tss_descriptor(kTss2, 0x67, 0x0b), NP_VECTOR, kNew},
        {"short", kJmp, kNew, tss_descriptor(kTss2, 0x66, 0x89), TS_VECTOR, kNew},
        {"short, 16 bits", kJmp, kNew, tss_descriptor(kTss2, 0x2a, 0x81), TS_VECTOR, kNew},
        {"64-bit call gate", kJmp, kNew, tss_descriptor(kTss2, 0x67, 0x8c), GP_VECTOR, kNew},
    };
    const u64 usual = guest.peek<u64>(kGdt + kNew);
    for (const auto &row : rows) {
        SCOPED_TRACE(row.name);
        guest.poke<u64>(kGdt + kNew, row.descriptor ? row.descriptor : usual);
        const auto before = state_of(guest);
        EXPECT_TRUE(switch_to(row.source, row.selector).resumes());
        expect_fault(row.vector, row.error_code);
        EXPECT_EQ(state_of(guest), before);
        EXPECT_EQ(guest.peek<u32>(kTss + 0x20), 0u) << "nothing is saved";
    }
}

TEST_F(TaskSwitchTest, TheOldTaskNeedsRoomToBeSaved)
{
    set_task_register(kOld, kTss, 0x5e, 0x8b);
    const auto before = state_of(guest);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_fault(TS_VECTOR, kOld);
    EXPECT_EQ(state_of(guest), before);
    set_task_register(kOld, kTss, 0x5f, 0x8b);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
    EXPECT_EQ(access(kOld), 0x89);
}

TEST_F(TaskSwitchTest, WhatIsNoMemoryIsUserSpacesToHear)
{
    guest.poke<u64>(kGdt + kNew, tss_descriptor(kMemory + 0x1000, 0x67, 0x89));
    const auto before = state_of(guest);
    EXPECT_FALSE(switch_to(kJmp, kNew).resumes());
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
    EXPECT_EQ(guest.run().internal.suberror, u32{KVM_INTERNAL_ERROR_EMULATION});
    EXPECT_EQ(state_of(guest), before);
    expect_no_fault();

    // An event that was on its way stays so: user space may put memory there and go on.
    EXPECT_FALSE(switch_to(kGate, kNew, vectoring(INTR_TYPE_EXT_INTR, 0x30)).resumes());
    EXPECT_TRUE(guest.vmx().interrupt.pending);
}

TEST_F(TaskSwitchTest, AnotherVcpuTakesTheTaskFirst)
{
    u32 attempts = 0;
    guest.machine.on_cmpxchg = [&](u64) {
        if (attempts++ == 0)
            guest.poke<u8>(kGdt + kNew + 5, 0x8b);
    };
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    guest.machine.on_cmpxchg = nullptr;
    expect_fault(GP_VECTOR, kNew);
    EXPECT_FALSE(in_new_task());
    EXPECT_EQ(access(kOld), 0x8b);
}

TEST_F(TaskSwitchTest, AnotherVcpuThatNeverLeavesTheDescriptorAlone)
{
    guest.machine.on_cmpxchg = [&](u64) { guest.poke<u8>(kGdt + kNew + 5, access(kNew) ^ 0x20); };
    EXPECT_FALSE(switch_to(kJmp, kNew).resumes());
    guest.machine.on_cmpxchg = nullptr;
    EXPECT_EQ(guest.run().exit_reason, u32{KVM_EXIT_INTERNAL_ERROR});
}

// ---- Faults in the new task -------------------------------------------------

TEST_F(TaskSwitchTest, SegmentsThatCantBeLoaded)
{
    struct {
        const char *name;
        Segment segment;
        u16 selector;
        u8 vector;
        u32 error_code;
    } const rows[] = {
        {"LDT in the LDT", kLdtr, kLdtSelector | 4, TS_VECTOR, kLdtSelector | 4},
        {"LDT beyond the GDT", kLdtr, kBeyond, TS_VECTOR, kBeyond},
        {"LDT of another type", kLdtr, kData0, TS_VECTOR, kData0},
        {"LDT absent", kLdtr, kAbsentLdt, TS_VECTOR, kAbsentLdt},
        {"CS null", kCs, 3, TS_VECTOR, 0},
        {"CS beyond the GDT", kCs, kBeyond, TS_VECTOR, kBeyond},
        {"CS in no LDT", kCs, 4, TS_VECTOR, 4},
        {"CS is data", kCs, kData0, TS_VECTOR, kData0},
        {"CS is a TSS", kCs, kOld, TS_VECTOR, kOld},
        {"CS of another privilege", kCs, kCode3 & ~3, TS_VECTOR, kCode3 & ~3},
        {"CS absent", kCs, kAbsentCode, NP_VECTOR, kAbsentCode},
        {"SS null", kSs, 0, TS_VECTOR, 0},
        {"SS beyond the GDT", kSs, kBeyond, TS_VECTOR, kBeyond},
        {"SS is code", kSs, kCode0, TS_VECTOR, kCode0},
        {"SS read-only", kSs, kReadOnlyData, TS_VECTOR, kReadOnlyData},
        {"SS absent", kSs, kAbsentData, SS_VECTOR, kAbsentData},
        {"SS of another privilege", kSs, kData3, TS_VECTOR, kData3 & ~3},
        {"SS's RPL", kSs, kData0 | 1, TS_VECTOR, kData0},
        {"DS beyond the GDT", kDs, kBeyond, TS_VECTOR, kBeyond},
        {"ES execute-only", kEs, kExecuteOnly, TS_VECTOR, kExecuteOnly},
        {"FS is a TSS", kFs, kOld, TS_VECTOR, kOld},
        {"GS absent", kGs, kAbsentData, NP_VECTOR, kAbsentData},
        {"GS's RPL", kGs, kData0 | 1, TS_VECTOR, kData0},
    };
    for (const auto &row : rows) {
        SCOPED_TRACE(row.name);
        new_task(kCode0, kData0);
        set_access(kNew, 0x89);
        set_task_register(kOld, kTss, 0x67, 0x8b);
        guest.poke<u16>(kTss2 + (row.segment == kLdtr ? 0x60u : 0x48u + 4 * row.segment),
                        row.selector);
        EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
        expect_fault(row.vector, row.error_code);
        EXPECT_TRUE(in_new_task());
        EXPECT_EQ(guest.rip(), 0x5000u);
        EXPECT_EQ(guest.get(GUEST_ES_SELECTOR + row.segment), row.selector);
        // VM entry takes what is there: SDM Vol. 3C, 27.3.1.2.
        EXPECT_EQ(rights(kCs) & 0x9f, 0x9bu);
        EXPECT_EQ((rights(kCs) ^ rights(kSs)) & AR_DPL_MASK, 0u);
        EXPECT_EQ((rights(row.segment) & AR_UNUSABLE) != 0, row.segment != kCs);
    }
}

TEST_F(TaskSwitchTest, ConformingCode)
{
    set_selector(kCs, kConforming | 3);
    for (const Segment segment : {kEs, kSs, kDs, kFs, kGs})
        set_selector(segment, kData3);
    set_selector(kFs, kConforming | 3); // readable by everybody
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
    EXPECT_EQ(guest_cpl(guest.vmx()), 3);
    EXPECT_EQ(rights(kFs), 0xc09fu);

    // From outside it is less privileged than itself.
    guest.poke<u64>(kGdt + kConforming, 0x00cffe000000ffff);
    set_access(kNew, 0x89);
    set_task_register(kOld, kTss, 0x67, 0x8b);
    set_selector(kCs, kConforming);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_fault(TS_VECTOR, kConforming);
}

// What VM entry would find wrong with the guest's state, but for CR0 and CR4: Guest has the guest's
// view of them there.
std::set<std::string> violations_of_entry()
{
    std::set<std::string> names;
    const AuditSink sink{[](void *context, const AuditFinding &finding) {
                             const u32 field = finding.check->field;
                             if (finding.verdict == AuditVerdict::kViolated &&
                                 finding.check->stage == AuditStage::kGuest &&
                                 field != GUEST_CR0.encoding && field != GUEST_CR4.encoding)
                                 static_cast<std::set<std::string> *>(context)->insert(
                                     finding.check->name);
                         },
                         &names};
    audit_vmcs(audit_current_vmcs(), sink);
    return names;
}

// Whatever is in the tables, the CPU can be entered afterwards: SDM Vol. 3C, 27.3.1.
class AnyTables : public TaskSwitchTest {
  protected:
    explicit AnyTables(const Guest::Tweak &tweak = {}) : TaskSwitchTest(false, tweak) {}
    void try_them();
};

// Without "unrestricted guest" VM entry wants more of the segments; what it refuses would be
// emulated.
class AnyTablesWithoutUnrestrictedGuest : public AnyTables {
  protected:
    AnyTablesWithoutUnrestrictedGuest()
        : AnyTables([](sim::Machine &, Parameters &p) {
              p.unrestricted_guest = false;
              p.emulate_invalid_guest_state = false;
          })
    {}
};

void AnyTables::try_them()
{
    EXPECT_EQ(violations_of_entry(), std::set<std::string>{});
    std::mt19937_64 random{8};
    auto chance = [&](u32 n) { return random() % n == 0; };
    const std::vector<u8> usual(guest.at(kGdt), guest.at(kGdt) + kGdtLimit + 1);
    u32 entered = 0, faults = 0;
    for (int round = 0; round < 3000; round++) {
        std::copy(usual.begin(), usual.end(), guest.at(kGdt));
        new_task(kCode0, kData0);
        for (u32 i = 0; i < 0x80; i += 8)
            if (chance(8))
                guest.poke<u8>(kGdt + i + random() % 8, static_cast<u8>(random()));
        for (u32 i = 0x20; i < 0x68; i += 2)
            if (chance(12))
                guest.poke<u16>(kTss2 + i,
                                static_cast<u16>(random() & (chance(3) ? 0xffff : 0x7f)));
        guest.set_control(X86_CR0_PE | X86_CR0_ET, 0, 0, 0);
        set_task_register(kOld, kTss, 0x67, 0x8b);
        const u32 sources[] = {kCall, kIret, kJmp, kGate};
        const u32 source = sources[random() % 4];
        const u32 event =
            source == kGate && chance(2)
                ? vectoring(INTR_TYPE_HARD_EXCEPTION, GP_VECTOR) | INTR_INFO_HAS_ERROR_CODE
                : 0;
        const u16 selector = chance(20) ? static_cast<u16>(random()) : chance(4) ? kNew286 : kNew;
        if (source == kIret && chance(2))
            set_access(kNew, 0x8b);
        const bool resumes = switch_to(source, selector, event).resumes();
        if (!resumes) {
            guest.vmx().exception = {};
            guest.vmx().interrupt = {};
        }
        guest.vmx().triple_fault = false;
        faults += guest.take_exception().pending;
        entered += in_new_task();
        write_registers();
        if (resumes) {
            EXPECT_EQ(violations_of_entry(), std::set<std::string>{});
        }
        if (HasFailure())
            FAIL() << "round " << round;
    }
    EXPECT_GT(entered, 800u);
    EXPECT_GT(faults, 300u);
}

TEST_F(AnyTables, LeaveAnEnterableGuest)
{
    try_them();
}

TEST_F(AnyTablesWithoutUnrestrictedGuest, LeaveAnEnterableGuest)
{
    try_them();
}

// ---- With paging ------------------------------------------------------------

class PagedTaskSwitchTest : public TaskSwitchTest {
  protected:
    PagedTaskSwitchTest() : TaskSwitchTest(true)
    {
        make_tables(kTables);
        make_tables(kTables + 0x2000);
        guest.poke<u32>(kTss2 + 0x1c, kTables + 0x2000);
    }
    void make_tables(u64 at)
    {
        guest.poke<u32>(at, static_cast<u32>(at + 0x1000) | 3);
        for (u32 page = 0; page < kMemory / kPageSize; page++)
            guest.poke<u32>(at + 0x1000 + 4 * page, page << 12 | 3);
    }
    void set_page(u64 tables, u64 address, u32 flags)
    {
        guest.poke<u32>(tables + 0x1000 + 4 * (address >> 12),
                        static_cast<u32>(address & ~u64{0xfff}) | flags);
    }
    void expect_page_fault(u64 address, u32 error_code)
    {
        EXPECT_EQ(guest.vmx().area->cr2, address);
        expect_fault(PF_VECTOR, error_code);
    }
};

TEST_F(PagedTaskSwitchTest, TheNewTaskHasItsOwnTables)
{
    guest.vmx().stale_translations = StaleTranslations::kNone;
    guest.set_cpl(3); // tables are read with the supervisor's rights
    EXPECT_TRUE(switch_to(kCall, kNew).resumes());
    expect_no_fault();
    EXPECT_EQ(guest_cr3(guest.vmx()), kTables + 0x2000);
    EXPECT_EQ(guest.get(GUEST_CR3), kTables + 0x2000);
    EXPECT_EQ(guest.vmx().stale_translations, StaleTranslations::kLinear);
    EXPECT_EQ(guest.peek<u32>(kTss + 0x1c), 0u) << "CR3 isn't saved";

    // A 16-bit one keeps them.
    EXPECT_TRUE(switch_to(kCall, kNew286).resumes());
    expect_no_fault();
    EXPECT_EQ(guest_cr3(guest.vmx()), kTables + 0x2000);
}

TEST_F(PagedTaskSwitchTest, PageFaultsInTheOldTask)
{
    struct {
        const char *name;
        u32 source;
        u64 address;
        u32 flags;
        u64 cr2;
        u32 error_code;
    } const rows[] = {
        {"GDT absent", kJmp, kGdt, 0, kGdt + kNew, 0},
        {"GDT read-only", kJmp, kGdt, 1, kGdt + kNew + 5, 3},
        {"old TSS absent", kJmp, kTss, 0, kTss + 0x20, 2},
        {"old TSS read-only", kJmp, kTss, 1, kTss + 0x20, 3},
        {"new TSS absent", kJmp, kTss2, 0, kTss2, 0},
        {"new TSS's link", kCall, kTss2, 1, kTss2, 3},
    };
    guest.set_cpl(3);
    for (const auto &row : rows) {
        SCOPED_TRACE(row.name);
        make_tables(kTables);
        set_page(kTables, row.address, row.flags);
        const auto before = state_of(guest);
        EXPECT_TRUE(switch_to(row.source, kNew).resumes());
        expect_page_fault(row.cr2, row.error_code);
        EXPECT_EQ(state_of(guest), before);
    }
    // A JMP doesn't write to the new TSS.
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
}

TEST_F(PagedTaskSwitchTest, PageFaultsInTheNewTask)
{
    set_page(kTables + 0x2000, kGdt, 0);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_page_fault(kGdt + kCode0, 0);
    EXPECT_TRUE(in_new_task());

    set_access(kNew, 0x89);
    set_task_register(kOld, kTss, 0x67, 0x8b);
    guest.set_control(X86_CR0_PE | X86_CR0_ET | X86_CR0_PG | X86_CR0_WP, kTables, 0, 0);
    make_tables(kTables + 0x2000);
    set_page(kTables + 0x2000, kStackTop - 4, 1);
    EXPECT_TRUE(switch_to(kGate, kNew,
                          vectoring(INTR_TYPE_HARD_EXCEPTION, AC_VECTOR) | INTR_INFO_HAS_ERROR_CODE)
                    .resumes());
    expect_page_fault(kStackTop - 4, 3);
}

TEST_F(PagedTaskSwitchTest, ATssAcrossPages)
{
    constexpr u64 kAcross = 0x4fc0;
    std::memcpy(guest.at(kAcross), guest.at(kTss2), 0x68);
    guest.poke<u64>(kGdt + kNew, tss_descriptor(kAcross, 0x67, 0x89));
    set_task_register(kOld, 0x6fd0, 0x67, 0x8b);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_no_fault();
    EXPECT_EQ(guest.peek<u32>(0x6fd0 + 0x20), 0x9000u + kInstructionLength);
    EXPECT_EQ(guest.peek<u32>(0x6fd0 + 0x44), 0x88888888u);
    EXPECT_EQ(read_gpr(guest.vmx(), kRdi), 0xa7u);
}

TEST_F(PagedTaskSwitchTest, PageDirectoryPointersThatCantBe)
{
    constexpr u64 kPdpt = kTables + 0x8000;
    guest.poke<u64>(kPdpt, kTables | 0x1e7);
    guest.poke<u32>(kTss2 + 0x1c, kPdpt);
    // The old task's: everything lies in one 2-MiB page.
    guest.poke<u64>(kPdpt + 0x1000, (kPdpt + 0x2000) | 1);
    guest.poke<u64>(kPdpt + 0x2000, 0x83);
    guest.set_control(X86_CR0_PE | X86_CR0_ET | X86_CR0_PG, kPdpt + 0x1000, X86_CR4_PAE, 0);
    guest.set(GUEST_PDPTR0, (kPdpt + 0x2000) | 1);
    EXPECT_TRUE(switch_to(kJmp, kNew).resumes());
    expect_fault(GP_VECTOR, 0);
    EXPECT_EQ(guest.get(GUEST_PDPTR0), (kPdpt + 0x2000) | 1);
    EXPECT_EQ(violations_of_entry(), std::set<std::string>{});
}

} // namespace
} // namespace minivmx::test
