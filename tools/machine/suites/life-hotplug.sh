# SPDX-License-Identifier: GPL-2.0-only
# suite: CPUs go offline and come back, with vCPUs on them and without
# cpus: 2
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

cpu1() { echo "$1" >/sys/devices/system/cpu/cpu1/online; }
online() { cat /sys/devices/system/cpu/online; }
# A CPU that was left in VMX operation, or with CR4.VMXE set, would be refused by either module.
vmx_is_free() { check "$1" sh -c 'modprobe kvm-intel && life run /dev/kvm && modprobe -r kvm-intel'; }

insmod /minivmx.ko report=0 || exit 1
check "CPU 1 goes offline while there is no VM" cpu1 0
check "a guest runs meanwhile" life run
check "CPU 1 comes back" cpu1 1
check "a guest runs again" life run

start runner hold /dev/minivmx 1
start idler idle /dev/minivmx
i=0
while [ $i -lt 3 ]; do
    i=$((i + 1))
    # The kernel forgot where it was bound to when that CPU went.
    move runner 2
    goes_on "round $i: a vCPU runs on CPU 1" runner
    check "round $i: CPU 1 goes offline under a running vCPU" cpu1 0
    same "round $i: it is off" "$(online)" 0
    goes_on "round $i: the guest goes on elsewhere" runner
    check "round $i: CPU 1 comes back" cpu1 1
    goes_on "round $i: the guest goes on" runner
    start "new$i" hold /dev/minivmx 1
    goes_on "round $i: a new VM runs on CPU 1, so it is in VMX operation" "new$i"
    stop "round $i: and computed the right thing" "new$i"
done
stop "the guest that was moved computed the right thing" runner
stop "so did the vCPU that was idle all the time" idler
vmx_is_free "VMX is off on every CPU afterwards"

# The last VM ends while its CPU is away.
start runner hold /dev/minivmx 1
cpu1 0
stop "a VM ends while CPU 1 is away" runner
cpu1 1
vmx_is_free "CPU 1 does not come back with VMX on"

# The module comes and goes while CPU 1 is away.
rmmod minivmx
cpu1 0
check "loads with CPU 1 offline" insmod /minivmx.ko report=0
start runner hold /dev/minivmx
check "CPU 1 comes while a VM is open" cpu1 1
start late hold /dev/minivmx 1
goes_on "a VM runs on it" late
stop "and computed the right thing" late
stop "so did the first" runner
cpu1 0
check "unloads with CPU 1 offline" rmmod minivmx
cpu1 1
vmx_is_free "VMX is free"

check "minivmx loads again on both" insmod /minivmx.ko report=0
check "and runs a guest" life run
