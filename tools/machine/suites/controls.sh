# SPDX-License-Identifier: GPL-2.0-only
# suite: a fresh vCPU's control words equal kvm_intel's, for each parameter, each disabled exit, with and without CPUID
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_haswell_4770 corei7_skylake_x tigerlake
# add: test-user/client/controls/known-differences:/tests/known-differences
# add: test-user/client/controls/controls.sh:/tests/controls.sh
# timeout: 1800

. /tests/controls.sh

if [ "$LONG" = 1 ]; then
    compare_controls full
else
    compare_controls pairs
fi
