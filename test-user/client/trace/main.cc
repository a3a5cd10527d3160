// SPDX-License-Identifier: GPL-2.0-only
//
// trace_test: tracepoints, counters and debugfs, against what a guest did. Only for /dev/minivmx.
#include "../common/harness.hpp"

int main(int argc, char **argv)
{
    return test::run_all(argc, argv, "trace");
}
