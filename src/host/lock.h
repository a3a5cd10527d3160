/* SPDX-License-Identifier: GPL-2.0-only */
/* The module's part of lock.c: the rest is in host.h. */
#ifndef MINIVMX_HOST_LOCK_H
#define MINIVMX_HOST_LOCK_H

/* Before the first VM, and after the last one. -ENOMEM [sleep] */
int readers_init(void);
void readers_exit(void);

#endif
