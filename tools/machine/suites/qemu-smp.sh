# SPDX-License-Identifier: GPL-2.0-only
# suite: the same on two CPUs, QEMU's threads on the move
# cpu: corei7_haswell_4770
# cpus: 2
# ips: 100000000
# carry: qemu linux
# add: test-user/linux/boot.sh:/tests/boot.sh
# add: test-user/linux/boots.sh:/tests/boots.sh
# timeout: 1200

. /tests/boot.sh
. /tests/boots.sh

hypervisor minivmx
boots_on_two_cpus
exit $failed
