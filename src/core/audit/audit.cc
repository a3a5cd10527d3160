// SPDX-License-Identifier: GPL-2.0-only
//
// Makes all checks, and answers what they ask of the VMCS and the CPU.
#include "view.hpp"

namespace minivmx {

namespace {

constexpr const Span<const AuditCheck> *kAuditTables[] = {
    &audit::kExecutionControlChecks, &audit::kVirtualizationControlChecks,
    &audit::kExitEntryControlChecks, &audit::kHostChecks,
    &audit::kGuestRegisterChecks,    &audit::kGuestSegmentChecks,
    &audit::kGuestStateChecks,       &audit::kMsrLoadChecks,
};
constexpr unsigned kAuditTableCount = sizeof(kAuditTables) / sizeof(kAuditTables[0]);

/// No CPU is recommended to load more: SDM Vol. 3D, A.6, bits 27:25.
constexpr u32 kMostMsrEntries = 4096;

struct AuditRun {
    const AuditSource &source;
    const AuditSink &sink;
    AuditSummary summary;

    void report(const AuditFinding &finding) const
    {
        if (sink.report != nullptr)
            sink.report(sink.context, finding);
    }
    /// False when the check could not be made.
    bool make(const AuditCheck &check, u32 entry, u32 *violated);
    void make_for_each_entry(const AuditCheck &check);
    void make_one(const AuditCheck &check);
};

bool AuditRun::make(const AuditCheck &check, u32 entry, u32 *violated)
{
    const AuditView view(source, check, entry);
    const u64 bits = check.predicate(view);
    AuditFinding finding{&check, AuditVerdict::kViolated, 0, bits, entry, {}};
    if (view.missed()) {
        finding.verdict = AuditVerdict::kNotCheckable;
        finding.bits = 0;
        finding.missing = view.missing();
        report(finding);
        return false;
    }
    if (bits != 0) {
        finding.value = check.stage == AuditStage::kMsrLoad ? view.msr_entry().index : view.value();
        (*violated)++;
        report(finding);
    }
    return true;
}

/// The count of a summary is of checks, so a check that fails for several entries counts once.
void AuditRun::make_for_each_entry(const AuditCheck &check)
{
    const AuditView view(source, check, 0);
    const u32 count = view[VM_ENTRY_MSR_LOAD_COUNT];
    if (view.missed()) {
        AuditFinding finding{&check, AuditVerdict::kNotCheckable, 0, 0, 0, view.missing()};
        summary.not_checkable++;
        report(finding);
        return;
    }
    u32 violated = 0;
    for (u32 i = 0; i < count && i < kMostMsrEntries; i++) {
        if (!make(check, i, &violated)) {
            summary.not_checkable++;
            return;
        }
    }
    (violated != 0 ? summary.violated : summary.held)++;
}

void AuditRun::make_one(const AuditCheck &check)
{
    if (check.stage == AuditStage::kMsrLoad)
        return make_for_each_entry(check);
    u32 violated = 0;
    if (!make(check, 0, &violated))
        summary.not_checkable++;
    else
        (violated != 0 ? summary.violated : summary.held)++;
}

} // namespace

unsigned audit_table_count()
{
    return kAuditTableCount;
}

Span<const AuditCheck> audit_table(unsigned number)
{
    return *kAuditTables[number];
}

unsigned audit_check_count()
{
    unsigned count = 0;
    for (const Span<const AuditCheck> *table : kAuditTables)
        count += static_cast<unsigned>(table->size());
    return count;
}

const AuditCheck *find_audit_check(const char *name)
{
    for (const Span<const AuditCheck> *table : kAuditTables) {
        for (const AuditCheck &check : *table) {
            if (text_equal(check.name, name))
                return &check;
        }
    }
    return nullptr;
}

AuditSummary audit_vmcs(const AuditSource &source, const AuditSink &sink)
{
    AuditRun run{source, sink, {}};
    for (const Span<const AuditCheck> *table : kAuditTables) {
        for (const AuditCheck &check : *table)
            run.make_one(check);
    }
    return run.summary;
}

} // namespace minivmx
