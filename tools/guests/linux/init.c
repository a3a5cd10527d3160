// SPDX-License-Identifier: GPL-2.0-only
/*
 * Process 1 of a Linux guest that has nothing else: looks at its machine, says what it finds, and
 * powers off.
 */
#include "findings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

void finding(bool good, const char *what, const char *why, ...)
{
    va_list arguments;

    printf(good ? "ok - %s" : "not ok - %s: ", what);
    if (!good) {
        va_start(arguments, why);
        vprintf(why, arguments);
        va_end(arguments);
    }
    printf("\n");
    fflush(stdout);
}

long expected(const char *name, long otherwise)
{
    const char *value = getenv(name);

    return value ? strtol(value, NULL, 10) : otherwise;
}

static void mount_kernel_filesystems(void)
{
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    if (mount("proc", "/proc", "proc", 0, NULL) != 0)
        finding(false, "/proc is there", "%s", strerror(errno));
    mount("sysfs", "/sys", "sysfs", 0, NULL);
}

static void say_clocksource(void)
{
    const char *path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    char name[64] = "unknown";
    FILE *file = fopen(path, "r");

    if (file) {
        if (!fgets(name, sizeof(name), file))
            name[0] = '\0';
        fclose(file);
    }
    name[strcspn(name, "\n")] = '\0';
    printf("clocksource: %s\n", name);
}

int main(void)
{
    const int cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);

    mount_kernel_filesystems();
    printf("guest: started, %d CPUs\n", cpus);
    say_clocksource();
    find_cpus(cpus);
    find_clock();
    find_timers(cpus);
    find_ipis(cpus);
    find_vector_registers(cpus);
    find_input();
    printf("guest: done\n");
    fflush(stdout);
    // The last bytes are still on their way through the serial port.
    sleep_ms(20);
    // Without ACPI there is no switch; a reset is an end, too.
    reboot(access("/sys/firmware/acpi", F_OK) == 0 ? RB_POWER_OFF : RB_AUTOBOOT);
    return 1;
}
