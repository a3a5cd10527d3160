# SPDX-License-Identifier: GPL-2.0-only
# suite: many more accesses; and kvm_intel, with EPT and without, gives the same answers
# cpu: core2_penryn_t9600 corei7_skylake_x tigerlake
# cpus: 2
# timeout: 3600
# in: test-long

failed=0
# named NAME COMMAND...: the command's test lines with a name
named() {
    name=$1
    shift
    "$@" >/tmp/out || failed=1
    sed "s/^\(ok\|not ok\|skip\) - access\./&$name./" /tmp/out
}

export ACCESS_SHARE=4 ACCESS_STEPS=20000
insmod /minivmx.ko report=0 ept=0 || exit 1
named ept=0 /tests/access_test --slow 10
rmmod minivmx || failed=1
if [ "$MACHINE_CPU" != core2_penryn_t9600 ]; then
    insmod /minivmx.ko report=0 || exit 1
    named ept=1 /tests/access_test --slow 10
    rmmod minivmx || failed=1
fi
export ACCESS_SHARE=24 ACCESS_STEPS=3000
for ept in 0 1; do
    [ "$ept" = 0 ] || [ "$MACHINE_CPU" != core2_penryn_t9600 ] || continue
    modprobe kvm-intel ept=$ept || exit 1
    named kvm-ept=$ept /tests/access_test --slow 10 --device /dev/kvm
    rmmod kvm_intel || failed=1
done
exit $failed
