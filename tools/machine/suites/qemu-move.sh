# SPDX-License-Identifier: GPL-2.0-only
# suite: a Linux that boots on minivmx moves to another QEMU in the middle, with its memory and the state of its vCPUs
# cpu: corei7_haswell_4770
# memory: 900
# ips: 100000000
# carry: qemu linux
# add: test-user/linux/boot.sh:/tests/boot.sh
# timeout: 900

. /tests/boot.sh

hypervisor minivmx
migrate 0.7 pc host 1
migrate 1.2 pc qemu64 2
migrate 1.2 q35 host 2
migrate 0.6 microvm host 1
exit $failed
