/* SPDX-License-Identifier: GPL-2.0-only */
/* What the watcher, which is C, asks of the audit, which is C++. */
#ifndef MINIVMX_WATCH_CORE_H
#define MINIVMX_WATCH_CORE_H

#include <minivmx/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Reads the capabilities of the CPU it runs on; they are the same on all that minivmx accepts. */
void watch_core_init(void);
/*
 * Audits the VMCS that is current on this CPU: how many checks it violates; the first of them in
 * words. [irqoff]
 */
host_u32 watch_core_audit(char *text, host_u32 size);

#ifdef __cplusplus
}
#endif
#endif
