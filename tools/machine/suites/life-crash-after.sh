# SPDX-License-Identifier: GPL-2.0-only
# What the crash kernel does. It comes up on the CPU that crashed; if that one were still in VMX operation, the kernel could
# not have started the way it does, or minivmx would find CR4.VMXE set.

. /tests/life.sh

pass "the crash kernel runs"
check "minivmx loads in it" insmod /minivmx.ko report=0
check "and runs a guest" life run
check "and unloads" rmmod minivmx
check "kvm_intel runs a guest, too" sh -c 'modprobe kvm-intel && life run /dev/kvm'
