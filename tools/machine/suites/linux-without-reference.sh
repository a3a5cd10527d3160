# SPDX-License-Identifier: GPL-2.0-only
# suite: the same boots on kvm_intel with the same parameters, so that a failure on minivmx is minivmx's
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_skylake_x corei7_haswell_4770
# ips: 100000000
# carry: qemu linux
# add: test-user/without.sh:/tests/without.sh
# add: test-user/linux/boot.sh:/tests/boot.sh
# timeout: 1800
# in: test-long

. /tests/without.sh
. /tests/boot.sh

hypervisor kvm
goes_without
LONG=1
boots_without
exit $failed
