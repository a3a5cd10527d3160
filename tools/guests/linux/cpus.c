// SPDX-License-Identifier: GPL-2.0-only
/* The CPUs that are there, work done by each, and the interrupts they send each other. */
#define _GNU_SOURCE
#include "findings.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

bool run_on(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0 && sched_getcpu() == cpu;
}

static int count_primes(int below)
{
    int count = 0;

    for (int number = 2; number < below; number++) {
        int divisor = 2;

        while (divisor * divisor <= number && number % divisor != 0)
            divisor++;
        count += divisor * divisor > number;
    }
    return count;
}

/* The same sequence in the x87's registers and in SSE's: all steps are exact in both. */
static bool floating_point_agrees(void)
{
    long double x87 = 1;
    volatile double sse = 1;

    for (int i = 0; i < 1000; i++) {
        x87 = x87 * 3 - (double)(int)(x87 * 2);
        sse = sse * 3 - (double)(int)(sse * 2);
        if (x87 > 1e6 || x87 < -1e6) {
            x87 = i + 0.5;
            sse = i + 0.5;
        }
    }
    return (double)x87 == sse;
}

void find_cpus(int cpus)
{
    enum { PRIMES_BELOW_10000 = 1229 };
    const long wanted = expected("expect_cpus", cpus);
    char name[64];

    snprintf(name, sizeof(name), "%ld CPUs are online", wanted);
    finding(cpus == wanted, name, "%d are", cpus);
    for (int cpu = 0; cpu < cpus; cpu++) {
        const bool there = run_on(cpu);
        const int primes = count_primes(10000);

        snprintf(name, sizeof(name), "CPU %d: work pinned to it", cpu);
        finding(there && sched_getcpu() == cpu && primes == PRIMES_BELOW_10000, name,
                "on CPU %d, %d primes below 10000", sched_getcpu(), primes);
        snprintf(name, sizeof(name), "CPU %d: floating point", cpu);
        finding(floating_point_agrees(), name, "x87 and SSE disagree");
    }
}

/* Answers each byte of `from` with one to `to`, on `cpu`. Never returns. */
static void echo_on(int cpu, int from, int to)
{
    char byte;

    run_on(cpu);
    while (read(from, &byte, 1) == 1 && write(to, &byte, 1) == 1)
        ;
    _exit(0);
}

/* Wakes a process on `cpu` and is woken by it, which takes an IPI each way: both CPUs are idle. */
static int exchange_bytes(int cpu, int rounds)
{
    int there[2], back[2], done = 0;
    char byte = 0;
    pid_t child;

    if (pipe(there) != 0 || pipe(back) != 0)
        return 0;
    child = fork();
    if (child == 0) {
        close(there[1]);
        echo_on(cpu, there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    while (done < rounds && write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1) {
        // Long enough for the other one to go to sleep.
        sleep_ms(1);
        done++;
    }
    close(there[1]);
    close(back[0]);
    waitpid(child, NULL, 0);
    return done;
}

static long ipis(int cpu)
{
    return interrupts("RES", cpu) + interrupts("CAL", cpu);
}

void find_ipis(int cpus)
{
    enum { ROUNDS = 20 };
    char name[64];

    for (int cpu = 1; cpu < cpus; cpu++) {
        long there, back;
        int done;

        run_on(0);
        there = ipis(cpu);
        back = ipis(0);
        done = exchange_bytes(cpu, ROUNDS);
        there = ipis(cpu) - there;
        back = ipis(0) - back;
        snprintf(name, sizeof(name), "CPU %d: IPIs from and to CPU 0", cpu);
        finding(done == ROUNDS && there >= ROUNDS / 2 && back >= ROUNDS / 2, name,
                "%d of %d rounds, %ld IPIs there, %ld back", done, ROUNDS, there, back);
        printf("CPU %d: %ld IPIs there, %ld back\n", cpu, there, back);
    }
}
