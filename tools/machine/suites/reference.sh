# SPDX-License-Identifier: GPL-2.0-only
# suite: the clients' expectations hold for kvm_intel, which they were taken from
# cpu: corei7_haswell_4770 corei7_skylake_x
# in: test-long
# timeout: 900
# allow: KVM: debugfs: duplicate directory

# pml=0: Bochs logs addresses within pages, of which kvm_intel complains (SDM Vol. 3C, 29.3.6: bits 11:0 are 0).
modprobe kvm-intel pml=0 || exit 1
/tests/ioctl_test --device /dev/kvm
failed=$?
/tests/guest_test --device /dev/kvm || failed=1
exit $failed
