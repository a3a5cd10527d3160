/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test build's ioctls, which are C, ask of the core, which is C++. The vCPU is loaded. */
#ifndef MINIVMX_BREAKAGE_CORE_H
#define MINIVMX_BREAKAGE_CORE_H

#include <minivmx/host.h>

#include "breakage.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -EBUSY: another vCPU's entry is to be broken; -EINVAL, -ENOMEM. [sleep] */
int core_breakage_set(struct core_vcpu *vcpu, const struct minivmx_breakage *breakage);
/* What became of it, once: -ENOENT if there is none of this vCPU. [sleep] */
int core_breakage_result(struct core_vcpu *vcpu, struct minivmx_breakage_result *result);

#ifdef __cplusplus
}
#endif
#endif
