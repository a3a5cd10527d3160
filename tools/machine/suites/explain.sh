# SPDX-License-Identifier: GPL-2.0-only
# suite: minivmx explain tells this machine, and a running vCPU, as they are
# cpu: corei7_haswell_4770 broadwell_ult
# timeout: 200

verdict() {
    if [ "$2" -eq 0 ]; then echo "ok - $1"; else echo "not ok - $1: ${3:-status $2}"; fi
}

# The words of an explanation as JSON, without what it calls the machine.
words() {
    minivmx explain --json "$@" | sed -n '/^  "words"/,$p'
}

minivmx explain >/out 2>/err
[ $? -eq 1 ] && grep -q "modprobe msr" /err
verdict "without the msr device the remedy is named" $?
minivmx explain --cpu "$MACHINE_CPU" cr3-load-exiting | grep -q "^CR3-load exiting: off"
verdict "a CPU that ships needs no device" $?

minivmx explain --cpu "$MACHINE_CPU" --param ept=0 --param vpid=0 cr3-load-exiting | grep -q "^CR3-load exiting: on"
verdict "options that may be repeated leave the control's name alone" $?

# Whether the timer may be used hangs on the TSC's frequency, which is this machine's own.
modprobe msr
words --param preemption_timer=0 >/here && words --param preemption_timer=0 --cpu "$MACHINE_CPU" >/shipped
[ -s /here ] && cmp -s /here /shipped
verdict "this machine is what ships as $MACHINE_CPU" $? "$(diff /here /shipped | head -n 4)"
minivmx diff this "$MACHINE_CPU" --param preemption_timer=0 >/out
grep -q "^no control differs" /out
verdict "and diff agrees" $? "$(tail -n 4 /out)"

minivmx explain --vcpu 1/0/0 >/out 2>/err
[ $? -eq 1 ] && grep -q "the module loaded" /err
verdict "without the module there is no vCPU to explain" $?

# The lines of the bits alone: what comes before them names the machine or the vCPU.
bits() {
    minivmx explain "$@" | sed '1,/^  VMCS field/d'
}

insmod /minivmx.ko report=0 || exit 1
[ -d /sys/kernel/debug/minivmx ] || mount -t debugfs debugfs /sys/kernel/debug
minivmx run --regs none /guests/spin.bin >/out 2>/dev/null </dev/null &
pid=$!
while ! grep -q spinning /out && [ -d /proc/$pid ]; do usleep 100000; done

for field in pin secondary; do
    # `minivmx run` gives the guest all of CPUID that there is; nothing of these words moves while it runs.
    bits --vcpu $pid/0/0 --field $field >/running
    bits --guest-cpuid all --field $field >/foretold
    [ -s /running ] && cmp -s /running /foretold
    verdict "the $field controls of a running vCPU are as foretold" $? "$(diff /foretold /running | grep "^[-+] " | head -n 4)"
done
minivmx explain --vcpu $pid/0/0 cr3-load-exiting | grep -q "ept-cr3-invlpg: with EPT"
verdict "one of its controls" $?
minivmx explain --vcpu $pid/0/0 --json >/json
[ $? -eq 0 ] && grep -q '"source": "vCPU '$pid'/0/0"' /json
verdict "as JSON" $?
minivmx explain --vcpu $pid/0/9 2>/err
[ $? -eq 1 ] && grep -q "there are $pid/0/0" /err
verdict "a vCPU that is not there: those that are" $?
[ "$(stat -c %a /sys/kernel/debug/minivmx/$pid/0/0/controls)" = 400 ]
verdict "only root may read" $?
kill -INT $pid
wait $pid
minivmx explain --vcpu $pid/0/0 2>/err
[ $? -eq 1 ] && grep -q "no virtual machine runs" /err
verdict "and is gone with its VM" $?
/tests/ioctl_test control
verdict "ioctl_test" $?
rmmod minivmx || exit 1
exit 0
