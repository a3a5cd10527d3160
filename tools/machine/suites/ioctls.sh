# SPDX-License-Identifier: GPL-2.0-only
# suite: every ioctl with good and bad arguments, answered as kvm_intel answers
# kernel: lean stock
# timeout: 600

insmod /minivmx.ko report=0 || exit 1
/tests/ioctl_test
failed=$?
# The stock kernel's machine takes long to boot: what it has to show of guests is shown in the same one.
if [ "$MACHINE_KERNEL" = stock ]; then
    /tests/guest_test || failed=1
fi
rmmod minivmx || failed=1
exit $failed
