/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the guest's process 1 finds out about its machine. Each finding is one line:
 *
 *   ok - WHAT
 *   not ok - WHAT: WHY
 *
 * The kernel's command line tells it what to expect; all are optional, and arrive as environment
 * variables:
 *
 *   expect_cpus=N   so many CPUs
 *   expect_avx=1    a CPU with AVX
 *   expect_input=1  somebody answers the line "waiting for input" with the line "hello"
 */
#ifndef MINIVMX_GUEST_LINUX_FINDINGS_H
#define MINIVMX_GUEST_LINUX_FINDINGS_H

#include <stdbool.h>
#include <stdint.h>

/* Prints a finding. `why` is printed only when it is not `good`. */
void finding(bool good, const char *what, const char *why, ...)
    __attribute__((format(printf, 3, 4)));

/* The number that the kernel's command line gave for `name`, or `otherwise`. */
long expected(const char *name, long otherwise);

/* Binds the caller to one CPU; false when the kernel refuses. */
bool run_on(int cpu);

/* Milliseconds of CLOCK_MONOTONIC. */
double now_ms(void);
void sleep_ms(long milliseconds);

/* How often /proc/interrupts says that `cpu` got an interrupt of the line `name` ("LOC", "CAL"). */
long interrupts(const char *name, int cpu);

/* The same for a device's line, on all CPUs: the one that ends in `device` ("ttyS0"). */
long device_interrupts(const char *device);

void find_cpus(int cpus);
void find_clock(void);
void find_timers(int cpus);
void find_ipis(int cpus);
void find_vector_registers(int cpus);
void find_input(void);

#endif
