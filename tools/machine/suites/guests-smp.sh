# SPDX-License-Identifier: GPL-2.0-only
# suite: several VMs and vCPUs on two CPUs, moved between them, killed and interrupted
# cpus: 2
# timeout: 600

insmod /minivmx.ko report=0 || exit 1
/tests/guest_test smp_ signal kick kill exit_with host_ fpu_
failed=$?
rmmod minivmx || failed=1
exit $failed
