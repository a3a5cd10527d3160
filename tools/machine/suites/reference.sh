# SPDX-License-Identifier: GPL-2.0-only
# suite: the clients' expectations hold for kvm_intel, which they were taken from
# cpu: corei7_haswell_4770 corei7_skylake_x
# in: test-long
# timeout: 900
# allow: KVM: debugfs: duplicate directory

modprobe kvm-intel || exit 1
/tests/ioctl_test --device /dev/kvm
failed=$?
/tests/guest_test --device /dev/kvm || failed=1
exit $failed
