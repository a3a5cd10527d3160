# SPDX-License-Identifier: GPL-2.0-only
# suite: the same guests without EPT, or without unrestricted guest
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_skylake_x corei7_haswell_4770
# add: test-user/without.sh:/tests/without.sh
# add: tools/machine/demo.sh:/tests/demo.sh
# timeout: 900

. /tests/without.sh

failed=0
# shellcheck disable=SC2086 # words are meant
insmod /minivmx.ko report=0 $PARAMS || exit 1
goes_without
/tests/guest_test || failed=1
rmmod minivmx || failed=1

# The guests that ship with the command: one for each mode, and all transitions.
# shellcheck disable=SC2086
insmod /minivmx.ko report=0 $PARAMS || exit 1
for guest in hello-real hello-protected hello-paged hello-pae hello-long modes; do
    if minivmx run /guests/$guest.bin >/tmp/out 2>&1; then
        echo "ok - minivmx run $guest.bin"
    else
        echo "not ok - minivmx run $guest.bin: $(tail -n 1 /tmp/out)"
        failed=1
    fi
done
rmmod minivmx || failed=1

# What `make run` shows.
if PARAMS=$PARAMS INTERACTIVE='' /bin/sh /tests/demo.sh >/tmp/out 2>&1; then
    echo "ok - the demonstration"
else
    echo "not ok - the demonstration: $(tail -n 1 /tmp/out)"
    failed=1
fi
exit $failed
