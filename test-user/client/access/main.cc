// SPDX-License-Identifier: GPL-2.0-only
//
// access_test: what the CPU does with each kind of access under each kind of page-table entry.
#include "../common/harness.hpp"

int main(int argc, char **argv)
{
    return test::run_all(argc, argv, "access");
}
