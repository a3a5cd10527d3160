# SPDX-License-Identifier: GPL-2.0-only
# suite: each exit that a client can ask for, and each of its answers
# cpu: corei7_haswell_4770 corei7_skylake_x corei7_icelake_u tigerlake
# timeout: 300

insmod /minivmx.ko report=0 || exit 1
/tests/intercept_test
failed=$?
rmmod minivmx || failed=1
exit $failed
