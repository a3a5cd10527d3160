# SPDX-License-Identifier: GPL-2.0-only
# suite: loading and unloading, many times; parameters, the report and the node
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

load() { insmod /minivmx.ko report=0 "$@"; }

rounds() {
    i=0
    while [ $i -lt "$1" ]; do
        load && life run && rmmod minivmx || return 1
        i=$((i + 1))
    done
}

check "loads, runs a guest and unloads 5 times" rounds 5
before=$(kernel_memory)
check "and 50 times more" rounds 50
# One leaked page a round would be 200 KiB.
no_more_than "50 rounds leave no memory behind" $before 150
check "VMX is off after them: kvm_intel runs a guest" sh -c 'modprobe kvm-intel && life run /dev/kvm && modprobe -r kvm-intel'

# ---- The node ---------------------------------------------------------------------------------------------------------

load
same "the node's mode is 0600" "$(stat -c %a /dev/minivmx)" 600
same "the node is root's" "$(stat -c %u:%g /dev/minivmx)" 0:0
refused "a second insmod says that it is loaded" "File exists" load
start idle idle /dev/minivmx
refused "unload is refused while a VM is open" "temporarily unavailable" rmmod minivmx
stop "the VM does not mind" idle
exec 9</dev/minivmx
refused "unload is refused while the device is open" "temporarily unavailable" rmmod minivmx
exec 9<&-
check "unload works when all is closed" rmmod minivmx
refused "the node is gone" "No such file" ls -l /dev/minivmx

# ---- Parameters ------------------------------------------------------------------------------------------------------

value() { cat $PARAMETERS/$1; }

load
for name in vnmi ept eptad vpid unrestricted_guest preemption_timer error_on_inconsistent_vmcs_config; do
    same "$name is Y by default" "$(value $name)" Y
done
for name in vnmi ept vpid unrestricted_guest preemption_timer flexpriority report ple_gap; do
    same "$name can only be read" "$(stat -c %a $PARAMETERS/$name)" 444
done
same "dump_invalid_vmcs can be changed" "$(stat -c %a $PARAMETERS/dump_invalid_vmcs)" 644
echo 1 >$PARAMETERS/dump_invalid_vmcs
same "and keeps what is written" "$(value dump_invalid_vmcs)" Y
rmmod minivmx

for name in vnmi ept vpid unrestricted_guest preemption_timer flexpriority; do
    load $name=0
    same "$name=0 reads N" "$(value $name)" N
    [ $name != ept ] || same "ept=0 takes unrestricted_guest with it" "$(value unrestricted_guest)" N
    rmmod minivmx
done
load ple_gap=0 dump_invalid_vmcs=1
same "ple_gap=0 reads 0" "$(value ple_gap)" 0
same "dump_invalid_vmcs=1 reads Y" "$(value dump_invalid_vmcs)" Y
rmmod minivmx
refused "a value that is no bool is refused" "nvalid" load ept=maybe

# ---- The report --------------------------------------------------------------------------------------------------------

report_lines() {
    forget_log
    insmod /minivmx.ko report=$1 && rmmod minivmx
    dmesg | grep -c minivmx
}

same "report=0 says nothing" "$(report_lines 0)" 0
short=$(report_lines 1)
if [ "$short" -ge 6 ] && [ "$short" -le 40 ]; then
    pass "report=1 fits a screen"
else
    fail "report=1 fits a screen" "$short lines"
fi
long=$(report_lines 2)
if [ "$long" -ge 100 ]; then
    pass "report=2 names every bit"
else
    fail "report=2 names every bit" "$long lines"
fi
