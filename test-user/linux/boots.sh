# SPDX-License-Identifier: GPL-2.0-only
#
# The boots that QEMU's suites have in common: each machine type with each CPU model and each number of CPUs.

boots_on_one_cpu() {
    for type in pc q35 microvm; do
        for model in qemu64 host; do
            boot $type $model 1
            # The default devices were there; without a screen a boot takes half the time.
            boot $type $model 2 -nodefaults
            boot $type $model 4 -nodefaults
        done
    done
}

# On a machine with two CPUs, whose vCPUs are moved from one to the other while they run. A boot takes half a minute there:
# the full product is for test-long.
boots_on_two_cpus() {
    if [ -n "$LONG" ]; then boot pc host 2; fi
    MOVED=1
    boot pc host 2 -nodefaults
    boot q35 qemu64 4 -nodefaults
    boot microvm host 2
    if [ -n "$LONG" ]; then
        boot pc qemu64 4 -nodefaults
        boot q35 host 2 -nodefaults
        boot microvm qemu64 4
    fi
    MOVED=
}
