// SPDX-License-Identifier: GPL-2.0-only
/* Clocks that go, sleeps that last as long as they should, and the timer interrupts that end them.
 */
#include "findings.h"

#include <stdio.h>
#include <time.h>

double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

void sleep_ms(long milliseconds)
{
    const struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    nanosleep(&time, NULL);
}

void find_clock(void)
{
    struct timespec wall;
    const double begin = now_ms();
    double last = begin;
    int backwards = 0;

    for (int i = 0; i < 10000; i++) {
        const double now = now_ms();

        backwards += now < last;
        last = now;
    }
    finding(backwards == 0, "the clock never goes backwards", "%d times of 10000", backwards);
    finding(last > begin, "the clock goes", "it stood at %f ms", begin);
    clock_gettime(CLOCK_REALTIME, &wall);
    printf("wall clock: %lld\n", (long long)wall.tv_sec);
}

/* Sleeps are what timer interrupts end: an idle CPU gets no others. */
static void find_timer(int cpu)
{
    enum { SLEEPS = 5, LENGTH = 10, LONGEST = 2000 };
    char name[64];
    const long before = interrupts("LOC", cpu);
    const double begin = now_ms();
    double took;
    long came;

    for (int i = 0; i < SLEEPS; i++)
        sleep_ms(LENGTH);
    took = now_ms() - begin;
    came = interrupts("LOC", cpu) - before;
    snprintf(name, sizeof(name), "CPU %d: sleeps last", cpu);
    finding(took >= SLEEPS * LENGTH && took < LONGEST, name, "%.1f ms, expected %d", took,
            SLEEPS * LENGTH);
    snprintf(name, sizeof(name), "CPU %d: timer interrupts", cpu);
    finding(came >= SLEEPS, name, "%ld during %d sleeps", came, SLEEPS);
    printf("CPU %d: %.1f ms of sleep, %ld timer interrupts\n", cpu, took, came);
}

void find_timers(int cpus)
{
    for (int cpu = 0; cpu < cpus; cpu++)
        if (run_on(cpu))
            find_timer(cpu);
}
