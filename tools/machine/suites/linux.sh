# SPDX-License-Identifier: GPL-2.0-only
# suite: minivmx run --kernel boots Linux, on minivmx and on kvm_intel
# cpu: corei7_haswell_4770
# ips: 100000000
# carry: linux
# add: test-user/linux/boot.sh:/tests/boot.sh
# timeout: 600

. /tests/boot.sh

# ends NAME STATUS TEXT ARGUMENTS...: `minivmx run --kernel` ends with STATUS, and TEXT is in its output.
ends() {
    name="$device: $1"
    wanted=$2
    text=$3
    shift 3
    timeout -s KILL $LIMIT minivmx run --device /dev/kvm --kernel $KERNEL "$@" >/tmp/output 2>&1 </dev/null
    got=$?
    if [ $got -ne "$wanted" ]; then
        echo "not ok - $name: status $got, expected $wanted: $(tail -n 1 /tmp/output)"
    elif ! grep -qF -e "$text" /tmp/output; then
        echo "not ok - $name: no '$text' in its output"
    else
        echo "ok - $name"
    fi
}

endings() {
    ends "a panic resets the machine" 0 "it reset the machine" --cmdline "console=ttyS0 quiet panic=-1"
    ends "without ACPI a reset is a triple fault" 1 "triple fault" --initrd /linux/initrd \
        --cmdline "quiet acpi=off reboot=t"
    ends "which may be allowed" 0 "triple fault" --initrd /linux/initrd --allow-shutdown \
        --cmdline "quiet acpi=off reboot=t"
    ends "a timeout" 124 "stopped after 2000 ms" --timeout 2 --cmdline "console=ttyS0 quiet"
    ends "the end as JSON" 0 '"ending": "power-off"' --initrd /linux/initrd --json --cmdline "quiet"
}

for one in minivmx kvm; do
    hypervisor $one
    boot_small 1
    boot_small 2
    boot_small 4
    endings
    rmmod "$(if [ $one = kvm ]; then echo kvm_intel; else echo minivmx; fi)" || exit 1
done
rm -f /dev/kvm

head -c 5000 /linux/bzImage >/tmp/short
KERNEL=/tmp/short ends "a kernel's file cut short is named" 2 "/tmp/short: the file ends at 5000 bytes"
KERNEL=/linux/initrd ends "another file is named" 2 "/linux/initrd: not a Linux bzImage"
ends "too little memory" 2 "--mem: /linux/bzImage needs at least" --mem 8M
exit $failed
