/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ABI of the test build, minivmx_test.ko: ioctls of a vCPU that break its next VM entry. The
 * kernel, the core and the client include it.
 */
#ifndef MINIVMX_BREAKAGE_H
#define MINIVMX_BREAKAGE_H

#include <minivmx.h>

/* How a field gets its value. */
enum minivmx_break_op {
	MINIVMX_BREAK_SET, /* value */
	MINIVMX_BREAK_BITS_ON, /* what it has, with the bits of value */
	MINIVMX_BREAK_BITS_OFF,
	MINIVMX_BREAK_PAGE, /* the address of a page of the module's own, plus value */
	MINIVMX_BREAK_VMCS, /* the address of the VMCS itself, plus value */
};

/* In place of a field: whether the entry is VMRESUME (1) or VMLAUNCH (0). */
#define MINIVMX_BREAK_LAUNCHED 0xffffffffU

struct minivmx_break_write {
	__u32 field;
	__u32 op;
	__u64 value;
};

#define MINIVMX_BREAK_WRITES 8

/*
 * Breaks the next VM entry, and that alone: whatever comes of it, each field gets back what it
 * had. Where a VM exit would come back with what was written (host state, VM-exit controls), the
 * entry is only tried if the audit expects of it what the client does.
 */
struct minivmx_breakage {
	__u32 count;
	__u32 must_fail; /* 0: it prepares the entry, which has to succeed; 1: it breaks it */
	/*
	 * Read from MSR MINIVMX_BREAK_MARK_MSR + mark, which no CPU has, right before the entry: the
	 * emulator complains of that in its log, where the mark then stands before what it says of
	 * the entry.
	 */
	__u32 mark;
	__u32 pad;
	struct minivmx_break_write writes[MINIVMX_BREAK_WRITES];
	__u64 page[4]; /* what the module's page begins with; else it is zero */
};
#define MINIVMX_BREAK_MARK_MSR 0x4d780000U
#define MINIVMX_BREAK_ENTRY _IOW(MINIVMX_IO, 0xf0, struct minivmx_breakage)

struct minivmx_breakage_result {
	__u32 entered; /* the entry was tried: 1, and it failed: 2 */
	__u32 refused; /* not tried: the audit expects something else of it */
	__u32 violated; /* what the audit said just before the entry */
	__u32 not_checkable;
};
#define MINIVMX_GET_BREAKAGE _IOR(MINIVMX_IO, 0xf1, struct minivmx_breakage_result)

#endif
