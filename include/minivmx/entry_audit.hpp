// SPDX-License-Identifier: GPL-2.0-only
// What a vCPU's last failed VM entry was found to have done wrong: the audit of its VMCS, kept for
// MINIVMX_GET_ENTRY_AUDIT and told in dmesg.
#pragma once

#include <minivmx/audit.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

struct EntryAudit {
    // One broken field seldom violates more than a handful of checks.
    static constexpr u32 kRoom = 24;

    bool current; // of the last KVM_RUN
    u32 exit_reason;
    u32 instruction_error; // 0 unless VMLAUNCH or VMRESUME itself failed
    AuditSummary summary;
    u32 count;
    AuditFinding findings[kRoom]; // the violated ones, in the order of audit_table()
};

// Audits the current VMCS, whose entry failed for `reason`: the VM-instruction error if
// vmx.entry_failed, else the exit reason. Tells dmesg and keeps the findings, if there is memory
// for them. [sleep]
void audit_failed_entry(vcpu_vmx &vmx, u32 reason);
// What is current until now belongs to an earlier KVM_RUN.
inline void forget_entry_audit(vcpu_vmx &vmx)
{
    if (vmx.entry_audit) [[unlikely]]
        vmx.entry_audit->current = false;
}

} // namespace minivmx
