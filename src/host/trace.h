/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tracepoints minivmx:entry, exit, inject, ept_violation and control_change. Each begins with
 * whose it is: the process that created the VM, the number of the VM in that process and the
 * vCPU's id, as in debugfs. `facts` and its like are text from the core; the other fields are for
 * filters and scripts.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM minivmx

#if !defined(MINIVMX_HOST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define MINIVMX_HOST_TRACE_H

/* It takes the macros for functions: */
/* clang-format off */

#include <linux/tracepoint.h>

#include <minivmx/exit_reasons.h>

#include "compat.h"
#include "objects.h"

#define TRACE_VCPU_FIELDS                                                                          \
	__field(pid_t, pid)                                                                        \
	__field(u32, vm)                                                                           \
	__field(u32, vcpu)
#define TRACE_VCPU_ASSIGN(its)                                                                     \
	do {                                                                                       \
		__entry->pid = (its)->vm->name.pid;                                                \
		__entry->vm = (its)->vm->name.number;                                              \
		__entry->vcpu = (its)->id;                                                         \
	} while (0)
#define TRACE_VCPU_FORMAT "%d/%u/%u "
#define TRACE_VCPU_PRINT  __entry->pid, __entry->vm, __entry->vcpu

/* Basic exit reasons, and what stands for them where VMLAUNCH or VMRESUME itself failed. */
#define TRACE_NO_EXIT		      0xffff
#define TRACE_REASON(constant, number, name) { number, #constant },
#define TRACE_REASONS		      MINIVMX_EXIT_REASONS(TRACE_REASON) { 0xffff, "NO_EXIT" }

TRACE_EVENT(entry,
	TP_PROTO(const struct host_vcpu *vcpu, u64 rip),
	TP_ARGS(vcpu, rip),
	TP_STRUCT__entry(
		TRACE_VCPU_FIELDS
		__field(u64, rip)
	),
	TP_fast_assign(
		TRACE_VCPU_ASSIGN(vcpu);
		__entry->rip = rip;
	),
	TP_printk(TRACE_VCPU_FORMAT "rip 0x%llx", TRACE_VCPU_PRINT, __entry->rip)
);

/* Failed entries are told here, too: with bit 31 of the reason or a VM-instruction error. */
TRACE_EVENT(exit,
	TP_PROTO(const struct host_vcpu *vcpu, const struct host_exit_facts *exit),
	TP_ARGS(vcpu, exit),
	TP_STRUCT__entry(
		TRACE_VCPU_FIELDS
		__field(u32, reason)
		__field(u32, instruction_error)
		__field(u64, rip)
		__field(u64, qualification)
		__field(u32, intr_info)
		__field(u32, idt_vectoring_info)
		__string(facts, exit->facts)
	),
	TP_fast_assign(
		TRACE_VCPU_ASSIGN(vcpu);
		__entry->reason = exit->instruction_error ? TRACE_NO_EXIT : exit->reason;
		__entry->instruction_error = exit->instruction_error;
		__entry->rip = exit->rip;
		__entry->qualification = exit->qualification;
		__entry->intr_info = exit->intr_info;
		__entry->idt_vectoring_info = exit->idt_vectoring_info;
		compat_assign_str(facts, exit->facts);
	),
	TP_printk(TRACE_VCPU_FORMAT "%s rip 0x%llx %s", TRACE_VCPU_PRINT,
		  __print_symbolic(__entry->reason & 0xffff, TRACE_REASONS), __entry->rip,
		  __get_str(facts))
);

/* An event that enters with the VM entry right after this. */
TRACE_EVENT(inject,
	TP_PROTO(const struct host_vcpu *vcpu, u32 information, u32 error_code, const char *event),
	TP_ARGS(vcpu, information, error_code, event),
	TP_STRUCT__entry(
		TRACE_VCPU_FIELDS
		__field(u32, information)
		__field(u8, vector)
		__field(u32, error_code)
		__string(event, event)
	),
	TP_fast_assign(
		TRACE_VCPU_ASSIGN(vcpu);
		__entry->information = information;
		__entry->vector = information & 0xff;
		__entry->error_code = error_code;
		compat_assign_str(event, event);
	),
	TP_printk(TRACE_VCPU_FORMAT "%s", TRACE_VCPU_PRINT, __get_str(event))
);

TRACE_EVENT(ept_violation,
	TP_PROTO(const struct host_vcpu *vcpu, u64 gpa, u64 linear_address, u64 qualification,
		 const char *access),
	TP_ARGS(vcpu, gpa, linear_address, qualification, access),
	TP_STRUCT__entry(
		TRACE_VCPU_FIELDS
		__field(u64, gpa)
		__field(u64, linear_address)
		__field(u64, qualification)
		__string(access, access)
	),
	TP_fast_assign(
		TRACE_VCPU_ASSIGN(vcpu);
		__entry->gpa = gpa;
		__entry->linear_address = linear_address;
		__entry->qualification = qualification;
		compat_assign_str(access, access);
	),
	TP_printk(TRACE_VCPU_FORMAT "gpa 0x%llx linear 0x%llx %s", TRACE_VCPU_PRINT, __entry->gpa,
		  __entry->linear_address, __get_str(access))
);

TRACE_EVENT(control_change,
	TP_PROTO(const struct host_vcpu *vcpu, const char *word, u64 before, u64 after,
		 const char *changes),
	TP_ARGS(vcpu, word, before, after, changes),
	TP_STRUCT__entry(
		TRACE_VCPU_FIELDS
		__string(word, word)
		__field(u64, before)
		__field(u64, after)
		__string(changes, changes)
	),
	TP_fast_assign(
		TRACE_VCPU_ASSIGN(vcpu);
		compat_assign_str(word, word);
		__entry->before = before;
		__entry->after = after;
		compat_assign_str(changes, changes);
	),
	TP_printk(TRACE_VCPU_FORMAT "%s 0x%llx -> 0x%llx %s", TRACE_VCPU_PRINT, __get_str(word),
		  __entry->before, __entry->after, __get_str(changes))
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
