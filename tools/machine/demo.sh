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

for guest in hello-real hello-protected hello-long; do
    step minivmx run /guests/$guest.bin || exit 1
done
step rmmod minivmx || exit 1
