# SPDX-License-Identifier: GPL-2.0-only
# suite: the same for six times as many combinations and longer sequences, also where SMEP and SMAP are
# cpu: core2_penryn_t9600 corei7_skylake_x tigerlake
# cpus: 2
# add: tools/machine/suites/access.sh:/tests/access.sh
# timeout: 3600
# in: test-long

export ACCESS_SHARE=4 ACCESS_STEPS=20000
. /tests/access.sh
