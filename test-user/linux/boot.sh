# SPDX-License-Identifier: GPL-2.0-only
#
# Boots Linux inside the machine, in Debian's QEMU and by `minivmx run`. A suite reads this file, says which hypervisor,
# and boots:
#
#   hypervisor minivmx            or kvm; QEMU opens /dev/kvm, which leads to it
#   boot pc host 2                a machine type, a CPU model, a number of CPUs; more arguments go to QEMU
#   boot_small 2                  minivmx run --kernel with so many CPUs; more arguments go to it
#
# The suites run at 100 million emulated instructions a second. A boot takes 7 s of the machine's time (10 to 20 s of a
# host CPU's) with QEMU's default devices, 4 s without a screen, 2.5 s by minivmx run; Debian's kernel, 70 s. At 1,000
# million, waits of the firmware cost more instructions, and a guest without kvm-clock measures its TSC badly; at 10
# million, an exit takes so much of the guest's time that its kernel finds no usable timer.
#
# Each finding of the guest (tools/guests/linux) becomes a test of its own. MOVED=1 moves the program's threads from one
# CPU to another all the time.

CMDLINE="console=ttyS0 quiet expect_input=1"
KERNEL=/linux/bzImage
MEMORY=128
# Seconds of the machine's time.
LIMIT=60
failed=0

# A guest that is gone must not end the suite that sends it a line.
trap '' PIPE
mkfifo /tmp/input

hypervisor() {
    device=$1
    case $1 in
    minivmx)
        # shellcheck disable=SC2086
        insmod /minivmx.ko report=0 $PARAMS || exit 1
        ln -sf minivmx /dev/kvm
        ;;
    kvm)
        # The name that led to minivmx is in the way of the real one.
        rm -f /dev/kvm
        # shellcheck disable=SC2086
        modprobe kvm-intel $PARAMS || exit 1
        ;;
    esac
}

# The command line's words for a machine type.
machine_type() {
    case $1 in
    microvm) echo "microvm,pit=on,pic=on,rtc=on,acpi=off" ;;
    *) echo "$1" ;;
    esac
}

# The kernel's command line for a CPU model, a number of CPUs and a machine type.
command_line() {
    printf '%s expect_cpus=%s' "$CMDLINE" "$2"
    # microvm has no keyboard controller and, like this, no ACPI to ask for a reset.
    if [ "$3" = microvm ]; then printf ' reboot=t'; fi
    # A guest that sees the machine's own CPU sees that it has AVX.
    if [ "$1" = host ] && grep -qw avx /proc/cpuinfo; then printf ' expect_avx=1'; fi
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

# What the guest found, with this boot's name before it; and that it came to its end.
findings() {
    tr -d '\r' </tmp/output >/tmp/text
    sed -n "s/^\(ok\|not ok\) - /\1 - $1: /p" /tmp/text
    if grep -q '^guest: done' /tmp/text && [ "$2" -eq 0 ]; then
        echo "ok - $1: power-off"
    else
        echo "not ok - $1: status $2; its last line: $(tail -n 1 /tmp/text)"
        grep -v '^ok' /tmp/text | tail -n 20
        failed=1
    fi
}

# watch NAME COMMAND...: runs the command, which boots the guest, with the serial port on its standard input and output.
watch() {
    name="$device: $1${MOVED:+, moved about}"
    shift
    : >/tmp/output
    begin=$(cut -d ' ' -f 1 /proc/uptime)
    timeout -s KILL $LIMIT "$@" </tmp/input >/tmp/output 2>&1 &
    program=$!
    exec 3>/tmp/input
    if [ -n "$MOVED" ]; then move_about $program & fi
    answer $program >&3
    wait $program
    status=$?
    exec 3>&-
    wait
    findings "$name" $status
    echo "$name: $begin s to $(cut -d ' ' -f 1 /proc/uptime) s of the machine's time"
}

boot() {
    type=$1
    model=$2
    cpus=$3
    shift 3
    words=$(command_line "$model" "$cpus" "$type")
    watch "$type $model x$cpus" qemu-system-x86_64 -accel kvm -M "$(machine_type "$type")" -cpu "$model" -smp "$cpus" \
        -m $MEMORY -display none -monitor none -serial stdio -no-reboot -kernel $KERNEL -initrd /linux/initrd \
        -append "$words" "$@"
}

boot_small() {
    cpus=$1
    shift
    watch "minivmx run x$cpus" minivmx run --device /dev/kvm --kernel $KERNEL --initrd /linux/initrd --cpus "$cpus" \
        --mem ${MEMORY}M --cmdline "$(command_line host "$cpus")" "$@"
}

# migrate SECONDS TYPE MODEL CPUS: like boot, but after so many seconds everything moves to another QEMU, by a file: memory by way
# of dirty logging, each vCPU's state by KVM's ioctls. What the first one's guest began the second one's must end.
migrate() {
    seconds=$1
    name="$device: $2 $3 x$4, moved to another QEMU after $seconds s"
    words=$(CMDLINE="console=ttyS0 quiet" command_line "$3" "$4" "$2")
    set -- qemu-system-x86_64 -accel kvm -M "$(machine_type "$2")" -cpu "$3" -smp "$4" -m $MEMORY -display none -no-reboot \
        -nodefaults -kernel $KERNEL -initrd /linux/initrd -append "$words"
    rm -f /tmp/moved
    (sleep "$seconds"; echo 'migrate "exec:cat >/tmp/moved"'; echo quit) |
        timeout -s KILL $LIMIT "$@" -serial file:/tmp/first -monitor stdio >/tmp/monitor 2>&1
    timeout -s KILL $LIMIT "$@" -serial file:/tmp/second -monitor none -incoming "exec:cat /tmp/moved" >>/tmp/monitor 2>&1
    status=$?
    if grep -q '^guest: done' /tmp/first; then
        echo "not ok - $name: the first guest had come to its end before"
        failed=1
        return
    fi
    cat /tmp/first /tmp/second >/tmp/output
    findings "$name" $status
}
