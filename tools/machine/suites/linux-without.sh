# SPDX-License-Identifier: GPL-2.0-only
# suite: Linux boots without EPT or unrestricted guest: by minivmx run, and in QEMU with its firmware
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_skylake_x corei7_haswell_4770
# ips: 100000000
# carry: qemu linux
# add: test-user/without.sh:/tests/without.sh
# add: test-user/linux/boot.sh:/tests/boot.sh
# timeout: 1800

. /tests/without.sh
. /tests/boot.sh

hypervisor minivmx
goes_without
boots_without
exit $failed
