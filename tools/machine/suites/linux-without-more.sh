# SPDX-License-Identifier: GPL-2.0-only
# suite: Linux boots without EPT or unrestricted guest, and without what else can be turned off, on kvm_intel likewise
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_skylake_x corei7_haswell_4770
# ips: 100000000
# carry: qemu linux
# add: test-user/without.sh:/tests/without.sh
# add: test-user/linux/boot.sh:/tests/boot.sh
# timeout: 1800
# in: test-long

. /tests/without.sh
. /tests/boot.sh

# on HYPERVISOR PARAMETERS BOOT...: one boot with these parameters, too, and the module goes again
on() {
    label=$(echo "$2" | tr ' ' ,)
    # shellcheck disable=SC2116,SC2086 # one blank between two words
    PARAMS=$(echo $WITHOUT $2)
    hypervisor "$1"
    goes_without
    module=$(if [ "$1" = kvm ]; then echo kvm_intel; else echo minivmx; fi)
    shift 2
    "$@" >/tmp/found
    sed "s/^\(ok\|not ok\) - /&$label: /" /tmp/found
    rmmod "$module" || failed=1
}

WITHOUT=$PARAMS
for one in vpid=0 vnmi=0 flexpriority=0 preemption_timer=0; do
    on minivmx $one boot_small 1
done
on minivmx "ept=0 unrestricted_guest=0" boot pc host 1 -nodefaults
for one in minivmx kvm; do
    on $one "vpid=0 vnmi=0 flexpriority=0 preemption_timer=0" boot pc host 1 -nodefaults
done
exit $failed
