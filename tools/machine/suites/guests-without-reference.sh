# SPDX-License-Identifier: GPL-2.0-only
# suite: kvm_intel without EPT or unrestricted guest, by the same tests: where it fails, the test says so
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_skylake_x corei7_haswell_4770
# add: test-user/without.sh:/tests/without.sh
# in: test-long
# timeout: 1200
# allow: KVM: debugfs: duplicate directory

. /tests/without.sh

failed=0
# shellcheck disable=SC2086 # words are meant
modprobe kvm-intel $PARAMS || exit 1
goes_without
/tests/ioctl_test --device /dev/kvm || failed=1
/tests/guest_test --device /dev/kvm || failed=1
exit $failed
