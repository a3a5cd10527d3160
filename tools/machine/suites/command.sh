# SPDX-License-Identifier: GPL-2.0-only
# suite: the minivmx command and the guests that come with it, on both devices
# cpu: corei7_skylake_x
# timeout: 400

# ends NAME DEVICE STATUS TEXT ARGUMENTS...: `minivmx run` ends with STATUS, and TEXT is in its output.
ends() {
    name="$2: $1"
    device=$2
    status=$3
    text=$4
    shift 4
    minivmx run --device "$device" --regs none "$@" >/out 2>/err </dev/null
    got=$?
    if [ $got -ne "$status" ]; then
        echo "not ok - $name: status $got, expected $status: $(tail -n 1 /err)"
    elif ! cat /out /err | grep -qF -e "$text"; then
        echo "not ok - $name: no '$text' in its output"
    else
        echo "ok - $name"
    fi
}

# The same on any device that speaks KVM's API.
guests() {
    ends "hello-real" "$1" 0 "read at 0fff:0010: '!'" /guests/hello-real.bin
    ends "hello-protected" "$1" 0 "memory: 65536 KiB" /guests/hello-protected.bin
    ends "hello-paged" "$1" 0 "remapped to the next frame:            beef" /guests/hello-paged.bin
    ends "hello-pae" "$1" 0 "the first still here" /guests/hello-pae.bin
    ends "hello-long" "$1" 0 "= 16000000056000000049" /guests/hello-long.bin
    ends "the way to long mode and back" "$1" 0 "real mode again" /guests/modes.bin
    ends "the reset vector" "$1" 0 "F000:FFF0" /guests/reset.bin
    ends "primes" "$1" 0 "There are 1229 primes" /guests/primes.bin
    ends "cpuid" "$1" 0 "64-bit long mode" /guests/cpuid.bin
    ends "the tour of exits" "$1" 0 "all as it should be" /guests/exits.bin
    ends "floating point" "$1" 0 ".:*@@@@@@@@@@@@@@@@@-@@+:..." /guests/mandelbrot.bin
    ends "four vCPUs" "$1" 0 "at 40000, as it must be" --cpus 4 /guests/smp.bin
    ends "serial input" "$1" 0 "SOME TEXT" --input /text /guests/echo.bin
    ends "started with 32-bit paging" "$1" 0 "CR0=80000031 CR4=00000010" --mode paged /guests/hello-protected.bin
    ends "started with PAE" "$1" 0 "CR0=80000031 CR4=00000020" --mode pae /guests/hello-protected.bin
    ends "a triple fault is a failure" "$1" 1 "triple fault" /guests/triple-fault.bin
    ends "unless it is allowed" "$1" 0 "triple fault" --allow-shutdown /guests/triple-fault.bin
    ends "a timeout" "$1" 124 "stopped after 500 ms" --timeout 0.5 /guests/spin.bin
    ends "registers as JSON" "$1" 0 '"rax": "0xde0b6b47801c3031"' --json /guests/hello-long.bin
}

verdict() {
    if [ "$2" -eq 0 ]; then echo "ok - $1"; else echo "not ok - $1: ${3:-status $2}"; fi
}

interrupt() {
    minivmx run --device "$1" --regs none /guests/spin.bin >/out 2>/err </dev/null &
    pid=$!
    while ! grep -q spinning /out; do usleep 100000; done
    kill -INT $pid
    wait $pid
    [ $? -eq 130 ] && grep -q "stopped by a signal" /err
    verdict "$1: a signal ends it" $?
}

echo "some text" >/text

ends "a missing device" /dev/minivmx 1 "load the module" /guests/hello-real.bin
ends "a missing file" /dev/minivmx 2 "/nowhere: cannot open" /nowhere
ends "a device of another kind" /dev/null 1 "/dev/null is not a KVM device" /guests/hello-real.bin

insmod /minivmx.ko || exit 1
dmesg | sed -n 's/.*minivmx: \(.*\)$/\1/p' | grep -v taint >/report.dmesg
guests /dev/minivmx
interrupt /dev/minivmx
minivmx report >/report 2>&1
[ $? -eq 1 ] && grep -q "modprobe msr" /report
verdict "report without the msr device names the remedy" $?
modprobe msr
minivmx report >/report
verdict "report" $?
head -n "$(wc -l </report.dmesg)" /report | cmp -s - /report.dmesg
verdict "report says what the module says" $?
minivmx report --json | grep -q '"usable": true'
verdict "report --json" $?
rmmod minivmx || exit 1

modprobe kvm-intel || exit 1
guests /dev/kvm
interrupt /dev/kvm
exit 0
