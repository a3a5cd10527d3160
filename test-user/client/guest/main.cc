// SPDX-License-Identifier: GPL-2.0-only
//
// guest_test: guests of every mode, and every exit they take to userspace.
#include "../common/harness.hpp"

int main(int argc, char **argv)
{
    return test::run_all(argc, argv, "guest");
}
