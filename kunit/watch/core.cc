// SPDX-License-Identifier: GPL-2.0-only
// The module's only C++ object: the audit behind functions that C can call.
#include "../../src/core/capability/controls.cc"
#include "../../src/core/capability/errata.cc"
#include "../../src/core/capability/host_desc.cc"
#include "../../src/core/capability/vmx_msr.cc"

#include "../../src/core/audit/audit.cc"
#include "../../src/core/audit/current_vmcs.cc"
#include "../../src/core/audit/execution_controls.cc"
#include "../../src/core/audit/exit_entry_controls.cc"
#include "../../src/core/audit/guest_registers.cc"
#include "../../src/core/audit/guest_segments.cc"
#include "../../src/core/audit/guest_state.cc"
#include "../../src/core/audit/host_state.cc"
#include "../../src/core/audit/msr_load.cc"
#include "../../src/core/audit/names.cc"
#include "../../src/core/audit/view.cc"
#include "../../src/core/audit/virtualization_controls.cc"

#include "core.h"

namespace minivmx
{

// What the audit knows of the CPU.
constinit Hardware hardware;

namespace
{

void put_first(void *context, const AuditFinding &finding)
{
	TextBuilder &text = *static_cast<TextBuilder *>(context);
	if (finding.verdict == AuditVerdict::kViolated && text.empty())
		put_audit_finding(text, finding, false);
}

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

void watch_core_init(void)
{
	describe_cpu(this_cpu_msr_reader(), hardware.host);
}

host_u32 watch_core_audit(char *text, host_u32 size)
{
	TextBuilder first(text, size);
	return audit_vmcs(audit_current_vmcs(), { .report = put_first, .context = &first })
		.violated;
}

} // extern "C"
