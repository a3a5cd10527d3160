// SPDX-License-Identifier: GPL-2.0-only
/* The tracepoints, and what the core knows of them. */
#include <linux/tracepoint.h>

#include "compat.h"
#include "objects.h"

/* Behind all other headers: some of them have tracepoints of their own. */
#define CREATE_TRACE_POINTS
#include "trace.h"

/*
 * The core looks at a tracepoint's static key by itself (arch::static_key_enabled()): the key gets
 * a name of its own, since the core knows no struct tracepoint.
 */
#define NAME_KEY(event)                                                                            \
	asm(".globl host_tracing_" #event "\n\t"                                                   \
	    ".set host_tracing_" #event ", %c0"                                                    \
	    :                                                                                      \
	    : "i"(&__tracepoint_##event.key))

static void __used name_keys(void)
{
	BUILD_BUG_ON(offsetof(struct static_key, enabled) !=
		     offsetof(struct host_trace_key, enabled));
	NAME_KEY(entry);
	NAME_KEY(exit);
	NAME_KEY(inject);
	NAME_KEY(ept_violation);
	NAME_KEY(control_change);
}

void host_trace_entry(const struct host_vcpu *vcpu, host_u64 rip)
{
	trace_entry(vcpu, rip);
}

void host_trace_exit(const struct host_vcpu *vcpu, const struct host_exit_facts *exit)
{
	trace_exit(vcpu, exit);
}

void host_trace_inject(const struct host_vcpu *vcpu, host_u32 information, host_u32 error_code,
		       const char *event)
{
	trace_inject(vcpu, information, error_code, event);
}

void host_trace_ept_violation(const struct host_vcpu *vcpu, host_u64 gpa, host_u64 linear_address,
			      host_u64 qualification, const char *access)
{
	trace_ept_violation(vcpu, gpa, linear_address, qualification, access);
}

void host_trace_control_change(const struct host_vcpu *vcpu, const char *word, host_u64 before,
			       host_u64 after, const char *changes)
{
	trace_control_change(vcpu, word, before, after, changes);
}
