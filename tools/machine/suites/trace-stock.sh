# SPDX-License-Identifier: GPL-2.0-only
# suite: tracepoints, counters and minivmx stat, on Debian's own kernels
# kernel: stock stock-6.12
# cpu: corei7_haswell_4770
# watch: no
# add: test-user/life/life.sh:/tests/life.sh
# add: test-user/client/trace/trace.sh:/tests/trace.sh
# timeout: 900
# in: test-long

. /tests/trace.sh
