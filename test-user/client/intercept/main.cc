// SPDX-License-Identifier: GPL-2.0-only
//
// intercept_test: MINIVMX_SET_INTERCEPTS, each kind of exit and each kind of answer.
#include "../common/harness.hpp"

int main(int argc, char **argv)
{
    return test::run_all(argc, argv, "intercept");
}
