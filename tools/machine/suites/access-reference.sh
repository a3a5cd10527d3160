# SPDX-License-Identifier: GPL-2.0-only
# suite: kvm_intel, with EPT and without, gives the same answers
# cpu: core2_penryn_t9600 corei7_skylake_x tigerlake
# cpus: 2
# timeout: 3600
# in: test-long

failed=0
for ept in 0 1; do
    [ "$ept" = 0 ] || [ "$MACHINE_CPU" != core2_penryn_t9600 ] || continue
    modprobe kvm-intel ept=$ept || exit 1
    /tests/access_test --device /dev/kvm >/tmp/out || failed=1
    sed "s/^\(ok\|not ok\|skip\) - access\./&kvm-ept=$ept./" /tmp/out
    rmmod kvm_intel || failed=1
done
exit $failed
