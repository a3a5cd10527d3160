# SPDX-License-Identifier: GPL-2.0-only
# suite: what becomes of accesses under all kinds of page-table entries, by the words of the manual
# cpu: core2_penryn_t9600 corei7_haswell_4770 corei7_skylake_x
# timeout: 300

failed=0
# tables PARAMETERS [TEST...]
tables() {
    parameter=${1:-default}
    # shellcheck disable=SC2086 # words are meant
    insmod /minivmx.ko report=0 $1 || exit 1
    [ $# = 0 ] || shift
    /tests/access_test "$@" >/tmp/out || failed=1
    sed "s/^\(ok\|not ok\|skip\) - access\./&$parameter./" /tmp/out
    rmmod minivmx || failed=1
}

tables ept=0
[ "$MACHINE_CPU" = core2_penryn_t9600 ] || tables ""
exit $failed
