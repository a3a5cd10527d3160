# SPDX-License-Identifier: GPL-2.0-only
# suite: tracepoints, counters and minivmx stat, against what guests did
# cpu: corei7_skylake_x
# watch: no
# add: test-user/life/life.sh:/tests/life.sh
# add: test-user/client/trace/trace.sh:/tests/trace.sh
# timeout: 300

. /tests/trace.sh
