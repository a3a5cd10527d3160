/* SPDX-License-Identifier: GPL-2.0-only */
/* clock.c: module load and unload. */
#ifndef MINIVMX_HOST_CLOCK_H
#define MINIVMX_HOST_CLOCK_H

void clock_init(void);
void clock_exit(void);

#endif
