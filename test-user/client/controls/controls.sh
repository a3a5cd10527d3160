# SPDX-License-Identifier: GPL-2.0-only
# compare_controls PLAN: prints a test line for each of the plan's rows (see controls_test) in which a control word is not
# as by default, with kvm_intel and minivmx loaded in turn with the same parameters.

compare_controls() {
    # The dumps are read from /dev/kmsg; on the console they would cost more than all the rest.
    echo 1 >/proc/sys/kernel/printk
    kvm=$(find /lib/modules -name 'kvm-intel.ko*' | head -n 1)
    modprobe kvm-intel && rmmod kvm_intel || return 1 # kvm itself stays
    /tests/controls_test plan "$1" >/tmp/plan
    failed=0
    while read -r params rows; do
        set=$(echo "$params" | tr , ' ')
        [ "$set" != default ] || set=
        # shellcheck disable=SC2086 # words are meant
        insmod "$kvm" $set dump_invalid_vmcs=1 emulate_invalid_guest_state=0 || return 1
        # shellcheck disable=SC2086
        /tests/controls_test dump /dev/kvm "$params" $rows >>/tmp/kvm || lost kvm_intel
        rmmod kvm_intel || return 1
        # shellcheck disable=SC2086
        insmod /minivmx.ko $set dump_invalid_vmcs=1 report=0 || return 1
        # shellcheck disable=SC2086
        /tests/controls_test dump /dev/minivmx "$params" $rows >>/tmp/ours || lost minivmx
        rmmod minivmx || return 1
    done </tmp/plan
    /tests/controls_test compare "$MACHINE_CPU" /tmp/kvm /tmp/ours /tests/known-differences || failed=1
    return $failed
}

lost() {
    echo "not ok - controls of $1 with $params: no dump"
    failed=1
}
