/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MINIVMX_HOST_PFNMAP_H
#define MINIVMX_HOST_PFNMAP_H

#include <minivmx/host.h>

/*
 * host_fault_in()'s part for mappings of physical addresses: fills pfn, writable, device and page.
 * 0, or a negative errno: there is no such mapping at hva. [sleep]
 */
int pfnmap_fault_in(unsigned long hva, bool want_write, struct host_frame *frame);

#endif
