/* SPDX-License-Identifier: GPL-2.0-only */
/* What the guest (assembly) and its client agree on. */
#pragma once

#define LOOP_CODE  0x1000
#define LOOP_COUNT 0x2000
/* FS's base: 16 pages that the guest writes. */
#define LOOP_PAGES  0x10000
#define LOOP_MEMORY 0x20000
/* kvmclock's page; the guest never looks at it. */
#define LOOP_CLOCK 0x3000

#define LOOP_FACTOR  1664525
#define LOOP_SUMMAND 1013904223
