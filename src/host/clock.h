/* SPDX-License-Identifier: GPL-2.0-only */
/* clock.c */
#ifndef MINIVMX_HOST_CLOCK_H
#define MINIVMX_HOST_CLOCK_H

/* Module load and unload. */
void clock_init(void);
void clock_exit(void);

struct host_vm;
/* In between the VM's guest hears from its kvmclock when the machine has slept. [sleep] */
int clock_watch_suspend(struct host_vm *vm);
void clock_unwatch_suspend(struct host_vm *vm);

#endif
