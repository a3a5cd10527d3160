# SPDX-License-Identifier: GPL-2.0-only
# suite: a page of 1 GiB under the guest, and no code in large pages where iTLB multihit applies
# kernel: lean stock
# cpu: corei7_skylake_x
# memory: 2560
# cmdline: hugepagesz=1G hugepages=1
# watch: no
# timeout: 300

insmod /minivmx.ko report=0 || exit 1
[ -d /sys/kernel/debug/minivmx ] || mount -t debugfs debugfs /sys/kernel/debug
/tests/trace_test large_pages
failed=$?
rmmod minivmx || failed=1
exit $failed
