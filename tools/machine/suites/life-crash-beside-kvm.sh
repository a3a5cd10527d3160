# SPDX-License-Identifier: GPL-2.0-only
# suite: the same crash while kvm_intel, which is loaded too, has the kernel's only emergency callback
# in: test-long
# cpus: 2
# memory: 640
# crash: life-crash-after.sh
# allow: Kernel panic - not syncing: sysrq triggered crash
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

modprobe kvm-intel || exit 1
insmod /minivmx.ko report=0 || exit 1
crash_with_guests
