# SPDX-License-Identifier: GPL-2.0-only
# suite: emulated instructions beside the CPU's own, where VM entry refuses the guest's state
# cpu: corei5_lynnfield_750 corei7_haswell_4770
# timeout: 300

insmod /minivmx.ko report=0 unrestricted_guest=0 || exit 1
/tests/emulation_test
failed=$?
rmmod minivmx || failed=1
exit $failed
