# SPDX-License-Identifier: GPL-2.0-only
# suite: Debian's QEMU boots Linux on minivmx
# cpu: corei7_haswell_4770
# ips: 100000000
# carry: qemu linux
# add: test-user/linux/boot.sh:/tests/boot.sh
# add: test-user/linux/boots.sh:/tests/boots.sh
# timeout: 1200

. /tests/boot.sh
. /tests/boots.sh

hypervisor minivmx
boots_on_one_cpu
exit $failed
