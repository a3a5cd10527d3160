// SPDX-License-Identifier: GPL-2.0-only
/*
 * kexec-load KERNEL INITRD CMDLINE-FILE
 *
 * Loads a crash kernel: after this, a panic boots KERNEL in the memory that crashkernel= reserved.
 * Runs in the emulated machine, which has no kexec-tools.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_or_die(const char *path)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0) {
        fprintf(stderr, "kexec-load: cannot open %s: %s\n", path, strerror(errno));
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    char cmdline[2048] = "";
    ssize_t length;

    if (argc != 4) {
        fprintf(stderr, "usage: kexec-load KERNEL INITRD CMDLINE-FILE\n");
        return 2;
    }
    length = read(open_or_die(argv[3]), cmdline, sizeof(cmdline) - 1);
    if (length < 0) {
        fprintf(stderr, "kexec-load: cannot read %s: %s\n", argv[3], strerror(errno));
        return 1;
    }
    cmdline[strcspn(cmdline, "\n")] = '\0';
    /* The system call wants the length with the terminating zero. */
    if (syscall(SYS_kexec_file_load, open_or_die(argv[1]), open_or_die(argv[2]),
                strlen(cmdline) + 1, cmdline, KEXEC_FILE_ON_CRASH)) {
        fprintf(stderr, "kexec-load: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
