# SPDX-License-Identifier: GPL-2.0-only
# suite: KUnit: VMX instructions, VMCS fields, MSRs and the negotiated words on the CPU itself
# cpu: corei7_haswell_4770 core2_penryn_t9600 corei7_skylake_x
# cpus: 2

modprobe kunit enable=1 || exit 1
insmod /minivmx_kunit.ko || exit 1
# The results came with insmod, in the kernel's log.
rmmod minivmx_kunit || exit 1

# Nothing of VMX may be left on: this refuses to load if a CPU has CR4.VMXE set.
if insmod /minivmx.ko report=0; then
    echo "ok - the tests leave VMX off"
else
    echo "not ok - the tests leave VMX off: minivmx does not load"
fi
