# SPDX-License-Identifier: GPL-2.0-only
#
# Sourced by suites: trace_test, `minivmx stat`, and the module's unload with traces on and files open.

. /tests/life.sh # check

# says NAME STATUS TEXT COMMAND...: it ends with STATUS and TEXT is in what it prints.
says() {
    name=$1
    status=$2
    text=$3
    shift 3
    "$@" >/tmp/out 2>&1
    got=$?
    if [ $got -ne "$status" ]; then
        echo "not ok - $name: status $got, expected $status: $(tail -n 1 /tmp/out)"
    elif ! grep -q -e "$text" /tmp/out; then
        echo "not ok - $name: no '$text' in its output: $(head -n 1 /tmp/out)"
    else
        echo "ok - $name"
    fi
}

debugfs=/sys/kernel/debug/minivmx
events=/sys/kernel/debug/tracing/events/minivmx

says "stat without the module names the remedy" 1 "load the module" minivmx stat --once
insmod /minivmx.ko report=0 || exit 1
/tests/trace_test || failed=1

says "stat without a VM" 0 "no vCPU" minivmx stat --once --interval 0
says "stat refuses what is no name" 2 "expected PID, PID/VM or PID/VM/VCPU" minivmx stat --once 12/x
says "stat refuses a VM that isn't there" 2 "no VM exists" minivmx stat --once 1/0

# A guest that writes to its serial port for ever.
minivmx run --regs none /guests/echo.bin --input /dev/zero >/dev/null 2>&1 </dev/null &
guest=$!
while ! grep -qs IO_INSTRUCTION $debugfs/$guest/0/0/exits; do usleep 100000; done
says "stat's table" 0 "^IO_INSTRUCTION  *[0-9,.]*  *[0-9.]* %  *[0-9,]*$" minivmx stat --once $guest
says "stat by VM" 0 "^$guest/0 minivmx  *[0-9,]" minivmx stat --once --by vm
says "stat by vCPU" 0 "^$guest/0/0 minivmx  *[0-9,]" minivmx stat --once --by vcpu $guest/0
says "stat names the vCPUs there are" 2 "there are $guest/0/0" minivmx stat --once $guest/1
minivmx stat --once --interval 0 --json $guest/0/0 >/tmp/one
says "stat as JSON" 0 "\"name\": \"$guest/0/0\"" cat /tmp/one
# What it says of the vCPU lies between what the file said before and says after it.
count_in_file() { sed -n 's/^IO_INSTRUCTION //p' $debugfs/$guest/0/0/exits; }
count_in_json() { sed -n '/"vcpus"/,$s/.*"IO_INSTRUCTION": \([0-9]*\).*/\1/p' "$1"; }
before=$(count_in_file)
minivmx stat --once --interval 0 --json $guest >/tmp/one
after=$(count_in_file)
json=$(count_in_json /tmp/one)
check "stat says what the file says: $before <= $json <= $after" \
    test "$before" -le "$json" -a "$json" -le "$after"

# An open file of debugfs keeps the module; so does the VM.
exec 5<$debugfs/$guest/0/0/controls
kill -KILL $guest
wait $guest 2>/dev/null
while [ -e $debugfs/$guest ]; do usleep 100000; done
says "unload is refused while a file is open" 1 "unavailable" rmmod minivmx
exec 5<&-

if [ -d $events ]; then
    echo 1 >$events/enable
    minivmx run --regs none /guests/hello-long.bin >/dev/null 2>&1
    check "traced" grep -q " exit: .*/0/0 HLT rip" /sys/kernel/debug/tracing/trace
fi
check "unload with everything traced" rmmod minivmx
check "its directory is gone" test ! -e $debugfs
check "and its tracepoints" test ! -e $events
check "loaded again" insmod /minivmx.ko report=0
check "nothing is traced then" sh -c "[ ! -d $events ] || [ \$(cat $events/enable) = 0 ]"
check "unloaded again" rmmod minivmx
exit ${failed:-0}
