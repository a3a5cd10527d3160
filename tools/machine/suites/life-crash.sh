# SPDX-License-Identifier: GPL-2.0-only
# suite: the kernel crashes with a vCPU running on each CPU; VMX is off in the crash kernel
# cpus: 2
# memory: 640
# crash: life-crash-after.sh
# allow: Kernel panic - not syncing: sysrq triggered crash
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

insmod /minivmx.ko report=0 || exit 1
crash_with_guests
