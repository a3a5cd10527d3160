# SPDX-License-Identifier: GPL-2.0-only
#
# What `make run` shows, inside the machine. Its messages at insmod come from the kernel's log.

step() {
    echo
    echo "machine# $*"
    "$@"
}

# shellcheck disable=SC2086  # PARAMS is a list
step insmod /minivmx.ko $PARAMS || exit 1
if [ -n "$INTERACTIVE" ]; then
    echo "minivmx is loaded. Try: minivmx report; minivmx run /guests/hello-long.bin; ls /guests; rmmod minivmx"
    exit 0
fi

# Whether this version can run the guest on this CPU with these parameters: README, "What RUN can't do yet".
runs() {
    parameters=/sys/module/minivmx/parameters
    [ "$(cat $parameters/ept)" = Y ] || return 1
    [ "$(cat $parameters/unrestricted_guest)" = Y ] || [ "$1" = hello-long ]
}

for guest in hello-real hello-protected hello-long; do
    if runs $guest; then
        step minivmx run /guests/$guest.bin || exit 1
    elif step minivmx run /guests/$guest.bin; then
        exit 1
    else
        echo "This version can't run that guest here; the kernel's log above says why, and README what else it can't do."
    fi
done
step rmmod minivmx || exit 1
