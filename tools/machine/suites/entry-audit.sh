# SPDX-License-Identifier: GPL-2.0-only
# suite: VM entries broken one field at a time: each fails, and the audit names the field that the emulator names
# cpu: corei7_haswell_4770 tigerlake
# build: test
# judge: test-user/client/breakage/judge.py
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
