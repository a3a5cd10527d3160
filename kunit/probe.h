/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests, which are C, ask of the core, which is C++: one function for each instruction of arch.hpp, the table
 * of vmcs_field.hpp, and the negotiation of setup_vmcs_config().
 */
#ifndef MINIVMX_KUNIT_PROBE_H
#define MINIVMX_KUNIT_PROBE_H

#include <minivmx/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/* arch::Vmx. */
enum probe_outcome { PROBE_OK, PROBE_FAIL_INVALID, PROBE_FAIL_VALID, PROBE_FAULTED };

/* [irqoff], since all but the faults depend on what this CPU has loaded. Addresses are physical. */
host_u32 probe_vmxon(host_u64 region);
host_u32 probe_vmxoff(void);
host_u32 probe_vmclear(host_u64 vmcs);
host_u32 probe_vmptrld(host_u64 vmcs);
host_u32 probe_vmread(host_u32 field, host_u64 *value);
host_u32 probe_vmwrite(host_u32 field, host_u64 value);
/* Only for a VMCS that can't be entered: there is no guest behind it, and no way back from one. */
host_u32 probe_vmlaunch(void);
host_u32 probe_vmresume(void);

/* False when the access raised #GP. [any] */
bool probe_rdmsr_safe(host_u32 msr, host_u64 *value);
bool probe_wrmsr_safe(host_u32 msr, host_u64 value);

/* VmcsWidth and VmcsKind. */
enum probe_width { PROBE_16, PROBE_64, PROBE_32, PROBE_NATURAL };
enum probe_kind { PROBE_CONTROL, PROBE_EXIT_INFO, PROBE_GUEST, PROBE_HOST };

struct probe_field {
	const char *name;
	host_u32 encoding;
	host_u32 width; /* enum probe_width */
	host_u32 kind; /* enum probe_kind */
};

/* Every field the core knows; NULL past the last one. [any] */
const struct probe_field *probe_field_at(host_u32 index);

/* What setup_vmcs_config() makes of this CPU with default parameters. */
struct probe_config {
	host_u32 revision;
	host_u32 size;
	host_u32 order;
	host_u32 pin;
	host_u32 primary;
	host_u32 secondary;
	host_u32 exit;
	host_u32 entry;
	char why[512]; /* the sentence, when it fails */
};

/* 0 or a negative errno. [atomic] */
int probe_setup_vmcs_config(struct probe_config *config);

#ifdef __cplusplus
}
#endif
#endif
