# SPDX-License-Identifier: GPL-2.0-only
# suite: processes killed while their guests run, files closed in any order
# kernel: lean stock
# cpus: 2
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

insmod /minivmx.ko report=0 || exit 1
life close /dev/minivmx
refused "a file that isn't there is named" "/dev/none: ENOENT" life run /dev/none

kill_in_run() {
    start victim hold /dev/minivmx $1 || return
    murder victim
    check "killed in KVM_RUN on CPU $1: the next VM works" life run /dev/minivmx
}

kill_in_run 0
kill_in_run 1
kill_in_run 0
kill_in_run 1
before=$(kernel_memory)
for cpu in 0 1 0 1 0 1 0 1; do
    kill_in_run $cpu
done
# A VM has more than 16 pages in the kernel; all of them lost each time would be 512 KiB. The kernel's own slabs come and go by
# some 100 KiB.
no_more_than "VMs that were killed leave no memory behind" $before 250

start one hold /dev/minivmx 0
start two hold /dev/minivmx 1
start three hold /dev/minivmx
murder two
goes_on "three VMs: the first goes on when the second is killed" one
goes_on "and so does the third" three
stop "the first computed the right thing" one
refused "unload is refused while the third runs" "temporarily unavailable" rmmod minivmx
stop "the third computed the right thing" three
check "unload works" rmmod minivmx
check "VMX is off: kvm_intel runs a guest" sh -c 'modprobe kvm-intel && life run /dev/kvm && modprobe -r kvm-intel'

# The machine goes down with a VM open: its last VMXOFF is the reboot notifier's.
insmod /minivmx.ko report=0
start last hold /dev/minivmx 1
goes_on "a guest runs while the power goes off" last
