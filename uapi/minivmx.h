/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The ABI of /dev/minivmx: KVM's ioctls, structures, exit reasons and errno values, unchanged.
 */
#ifndef MINIVMX_UAPI_H
#define MINIVMX_UAPI_H

#include <linux/kvm.h>

/* Where a client that does not want a symbolic link /dev/kvm finds the device. */
#define MINIVMX_DEVICE "/dev/minivmx"

#endif
