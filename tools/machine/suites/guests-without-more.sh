# SPDX-License-Identifier: GPL-2.0-only
# suite: without EPT or unrestricted guest, and without what else can be turned off; ioctls and asked-for exits there, too
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_skylake_x corei7_haswell_4770
# add: test-user/without.sh:/tests/without.sh
# in: test-long
# timeout: 2400

. /tests/without.sh

failed=0
# with PARAMETERS PROGRAM [TEST...]
with() {
    label=$(echo "$1" | tr ' ' ,)
    # shellcheck disable=SC2086 # words are meant
    insmod /minivmx.ko report=0 $PARAMS $1 || exit 1
    shift
    "$@" >/tmp/out || failed=1
    sed "s/^\(ok\|not ok\|skip\) - [a-z]*\./&$label./" /tmp/out
    rmmod minivmx || failed=1
}

with "" /tests/ioctl_test
with "" /tests/intercept_test
with vpid=0 /tests/guest_test
with vnmi=0 /tests/guest_test
with flexpriority=0 /tests/guest_test
with "vpid=0 vnmi=0 flexpriority=0 preemption_timer=0" /tests/guest_test
# Neither of the two.
with "ept=0 unrestricted_guest=0" /tests/guest_test
exit $failed
