# SPDX-License-Identifier: GPL-2.0-only
# suite: exits cost no more beside kvm_intel than data/bench says; minivmx bench itself
# kernel: lean stock
# cpu: corei7_skylake_x
# memory: 1024
# ips: 100000000
# watch: no
# add: data/bench:/data/bench
# timeout: 900

# What is expected was measured by tools/machine/bench in such a machine, with these parameters; `make bench` renews it.

BOTH="--device /dev/kvm --device /dev/minivmx"
EXITS="cpuid vmcall rdmsr wrmsr cr0-write ioeventfd pio-out pio-in pio-string mmio-write mmio-read self-ipi apic-timer"
EXITS_WITHOUT_EPT="cpuid pio-out mmio-write mmio-read"
PAGING="cr3-switch cr3-switch-many demand-fault fork mprotect"

# ends NAME STATUS TEXT ARGUMENTS...: `minivmx bench` ends with STATUS, and TEXT is in its output.
ends() {
    name=$1
    status=$2
    text=$3
    shift 3
    minivmx bench "$@" >/tmp/output 2>&1 </dev/null
    got=$?
    if [ $got -ne "$status" ]; then
        echo "not ok - $name: status $got, expected $status: $(tail -n 1 /tmp/output)"
    elif ! grep -qF -e "$text" /tmp/output; then
        echo "not ok - $name: no '$text' in its output"
    else
        echo "ok - $name"
    fi
}

# compare NAME CASES: their ratios with those of data/bench/NAME.json, a test each.
compare() {
    # shellcheck disable=SC2086
    minivmx bench $BOTH --expect "/data/bench/$1.json" $2 >/tmp/table 2>/tmp/errors
    status=$?
    cat /tmp/errors /tmp/table
    # A line "  cpuid  0.351 was 0.350   +0.3 %, as expected" is a test.
    sed -n '/^Ratios beside/,$ {
        s/^  \([a-z0-9-]*\)  *\([0-9.]* was [0-9.]*  *[-+].*\(as expected\|shrank\)\)$/ok - \1: \2/p
        s/^  \([a-z0-9-]*\)  *\([0-9.]* was .*\(GREW\|NOT .*\)\)$/not ok - \1: \2; if there is a good reason, `make bench` renews data\/bench/p
    }' /tmp/table >/tmp/lines
    cat /tmp/lines
    if [ "$(wc -l </tmp/lines)" -ne "$(echo "$2" | wc -w)" ]; then
        echo "not ok - $1: every case was compared: status $status, $(wc -l </tmp/lines) of $(echo "$2" | wc -w): $(tail -n 1 /tmp/errors)"
    else
        echo "ok - $1: every case was compared"
    fi
}

if [ "$MACHINE_KERNEL" = lean ]; then
    ends "without kvm_intel" 1 "cannot open /dev/kvm: No such file or directory; is the module kvm_intel loaded?" --device /dev/kvm
    ends "without minivmx" 1 "load the module"
    ends "a device of another kind" 1 "/dev/null is not a KVM device" --device /dev/null
    ends "an unknown case" 2 "did you mean cpuid?" cpuidd
    ends "a file that is none" 2 "cannot open" --from /nowhere
    ends "a file that isn't ours" 2 "/script: not JSON" --from /script
    ends "a file without end" 2 "more than" --from /dev/zero
    ends "three devices" 2 "3 devices, expected one or two" -d a -d b -d c
    ends "no turn" 2 "--turns: 0 is out of range" --turns 0
    ends "a tolerance that is no number" 2 "--tolerance: 'x' is not a number" --tolerance x
    ends "ratios of one device" 2 "--device must be given twice" --expect /script
    ends "a picture of one device" 2 "--device must be given twice" --plot /tmp/x
    ends "measuring what was saved" 2 "nothing is measured" --from /script cpuid
    ends "an initrd without a kernel" 2 "is for --kernel" --initrd /script
    ends "a kernel that is none" 2 "not a Linux bzImage" --kernel /script
    ends "the list" 0 "CPUID leaf 0" --list
fi

modprobe kvm-intel pml=0 && insmod /minivmx.ko report=0 pml=0 || exit 1

if [ "$MACHINE_KERNEL" = lean ]; then
    umount /sys/kernel/debug 2>/dev/null
    ends "without debugfs exits are not counted, and it says so" 0 "VM exits were not counted" cpuid
fi
[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debugfs /sys/kernel/debug || exit 1

compare "$MACHINE_KERNEL" "$EXITS"

if [ "$MACHINE_KERNEL" = lean ]; then
    # shellcheck disable=SC2086
    minivmx bench $BOTH --json cpuid >/tmp/saved 2>/tmp/errors || echo "not ok - a report is saved"
    ends "a saved report is shown" 0 "CPUID leaf 0" --from /tmp/saved
    ends "and drawn" 0 "CPUID leaf 0" --from /tmp/saved --plot /tmp/plot.svg
    grep -q "<svg .*" /tmp/plot.svg && grep -q "cpuid</text>" /tmp/plot.svg || echo "not ok - the picture has a bar"
    # Of what is saved of minivmx, 100 ticks did not count.
    sed 's/"device": "\/dev\/minivmx"/"device": "\/dev\/minivmx", "waiting": 100/' /tmp/saved >/tmp/less
    # shellcheck disable=SC2086
    ends "what has grown is told" 1 "GREW" $BOTH --expect /tmp/less cpuid
    # shellcheck disable=SC2086
    ends "unless so much is tolerated" 0 "as expected" $BOTH --expect /tmp/less --tolerance 500 cpuid
    # shellcheck disable=SC2086
    ends "a picture that can't be written" 1 "/nowhere/x: cannot write" $BOTH --plot /nowhere/x cpuid
    # shellcheck disable=SC2086
    ends "a command that fails" 1 "exit status 3" $BOTH --command "exit 3"
    minivmx bench --device /dev/kvm --turns 1 --command "minivmx bench --device /dev/minivmx cpuid" >/tmp/output 2>&1
    [ $? -eq 0 ] && echo "ok - a command's output is not the report's" || echo "not ok - a command: $(tail -n 1 /tmp/output)"
fi
rmmod minivmx
if [ "$MACHINE_KERNEL" = lean ]; then
    rmmod kvm-intel
    modprobe kvm-intel pml=0 ept=0 && insmod /minivmx.ko report=0 pml=0 ept=0 || exit 1
    compare lean-ept0 "$PAGING $EXITS_WITHOUT_EPT"
    rmmod minivmx
fi
exit 0
