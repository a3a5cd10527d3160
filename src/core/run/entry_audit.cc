// SPDX-License-Identifier: GPL-2.0-only
// A VM entry failed: which checks it violated, for dmesg and for the client.
#include <minivmx/entry_audit.hpp>

#include <minivmx/breakage.hpp>
#include <minivmx/exit_name.hpp>
#include <minivmx/lapic.hpp>
#include <minivmx/vmcs.hpp>

namespace minivmx {

namespace {

// ----- What the audit may look into --------------------------------------------------------------

// Memory by physical address: of this vCPU's own pages only, since an address in a VMCS that failed
// may be any number.
bool read_own_page(void *context, u64 address, void *bytes, usize size)
{
    const vcpu_vmx &vmx = *static_cast<const vcpu_vmx *>(context);
    const void *const pages[] = {vmx.vmcs01.vmcs, vmx.msr_bitmap, vmx.pml_buffer,
                                 vmx.apic ? vmx.apic->page : nullptr};
    for (const void *page : pages) {
        if (!page)
            continue;
        const u64 offset = address - host_page_phys(page);
        if (offset >= kPageSize || size > kPageSize - offset)
            continue;
        __builtin_memcpy(bytes, static_cast<const u8 *>(page) + offset, size);
        return true;
    }
    return read_breakage_page(address, bytes, size);
}

AuditSource source_of(vcpu_vmx &vmx)
{
    AuditSource source = audit_current_vmcs();
    // The accessor of fields has no use for a context: it reads the current VMCS.
    source.memory = read_own_page;
    source.context = &vmx;
    source.vmcs_address = vmx.vmcs01.phys;
    return source;
}

void keep_finding(void *context, const AuditFinding &finding)
{
    EntryAudit &audit = *static_cast<EntryAudit *>(context);
    if (finding.verdict == AuditVerdict::kViolated && audit.count < EntryAudit::kRoom)
        audit.findings[audit.count++] = finding;
}

void print_finding(void *, const AuditFinding &finding)
{
    if (finding.verdict != AuditVerdict::kViolated)
        return;
    AuditSentence line;
    line.put("  ");
    put_audit_finding(line, finding, false);
    host_log(HOST_LOG_WARNING, line.c_str());
}

// The VMCS that is current stays so.
class StayOnCpu {
  public:
    StayOnCpu() { host_preempt_disable(); }
    ~StayOnCpu() { host_preempt_enable(); }
    StayOnCpu(const StayOnCpu &) = delete;
    StayOnCpu &operator=(const StayOnCpu &) = delete;
};

// ----- dmesg -------------------------------------------------------------------------------------

const char *name_or(const char *name)
{
    return name ? name : "which the SDM doesn't list";
}

void print_headline(const vcpu_vmx &vmx, const EntryAudit &audit)
{
    Sentence line;
    line.put("VM entry of vCPU ", vmx.vcpu_id, " failed: ");
    if (vmx.entry_failed)
        line.put("VM-instruction error ", audit.instruction_error, ", ",
                 name_or(instruction_error_name(audit.instruction_error)));
    else
        line.put("exit reason ", audit.exit_reason & kExitReasonBasicMask, ", ",
                 name_or(exit_reason_name(audit.exit_reason & kExitReasonBasicMask)));
    host_log(HOST_LOG_WARNING, line.c_str());

    line.clear();
    if (audit.summary.violated)
        line.put("checks of SDM Vol. 3C that it violates: ", audit.summary.violated);
    else
        line.put("the audit finds no check of SDM Vol. 3C that it violates");
    if (audit.summary.not_checkable)
        line.put("; not checkable here: ", audit.summary.not_checkable);
    host_log(HOST_LOG_WARNING, line.c_str());
}

// A guest can't make entries fail, but a client might.
void print_audit(vcpu_vmx &vmx, const EntryAudit &audit)
{
    if (!host_log_allowed())
        return;
    print_headline(vmx, audit);
    for (u32 i = 0; i < audit.count; i++)
        print_finding(nullptr, audit.findings[i]);
    if (audit.summary.violated > audit.count) {
        Sentence line;
        line.put("  ... and ", audit.summary.violated - audit.count, " more");
        host_log(HOST_LOG_WARNING, line.c_str());
    }
}

// ----- For the client ----------------------------------------------------------------------------

template <usize size, class Put>
void fill(char (&out)[size], Put put)
{
    TextBuilder text(out, size);
    put(text);
}

void describe(const AuditFinding &finding, minivmx_audit_finding &out)
{
    const AuditCheck &check = *finding.check;
    out = {};
    out.field = check.field;
    out.stage = static_cast<u32>(check.stage);
    out.entry = finding.entry;
    out.bits = finding.bits;
    if (!field_tells_of_host(check.field)) {
        out.flags = MINIVMX_AUDIT_HAS_VALUE;
        out.value = finding.value;
    }
    const char *name = vmcs_field_name(check.field);
    fill(out.field_name, [&](TextBuilder &text) { text.put(name_or(name)); });
    fill(out.check, [&](TextBuilder &text) { text.put(check.name); });
    fill(out.clause, [&](TextBuilder &text) { text.put(check.sdm); });
    fill(out.rule, [&](TextBuilder &text) { text.put(check.rule); });
    if (finding.bits != kWholeValue)
        fill(out.bit_names,
             [&](TextBuilder &text) { put_field_bits(text, check.field, finding.bits); });
}

} // namespace

void audit_failed_entry(vcpu_vmx &vmx, u32 reason)
{
    if (!vmx.entry_audit)
        vmx.entry_audit = static_cast<EntryAudit *>(host_zalloc(sizeof(EntryAudit)));
    if (!vmx.entry_audit)
        return;
    EntryAudit &audit = *vmx.entry_audit;
    audit = {};
    audit.current = true;
    (vmx.entry_failed ? audit.instruction_error : audit.exit_reason) = reason;
    {
        const StayOnCpu guard;
        audit.summary = audit_vmcs(source_of(vmx), {.report = keep_finding, .context = &audit});
    }
    print_audit(vmx, audit);
}

} // namespace minivmx

using namespace minivmx;

extern "C" int core_get_entry_audit(core_vcpu *vcpu, minivmx_entry_audit *out,
                                    minivmx_audit_finding *findings)
{
    const EntryAudit *audit = to_vmx(vcpu).entry_audit;
    if (!audit || !audit->current)
        return -ENOENT;
    const u32 room = out->count;
    out->exit_reason = audit->exit_reason;
    out->instruction_error = audit->instruction_error;
    out->violated = audit->summary.violated;
    out->not_checkable = audit->summary.not_checkable;
    out->count = audit->count;
    if (room < audit->count)
        return -E2BIG;
    for (u32 i = 0; i < audit->count; i++)
        describe(audit->findings[i], findings[i]);
    return 0;
}
