# SPDX-License-Identifier: GPL-2.0-only
# suite: a fresh vCPU's control words equal kvm_intel's, for each parameter, each disabled exit, with and without CPUID
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_haswell_4770 corei7_skylake_x tigerlake
# add: test-user/client/controls/known-differences:/tests/known-differences
# timeout: 900

# The dumps are read from /dev/kmsg; on the console they would cost more than all the rest.
echo 1 >/proc/sys/kernel/printk

kvm=$(find /lib/modules -name kvm-intel.ko)
modprobe kvm-intel && rmmod kvm_intel || exit 1 # kvm itself stays
[ "$LONG" = 1 ] && plan=full || plan=pairs

/tests/controls_test plan $plan >/tmp/plan
while read -r params rows; do
    set=$(echo "$params" | tr , ' ')
    [ "$set" != default ] || set=
    insmod "$kvm" $set dump_invalid_vmcs=1 emulate_invalid_guest_state=0 || exit 1
    /tests/controls_test dump /dev/kvm "$params" $rows >>/tmp/kvm || echo "not ok - controls of kvm_intel with $params: no dump"
    rmmod kvm_intel || exit 1
    insmod /minivmx.ko $set dump_invalid_vmcs=1 report=0 || exit 1
    /tests/controls_test dump /dev/minivmx "$params" $rows >>/tmp/ours || echo "not ok - controls of minivmx with $params: no dump"
    rmmod minivmx || exit 1
done </tmp/plan
/tests/controls_test compare "$MACHINE_CPU" /tmp/kvm /tmp/ours /tests/known-differences
