// SPDX-License-Identifier: GPL-2.0-only
/* A line that comes in through the serial port, which takes its interrupt. */
#include "findings.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static void make_raw(void)
{
    struct termios settings;

    if (tcgetattr(STDIN_FILENO, &settings) != 0)
        return;
    settings.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &settings);
}

/* Reads up to a newline, which is not stored; gives up when nothing comes for so long. */
static void read_line(char *line, size_t room, int patience_ms)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    size_t length = 0;
    char byte;

    while (length + 1 < room && poll(&input, 1, patience_ms) == 1 &&
           read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n' && byte != '\r')
        line[length++] = byte;
    line[length] = '\0';
}

void find_input(void)
{
    enum { PATIENCE_MS = 5000 };
    char line[64];
    long before;

    if (!expected("expect_input", 0))
        return;
    make_raw();
    before = device_interrupts("ttyS0");
    printf("waiting for input\n");
    fflush(stdout);
    read_line(line, sizeof(line), PATIENCE_MS);
    finding(strcmp(line, "hello") == 0, "a line of input", "got \"%s\"", line);
    finding(device_interrupts("ttyS0") > before, "the serial port interrupts", "%ld times",
            device_interrupts("ttyS0") - before);
}
