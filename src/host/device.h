/* SPDX-License-Identifier: GPL-2.0-only */
/* /dev/minivmx: the way in. */
#ifndef MINIVMX_HOST_DEVICE_H
#define MINIVMX_HOST_DEVICE_H

int device_init(void); /* 0 or a negative errno; from here on clients may come */
void device_exit(void);

#endif
