/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The ABI of /dev/minivmx: KVM's ioctls, structures, exit reasons and errno values, unchanged.
 */
#ifndef MINIVMX_UAPI_H
#define MINIVMX_UAPI_H

/*
 * Some structures end in a flexible array, and the kernel's macro for it puts an empty struct before
 * it, which has size 0 in C and 1 in C++. Sizes are part of ioctl numbers, so that a C++ program
 * would ask for ioctls that nobody knows, and offsets are wrong, too. C++ programs include this
 * header instead of <linux/kvm.h>.
 */
#ifdef __cplusplus
#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#endif

#include <linux/kvm.h>

#ifdef __cplusplus
static_assert(sizeof(struct kvm_cpuid2) == 8, "linux/kvm.h was included before, with other sizes");
#endif

/* Where a client that does not want a symbolic link /dev/kvm finds the device. */
#define MINIVMX_DEVICE "/dev/minivmx"

#endif
