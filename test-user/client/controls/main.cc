// SPDX-License-Identifier: GPL-2.0-only
//
// controls_test: compares the VMX control words of a fresh vCPU between two modules.
#include <cstdio>
#include <cstring>

#include "controls.hpp"

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "plan") &&
        (!strcmp(argv[2], "pairs") || !strcmp(argv[2], "full")))
        return print_plan(!strcmp(argv[2], "full"));
    if (argc >= 5 && !strcmp(argv[1], "dump"))
        return dump_rows(argv[2], argv[3], argv + 4);
    if (argc == 6 && !strcmp(argv[1], "compare"))
        return compare_files(argv[2], argv[3], argv[4], argv[5]);
    fprintf(stderr,
            "usage: %s plan pairs|full\n"
            "       %s dump DEVICE PARAMS EXITS:CPUID:APIC ...\n"
            "       %s compare MODEL KVM-ROWS OUR-ROWS KNOWN-DIFFERENCES\n",
            argv[0], argv[0], argv[0]);
    return 2;
}
