/* SPDX-License-Identifier: GPL-2.0-only */
/* The host's CPU and kernel, described for the core. */
#ifndef MINIVMX_HOST_INFO_H
#define MINIVMX_HOST_INFO_H

struct core_host_info;
struct core_params;

/* Fills info; params are as the user gave them. [sleep] */
void describe_host(struct core_host_info *info, const struct core_params *params);

#endif
