# SPDX-License-Identifier: GPL-2.0-only
# suite: the kernel crashes with a vCPU running on each CPU; VMX is off in the crash kernel
# cpus: 2
# memory: 640
# crash: life-crash-after.sh
# allow: Kernel panic - not syncing: sysrq triggered crash
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

# The crash kernel gets the same module and client, as one more archive behind its own.
cp /boot/crash-initrd /tmp/initrd || exit 1
(cd / && printf '%s\n' minivmx.ko tests tests/life.sh bin bin/life | cpio -o -H newc) >>/tmp/initrd 2>/dev/null
check "a crash kernel can be loaded" kexec-load /boot/bzImage /tmp/initrd /boot/crash-cmdline

insmod /minivmx.ko report=0 || exit 1
start one hold /dev/minivmx 0
start two hold /dev/minivmx 1
goes_on "a guest runs on CPU 0" one
goes_on "a guest runs on CPU 1" two
echo c >/proc/sysrq-trigger
fail "the kernel crashes" "it goes on"
