# SPDX-License-Identifier: GPL-2.0-only
# suite: Debian's kernel as the guest of Debian's QEMU, on kvm_intel and on minivmx
# cpu: corei7_haswell_4770
# ips: 100000000
# memory: 768
# carry: qemu linux linux-stock
# add: test-user/linux/boot.sh:/tests/boot.sh
# timeout: 2400
# in: test-long

. /tests/boot.sh

KERNEL=/linux/stock
MEMORY=256
LIMIT=600
hypervisor kvm
boot pc host 1
modprobe -r kvm-intel || exit 1
hypervisor minivmx
boot pc host 1
exit $failed
