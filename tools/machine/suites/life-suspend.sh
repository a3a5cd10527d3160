# SPDX-License-Identifier: GPL-2.0-only
# suite: suspend, as far as each test level of the kernel goes, with a VM open and a vCPU running
# cpus: 2
# cmdline: no_console_suspend
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

# How long the kernel waits at the level before it resumes, in seconds.
echo 1 >/sys/module/suspend/parameters/pm_test_delay || exit 1

suspend() { echo mem >/sys/power/state; }

insmod /minivmx.ko report=0 || exit 1
start awake hold /dev/minivmx
stop "a guest before anything slept computed the right thing" awake
same "and heard of no sleep" "$(tail -n 1 /tmp/awake.out)" "life: the guest was never stopped"
start zero hold /dev/minivmx 0
start one hold /dev/minivmx 1
start idler idle /dev/minivmx
for level in freezer devices platform processors core; do
    echo $level >/sys/power/pm_test || fail "$level is a level" "$(cat /sys/power/pm_test)"
    forget_log
    check "suspend to the level $level" suspend
    logged "the kernel went there" "suspend debug: Waiting"
    same "both CPUs are back after $level" "$(cat /sys/devices/system/cpu/online)" 0-1
    goes_on "the guest of CPU 0 goes on after $level" zero
    goes_on "so does the one that was on CPU 1" one
    check "a new VM works after $level" life run
done
stop "the guest of CPU 0 computed the right thing" zero
stop "so did the other" one
stop "so did the vCPU that was idle" idler
for guest in zero one; do
    same "kvmclock tells guest $guest that it was stopped" "$(tail -n 1 /tmp/$guest.out)" "life: the guest was stopped"
done

# Without a VM nothing may come back on.
check "suspend to the level core without a VM" suspend
check "VMX is off afterwards" sh -c 'modprobe kvm-intel && life run /dev/kvm && modprobe -r kvm-intel'
check "unloads" rmmod minivmx
