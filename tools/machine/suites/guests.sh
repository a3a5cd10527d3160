# SPDX-License-Identifier: GPL-2.0-only
# suite: guests of every mode, and each exit they take to userspace
# cpu: corei7_haswell_4770 corei7_skylake_x tigerlake
# timeout: 600

insmod /minivmx.ko report=0 || exit 1
/tests/guest_test
failed=$?
rmmod minivmx || failed=1
exit $failed
