// SPDX-License-Identifier: GPL-2.0-only
//
// ioctl_test: every ioctl with good and bad arguments; the errno is KVM's, and the VM stays usable.
#include "../common/harness.hpp"

int main(int argc, char **argv)
{
    return test::run_all(argc, argv, "ioctl");
}
