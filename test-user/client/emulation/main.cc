// SPDX-License-Identifier: GPL-2.0-only
//
// emulation_test: what the emulator makes of an instruction, beside what the CPU makes of it. For a
// module without unrestricted guest, where a guest state that VM entry refuses is emulated.
#include "../common/harness.hpp"

int main(int argc, char **argv)
{
    return test::run_all(argc, argv, "emulation");
}
