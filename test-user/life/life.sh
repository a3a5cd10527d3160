# SPDX-License-Identifier: GPL-2.0-only
#
# What the life-cycle suites share; they read it with ". /tests/life.sh".

PARAMETERS=/sys/module/minivmx/parameters

# pass NAME; fail NAME WHY
pass() { echo "ok - $1"; }
fail() { echo "not ok - $1: $2"; }

# check NAME COMMAND...: COMMAND must succeed; what it printed last says why not.
check() {
    name=$1
    shift
    if "$@" >/tmp/check 2>&1; then
        pass "$name"
    else
        fail "$name" "status $?, $(tail -n 1 /tmp/check)"
    fi
}

# refused NAME TEXT COMMAND...: COMMAND must fail, and TEXT be in what it prints.
refused() {
    name=$1
    text=$2
    shift 2
    if "$@" >/tmp/check 2>&1; then
        fail "$name" "it worked"
    elif grep -q -e "$text" /tmp/check; then
        pass "$name"
    else
        fail "$name" "no '$text', but: $(tail -n 1 /tmp/check)"
    fi
}

# same NAME GOT EXPECTED
same() {
    if [ "$2" = "$3" ]; then
        pass "$1"
    else
        fail "$1" "'$2' is not '$3'"
    fi
}

# The kernel's log since the last call of forget_log.
forget_log() { dmesg -c >/dev/null; }
# logged NAME PATTERN: a line of it matches.
logged() {
    if dmesg | grep -q -e "$2"; then
        pass "$1"
    else
        fail "$1" "no '$2' among: $(dmesg | tail -n 2 | tr '\n' ' ')"
    fi
}

# start NAME COMMAND DEVICE [CPU]: life's hold or idle in the background, once its guest runs (has run).
start() {
    rm -f "/tmp/$1.count"
    life "$2" "$3" "/tmp/$1.count" $4 >"/tmp/$1.out" 2>&1 &
    eval "pid_$1=$!"
    tries=0
    until [ "$(count "$1")" -gt 0 ]; do
        tries=$((tries + 1))
        if [ $tries -gt 200 ] || ! kill -0 $! 2>/dev/null; then
            fail "$1 starts" "$(tail -n 1 "/tmp/$1.out")"
            return 1
        fi
        sleep 0.05
    done
}

# How far the guest of NAME came, without leading zeros.
count() {
    number=$(cat "/tmp/$1.count" 2>/dev/null)
    number=$(echo "$number" | sed 's/^0*//')
    echo "${number:-0}"
}

# goes_on TEST NAME: its guest still makes progress.
goes_on() {
    before=$(count "$2")
    tries=0
    while [ $tries -lt 100 ]; do
        if [ "$(count "$2")" -gt "$before" ]; then
            pass "$1"
            return 0
        fi
        tries=$((tries + 1))
        sleep 0.05
    done
    fail "$1" "it stays at $before; $(tail -n 1 "/tmp/$2.out")"
}

# stop TEST NAME: ends it; what its guest computed must be right.
stop() {
    eval "pid=\$pid_$2"
    kill -TERM "$pid" 2>/dev/null
    if wait "$pid"; then
        pass "$1"
    else
        fail "$1" "$(tail -n 1 "/tmp/$2.out")"
    fi
}

# Kills it without notice.
murder() {
    eval "pid=\$pid_$1"
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null
}

# move NAME MASK: binds every thread of it to the CPUs of the hexadecimal mask.
move() {
    eval "pid=\$pid_$1"
    for thread in /proc/$pid/task/*; do
        taskset -p "$2" "${thread##*/}" >/dev/null
    done
}

# Runs a guest on both CPUs and crashes the kernel. The crash kernel gets minivmx and the client, as one more archive behind its
# own.
crash_with_guests() {
    cp /boot/crash-initrd /tmp/initrd || exit 1
    (cd / && printf '%s\n' minivmx.ko tests tests/life.sh bin bin/life | cpio -o -H newc) >>/tmp/initrd 2>/dev/null
    check "a crash kernel can be loaded" kexec-load /boot/bzImage /tmp/initrd /boot/crash-cmdline
    start one hold /dev/minivmx 0
    start two hold /dev/minivmx 1
    goes_on "a guest runs on CPU 0" one
    goes_on "a guest runs on CPU 1" two
    echo c >/proc/sysrq-trigger
    fail "the kernel crashes" "it goes on"
}

# Kilobytes of kernel memory in use that a module could leak, after what may be given back is given back.
kernel_memory() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    sleep 0.3
    awk '/^(SUnreclaim|VmallocUsed|Percpu):/ { sum += $2 } END { print sum }' /proc/meminfo
}

# no_more_than NAME BEFORE KIB: kernel memory grew by less since it was BEFORE. What was freed may come back later (RCU, the page
# counters of each CPU, slabs still kept by the other CPU), so it gets some seconds; what is lost never comes back.
no_more_than() {
    tries=0
    while now=$(kernel_memory) && [ $((now - $2)) -ge "$3" ]; do
        tries=$((tries + 1))
        if [ $tries -ge 20 ]; then
            fail "$1" "$2 KiB before, $now KiB after"
            return
        fi
    done
    pass "$1"
}
