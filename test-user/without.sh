# SPDX-License-Identifier: GPL-2.0-only
#
# Machines on which shadow tables stand in for EPT, or virtual-8086 mode and the emulator for unrestricted guest. Two CPUs
# lack them by themselves, two are asked to go without:
#
#   core2_penryn_t9600     no EPT, no VPID, no unrestricted guest
#   corei5_lynnfield_750   EPT, but no unrestricted guest
#   corei7_skylake_x       ept=0
#   corei7_haswell_4770    unrestricted_guest=0
#
# What a suite's `# params:` asks for is added.

case $MACHINE_CPU in
corei7_skylake_x) PARAMS="ept=0 $PARAMS" ;;
corei7_haswell_4770) PARAMS="unrestricted_guest=0 $PARAMS" ;;
esac

# parameter NAME: how the loaded module's parameter reads, Y or N.
parameter() {
    cat /sys/module/minivmx/parameters/"$1" 2>/dev/null || cat /sys/module/kvm_intel/parameters/"$1"
}

# The machine must be what the suite is about: with both features every test below would pass, and prove nothing.
goes_without() {
    if [ "$(parameter ept)$(parameter unrestricted_guest)" = YY ]; then
        echo "not ok - $MACHINE_CPU $PARAMS goes without something: it has EPT and unrestricted guest"
        exit 1
    fi
    echo "ok - $MACHINE_CPU ${PARAMS:+$PARAMS }goes without something: ept=$(parameter ept) unrestricted_guest=$(parameter unrestricted_guest)"
}

# With boot.sh: what linux-without and its reference boot. A guest with two CPUs needs pause-loop exiting here, which the
# old CPUs lack: Bochs lets one that spins with interrupts off, waiting for the other, stop the whole machine.
boots_without() {
    boot_small 1
    boot pc host 1 -nodefaults
    if [ -z "$LONG" ]; then return; fi
    boot pc qemu64 1
    boot q35 host 1 -nodefaults
    boot microvm host 1
    case $MACHINE_CPU in
    core2_penryn_t9600 | corei5_lynnfield_750) ;;
    *)
        boot_small 2
        boot pc host 2 -nodefaults
        ;;
    esac
}
