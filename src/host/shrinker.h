/* SPDX-License-Identifier: GPL-2.0-only */
/* shrinker.c */
#ifndef MINIVMX_HOST_SHRINKER_H
#define MINIVMX_HOST_SHRINKER_H

#include <linux/types.h>

/* Module load and unload; has_shadow_pages: VMs have any. 0 or -ENOMEM. [sleep] */
int shrinker_init(bool has_shadow_pages);
void shrinker_exit(void);

struct host_vm;
/* In between the VM's core may be asked for shadow pages. [sleep] */
void shrinker_add_vm(struct host_vm *vm);
void shrinker_remove_vm(struct host_vm *vm);

#endif
