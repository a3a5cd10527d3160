// SPDX-License-Identifier: GPL-2.0-only
/* /proc/interrupts: a line for each source, NAME: and a number for each CPU. */
#include "findings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls for each line what `counts` says of it. Returns the sum of what it returned. */
static long sum_lines(long (*counts)(char *line, const char *wanted, int cpu), const char *wanted,
                      int cpu)
{
    char line[512];
    long sum = 0;
    FILE *file = fopen("/proc/interrupts", "r");

    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file))
        sum += counts(line, wanted, cpu);
    fclose(file);
    return sum;
}

static long count_of_cpu(char *line, const char *wanted, int cpu)
{
    char *at = line + strspn(line, " ");
    const size_t length = strlen(wanted);

    if (strncmp(at, wanted, length) != 0 || at[length] != ':')
        return 0;
    at += length + 1;
    for (int skipped = 0; skipped < cpu; skipped++)
        strtol(at, &at, 10);
    return strtol(at, NULL, 10);
}

static long count_of_device(char *line, const char *wanted, int cpu)
{
    char *at = strchr(line, ':');
    long sum = 0;

    (void)cpu;
    line[strcspn(line, "\n")] = '\0';
    if (!at || strlen(line) < strlen(wanted) ||
        strcmp(line + strlen(line) - strlen(wanted), wanted) != 0)
        return 0;
    for (char *next = at + 1, *end;; next = end) {
        const long count = strtol(next, &end, 10);

        if (end == next)
            return sum;
        sum += count;
    }
}

long interrupts(const char *name, int cpu)
{
    return sum_lines(count_of_cpu, name, cpu);
}

long device_interrupts(const char *device)
{
    return sum_lines(count_of_device, device, 0);
}
