# SPDX-License-Identifier: GPL-2.0-only
#
# Boots Linux in Debian's QEMU inside the machine. A suite reads this file, says which hypervisor, and boots:
#
#   hypervisor minivmx            or kvm; QEMU opens /dev/kvm, which leads to it
#   boot pc host 2                a machine type, a CPU model, a number of CPUs; more arguments go to QEMU
#
# Each finding of the guest (tools/guests/linux) becomes a test of its own. TASKSET=1 moves QEMU's threads from one CPU to
# another all the time.

CMDLINE="console=ttyS0 quiet expect_input=1"
KERNEL=/linux/bzImage
MEMORY=128
# Seconds of the machine's time.
LIMIT=60

# A guest that is gone must not end the suite that sends it a line.
trap '' PIPE

hypervisor() {
    device=$1
    failed=${failed:-0}
    case $1 in
    minivmx)
        # shellcheck disable=SC2086
        insmod /minivmx.ko report=0 $PARAMS || exit 1
        ln -sf minivmx /dev/kvm
        ;;
    kvm) modprobe kvm-intel || exit 1 ;;
    esac
    [ -p /tmp/input ] || mkfifo /tmp/input
}

# The command line's words for a machine type.
machine_type() {
    case $1 in
    microvm) echo "microvm,pit=on,pic=on,rtc=on,acpi=off" ;;
    *) echo "$1" ;;
    esac
}

expectations() {
    echo "expect_cpus=$2"
    # The machine's own CPU has it, so a guest that sees that CPU does, too.
    if [ "$1" = host ] && grep -qw avx /proc/cpuinfo; then echo "expect_avx=1"; fi
    # microvm has no keyboard controller and, like this, no ACPI to ask for a reset.
    if [ "$3" = microvm ]; then echo "reboot=t"; fi
}

# Every thread of the process $1 to one CPU, then to the next.
move_about() {
    cpu=1
    while kill -0 "$1" 2>/dev/null; do
        for thread in /proc/"$1"/task/*; do
            taskset -p $cpu "${thread##*/}" >/dev/null 2>&1
            cpu=$((3 - cpu))
        done
        usleep 200000
    done
}

# What the guest found, with this boot's name before it; and that it came to its end.
findings() {
    tr -d '\r' </tmp/output >/tmp/text
    sed -n "s/^\(ok\|not ok\) - /\1 - $1: /p" /tmp/text
    if grep -q '^guest: done' /tmp/text && [ "$2" -eq 0 ]; then
        echo "ok - $1: power-off"
    else
        echo "not ok - $1: QEMU's status $2; its last line: $(tail -n 1 /tmp/text)"
        grep -v '^ok' /tmp/text | tail -n 20
        failed=1
    fi
}

# A line for the guest as soon as it waits for one.
answer() {
    while kill -0 "$1" 2>/dev/null; do
        if grep -q '^waiting for input' /tmp/output; then
            echo hello
            return
        fi
        usleep 50000
    done
}

boot() {
    type=$1
    model=$2
    cpus=$3
    shift 3
    name="$device: $type $model x$cpus${TASKSET:+, moved about}"
    : >/tmp/output
    begin=$(cut -d ' ' -f 1 /proc/uptime)
    timeout -s KILL $LIMIT qemu-system-x86_64 -accel kvm -M "$(machine_type "$type")" -cpu "$model" -smp "$cpus" \
        -m $MEMORY -display none -monitor none -serial stdio -no-reboot -kernel $KERNEL -initrd /linux/initrd \
        -append "$CMDLINE $(expectations "$model" "$cpus" "$type" | tr '\n' ' ')" "$@" \
        </tmp/input >/tmp/output 2>&1 &
    qemu=$!
    exec 3>/tmp/input
    if [ -n "$TASKSET" ]; then move_about $qemu & fi
    answer $qemu >&3
    wait $qemu
    status=$?
    exec 3>&-
    wait
    findings "$name" $status
    echo "$name: $begin s to $(cut -d ' ' -f 1 /proc/uptime) s of the machine's time"
}
