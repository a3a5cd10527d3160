# SPDX-License-Identifier: GPL-2.0-only
# suite: VM entries broken one field at a time: each fails, and the audit names the field that the emulator names
# cpu: corei7_haswell_4770 tigerlake
# build: test
# judge: test-user/client/breakage/judge.py
# allow: minivmx_watch: false alarm: .*GUEST_IA32_DEBUGCTL
# timeout: 300

insmod /minivmx_test.ko report=0 || exit 1
/tests/breakage_test
failed=$?

# Bit 18 of the taint: "an in-kernel test has been run".
if [ $(($(cat /proc/sys/kernel/tainted) >> 18 & 1)) = 1 ]; then
    echo "ok - the test build taints the kernel"
else
    echo "not ok - the test build taints the kernel: $(cat /proc/sys/kernel/tainted)"
fi
rmmod minivmx_test || failed=1

# The watcher has seen the same entries from outside; one of them the emulator made in spite of the audit.
watched() { cat /sys/module/minivmx_watch/parameters/$1; }
seen="audited $(watched audited), confirmed $(watched confirmed), missed $(watched missed), false alarms $(watched false_alarms)"
if [ $(watched confirmed) -ge 200 ] && [ $(watched false_alarms) = 1 ]; then
    echo "ok - the watcher of other tests tells right from wrong: $seen"
else
    echo "not ok - the watcher of other tests tells right from wrong: $seen"
fi

# The shipped module knows no such ioctl.
insmod /minivmx.ko report=0 || exit 1
if /tests/breakage_test >/tmp/shipped; then
    echo "not ok - the shipped module can't be broken: it can"
elif grep -q "MINIVMX_BREAK_ENTRY.*EINVAL" /tmp/shipped; then
    echo "ok - the shipped module can't be broken"
else
    echo "not ok - the shipped module can't be broken: $(tail -n 1 /tmp/shipped)"
fi
rmmod minivmx || failed=1
exit $failed
