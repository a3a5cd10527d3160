/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Breaking VM entries on purpose: only in the test build of the module (kunit/breakage), whose
 * loading taints the kernel.
 */
#ifndef MINIVMX_HOST_BREAKAGE_H
#define MINIVMX_HOST_BREAKAGE_H

#include <linux/errno.h>

struct host_vcpu;

#ifdef MINIVMX_BREAKAGE
void breakage_init(void);
/* With the vCPU loaded; -EINVAL for ioctls that aren't its own. [sleep] */
long breakage_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user);
#else
static inline void breakage_init(void)
{
}

static inline long breakage_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user)
{
	return -EINVAL;
}
#endif

#endif
