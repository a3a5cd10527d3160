# SPDX-License-Identifier: GPL-2.0-only
# suite: the same QEMU and guest on kvm_intel, so that a failure on minivmx is minivmx's
# cpu: corei7_haswell_4770
# ips: 100000000
# carry: qemu linux
# add: test-user/linux/boot.sh:/tests/boot.sh
# add: test-user/linux/boots.sh:/tests/boots.sh
# timeout: 1200
# in: test-long

. /tests/boot.sh
. /tests/boots.sh

hypervisor kvm
boots_on_one_cpu
exit $failed
