# SPDX-License-Identifier: GPL-2.0-only
# suite: the emulated machine itself has what the other suites rely on
# cpu: all

check() {
    name=$1
    shift
    if "$@" >/tmp/out 2>&1; then
        echo "ok - $name"
    else
        echo "not ok - $name: $(tail -n 1 /tmp/out)"
    fi
}

check "the CPU has VMX" grep -qw vmx /proc/cpuinfo
check "kvm_intel loads" modprobe kvm-intel
check "/dev/kvm appears" test -c /dev/kvm
check "kvm_intel unloads" modprobe -r kvm-intel
check "msr loads" modprobe msr
check "/dev/cpu/0/msr appears" test -c /dev/cpu/0/msr
check "kunit loads" modprobe kunit enable=1
