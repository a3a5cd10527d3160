/* SPDX-License-Identifier: GPL-2.0-only */
/* Other hypervisors of this kernel, as far as a module can see them. */
#ifndef MINIVMX_HOST_HOLDER_H
#define MINIVMX_HOST_HOLDER_H

#include <linux/types.h>

/*
 * Says in the log (rate-limited) that VMX is taken on cpu, by whom if that can be told, and what to
 * do. [sleep]
 */
void holder_report(int cpu);
/* Whether /sys/module has that name. [sleep] */
bool holder_module_present(const char *name);
/* Whether a module that uses kvm.ko's functions is there, or on its way in. [sleep] */
bool holder_kvm_in_use(void);

#endif
