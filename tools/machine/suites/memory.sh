# SPDX-License-Identifier: GPL-2.0-only
# suite: dirty logging each way, and memory that moves under a running guest, on two CPUs
# cpu: corei7_skylake_x
# cpus: 2
# timeout: 600

failed=0
for parameters in "pml=1" "pml=0" "eptad=0"; do
    echo "with $parameters"
    insmod /minivmx.ko report=0 $parameters || exit 1
    /tests/guest_test dirty memory moving || failed=1
    rmmod minivmx || failed=1
done
exit $failed
