# SPDX-License-Identifier: GPL-2.0-only
# suite: the same guests with each parameter off that leaves them runnable
# cpu: corei7_haswell_4770
# timeout: 600

failed=0
# ours PARAMETERS [TEST...]
ours() {
    parameter=$(echo "$1" | tr ' ' ,)
    # shellcheck disable=SC2086 # words are meant
    insmod /minivmx.ko report=0 $1 || exit 1
    shift
    /tests/guest_test "$@" >/tmp/out || failed=1
    sed "s/^\(ok\|not ok\|skip\) - guest\./&$parameter./" /tmp/out
    rmmod minivmx || failed=1
}

# kvm_intel is no judge of vnmi=0: in this machine its guest hangs as soon as a second NMI waits for the first one's end.
ours vnmi=0 nmi interrupt
ours "preemption_timer=0 vpid=0 flexpriority=0 eptad=0 pml=0"
if [ "$LONG" = 1 ]; then
    for one in vnmi=0 preemption_timer=0 vpid=0 flexpriority=0 eptad=0 pml=0; do
        ours $one
    done
fi
exit $failed
