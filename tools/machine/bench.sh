# SPDX-License-Identifier: GPL-2.0-only
#
# What tools/machine/bench runs inside the machine: the cases of `minivmx bench`, then two boots of Linux; or CASES only.
# PARAMS are for both modules. Each report of JSON is between two lines that begin with @.

DEVICES="--device /dev/kvm --device /dev/minivmx"

# report NAME ARGUMENTS...
report() {
    name=$1
    shift
    # shellcheck disable=SC2086
    minivmx bench $DEVICES --json "$@" >/tmp/report 2>/tmp/errors
    status=$?
    cat /tmp/errors
    # 1 and 4: the report says which case failed, and why.
    if [ $status -ne 0 ] && [ $status -ne 1 ] && [ $status -ne 4 ]; then exit 1; fi
    if ! [ -s /tmp/report ]; then exit 1; fi
    echo "@report $name"
    cat /tmp/report
    echo "@end"
}

# pml=0: Bochs logs addresses within pages, of which kvm_intel complains (SDM Vol. 3C, 29.3.6: bits 11:0 are 0), so both
# go without.
# shellcheck disable=SC2086
modprobe kvm-intel pml=0 $PARAMS && insmod /minivmx.ko report=0 pml=0 $PARAMS || exit 1
[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debugfs /sys/kernel/debug || exit 1
# A small machine has them off.
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled

cat >/tmp/qemu <<'END'
[ "$DEVICE" = /dev/kvm ] || mount --bind "$DEVICE" /dev/kvm || exit 1
qemu-system-x86_64 -accel kvm -M q35 -cpu host -m 128 -display none -monitor none -serial stdio -no-reboot \
    -kernel /linux/bzImage -initrd /linux/initrd -append "console=ttyS0 quiet" >/tmp/qemu.out 2>&1 </dev/null
status=$?
[ "$DEVICE" = /dev/kvm ] || umount /dev/kvm
grep -q '^guest: done' /tmp/qemu.out || { tail -n 3 /tmp/qemu.out; exit 1; }
exit $status
END

if [ -n "$CASES" ]; then
    # shellcheck disable=SC2086
    report cases $CASES
    exit 0
fi
report cases
report linux --turns 1 --kernel /linux/bzImage --initrd /linux/initrd
report qemu --turns 1 --command "sh /tmp/qemu"
exit 0
