# SPDX-License-Identifier: GPL-2.0-only
# suite: parameters read back what the CPU has, as kvm_intel's do
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_sandy_bridge_2600k
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

NAMES="vnmi preemption_timer ept eptad vpid unrestricted_guest flexpriority pml"

values() {
    for name in $NAMES; do
        echo "$name=$(cat /sys/module/$1/parameters/$name)"
    done
}

modprobe kvm-intel || exit 1
values kvm_intel >/tmp/kvm
modprobe -r kvm-intel || exit 1
insmod /minivmx.ko report=0 || exit 1
values minivmx >/tmp/ours
rmmod minivmx || exit 1

for name in $NAMES; do
    same "$name reads as kvm_intel's" "$(grep "^$name=" /tmp/ours)" "$(grep "^$name=" /tmp/kvm)"
done
case $MACHINE_CPU in
core2_penryn_t9600) lacks="ept eptad unrestricted_guest pml" ;;
corei5_lynnfield_750) lacks="eptad unrestricted_guest pml" ;;
*) lacks="pml" ;;
esac
for name in $lacks; do
    same "$name, which this CPU lacks, reads N" "$(grep "^$name=" /tmp/ours)" "$name=N"
done
