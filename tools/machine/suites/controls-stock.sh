# SPDX-License-Identifier: GPL-2.0-only
# suite: a fresh vCPU's control words equal kvm_intel's, on Debian's own kernel
# kernel: stock
# cpu: corei7_skylake_x
# add: test-user/client/controls/known-differences:/tests/known-differences
# add: test-user/client/controls/controls.sh:/tests/controls.sh
# timeout: 900

. /tests/controls.sh

compare_controls pairs
