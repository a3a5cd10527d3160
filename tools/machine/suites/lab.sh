# SPDX-License-Identifier: GPL-2.0-only
# suite: each VMX control off and on, in a guest that shows it, against the architecture
# cpu: core2_penryn_t9600 corei5_lynnfield_750 corei7_haswell_4770 corei7_skylake_x tigerlake
# timeout: 400

# What each emulated CPU lacks of the controls; each list continues the one of the newer CPU.
NEWEST="activate-tertiary-controls conceal-vmx-from-pt enable-enclv-exiting enable-encls-exiting
    enable-pconfig enable-user-wait-and-pause instruction-timeout
    intel-pt-uses-guest-physical-addresses mode-based-execute-control-for-ept pasid-translation
    vmm-bus-lock-detection"
SKYLAKE="$NEWEST monitor-trap-flag sub-page-write-permissions-for-ept"
HASWELL="$SKYLAKE enable-pml enable-xsaves-xrstors rdseed-exiting use-tsc-scaling"
LYNNFIELD="$HASWELL apic-register-virtualization enable-invpcid enable-vm-functions ept-violation-ve
    pause-loop-exiting rdrand-exiting unrestricted-guest virtual-interrupt-delivery vmcs-shadowing"
PENRYN="$LYNNFIELD descriptor-table-exiting enable-ept enable-rdtscp enable-vpid
    virtualize-x2apic-mode"
case $MACHINE_CPU in
tigerlake) absent=$NEWEST ;;
corei7_skylake_x) absent=$SKYLAKE ;;
corei7_haswell_4770) absent=$HASWELL ;;
corei5_lynnfield_750) absent=$LYNNFIELD ;;
core2_penryn_t9600) absent=$PENRYN ;;
esac

verdict() {
    if [ "$2" -eq 0 ]; then echo "ok - $1"; else echo "not ok - $1${3:+: $3}"; fi
}

# same NAME GOT EXPECTED
same() {
    [ "$2" = "$3" ]
    verdict "$1" $? "got '$2', expected '$3'"
}

words() {
    tr -s '[:space:]' '\n' | sort | xargs
}

# JSON of the lab as lines "CONTROL SIDE KEY VALUE"; SIDE is - for what is the control's own.
flat() {
    awk 'BEGIN { control = side = "-" }
        /"control":/ { control = $2; side = "-" }
        /"off": \{/ { side = "off" }
        /"on": \{/ { side = "on" }
        /"wrong":/ { wrong = ($2 !~ /\[\]/); next }
        wrong && /^ *\]/ { wrong = 0; next }
        wrong { sub(/^ */, ""); print control, "- wrong", $0; next }
        /^ *"[a-z_]*": / { key = $1; sub(/^ *"[a-z_]*": /, ""); print control, side, key, $0 }' "$1" |
        tr -d '",:'
}

load() {
    insmod /minivmx.ko report=0 "$@" || exit 1
}

# one CONTROL: the lab's lines of it, in /one
one() {
    minivmx lab "$1" --json >/json || cat /json
    flat /json >/one
}

# is CONTROL SIDE KEY VALUE, of /one
is() {
    got=$(sed -n "s/^$1 $2 $3 //p" /one)
    same "$1, $2: $3" "$got" "$4"
}

load
minivmx lab --json >/json
status=$?
flat /json >/all
sed -n 's/^\([^ ]*\) - name .*/\1/p' /all >/controls
[ "$(wc -l </controls)" -gt 50 ]
verdict "it knows the primary and secondary controls" $? "$(wc -l </controls) of them"

# Bochs 2.7 offers the monitor trap flag here, but has no exits by it.
emulator_defect() {
    [ "$MACHINE_CPU $1" = "tigerlake monitor-trap-flag" ]
}
expected_status=0
while read -r control; do
    wrong=$(sed -n "s/^$control - wrong //p" /all | xargs)
    if [ -n "$wrong" ] && emulator_defect "$control"; then
        echo "skip - $control: Bochs 2.7 doesn't do what it offers: $wrong"
        expected_status=1
        continue
    fi
    [ -z "$wrong" ]
    verdict "$control" $? "$wrong"
done </controls
same "its status tells whether all is as the architecture says" $status $expected_status
same "what this CPU lacks" "$(sed -n 's/ off status absent$//p' /all | words)" "$(echo "$absent" | words)"
grep -q "^- - counted true$" /all
verdict "every exit is counted" $?

# What the CPU could show and the lab did not. MWAIT is only for guests of a CPU whose timer goes on
# in deep sleep; XSAVE is turned off by the kernel, which finds its sizes wrong.
case $MACHINE_CPU in
core2_penryn_t9600 | corei5_lynnfield_750) lacking="monitor-exiting,off mwait-exiting,off" ;;
corei7_skylake_x | tigerlake) lacking="enable-xsaves-xrstors,on" ;;
*) lacking="" ;;
esac
same "what isn't measured" "$(sed -n 's/^\([^ ]*\) \([a-z]*\) status lacking$/\1,\2/p' /all | words)" \
    "$lacking"
minivmx lab cr3-load-exiting
minivmx lab no-such-control 2>/err
same "an unknown control is the caller's mistake" $? 2
minivmx lab cr3-lod-exiting 2>&1 | grep -q "cr3-load-exiting"
verdict "and similar names are suggested" $?
rmmod minivmx

# The other sides of what only a parameter moves.
has() {
    case " $(echo "$absent" | words) " in *" $1 "*) return 1 ;; *) return 0 ;; esac
}
load vpid=0 unrestricted_guest=0 flexpriority=0 ple_gap=0 pml=0
if has enable-vpid; then
    one enable-vpid
    is enable-vpid off status measured
    is enable-vpid off remark "the exit dropped the old translation"
    is enable-vpid on status parameter
fi
if has unrestricted-guest; then
    one unrestricted-guest
    is unrestricted-guest off status measured
    is unrestricted-guest off exit 0
    is unrestricted-guest on status parameter
fi
one virtualize-apic-accesses
is virtualize-apic-accesses off status measured
is virtualize-apic-accesses on status parameter
if has pause-loop-exiting; then
    one pause-loop-exiting
    is pause-loop-exiting on status parameter
fi
if has enable-pml; then
    one enable-pml
    is enable-pml on status parameter
fi
minivmx lab >/table
same "without them all is as before" $? $expected_status
cat /table
rmmod minivmx

if has enable-ept; then
    load ept=0
    one enable-ept
    is enable-ept off status measured
    is enable-ept off bit 0
    is enable-ept on status parameter
    one cr3-load-exiting
    is cr3-load-exiting off status parameter
    minivmx lab >/table
    same "without EPT all is as the architecture says" $? $expected_status
    cat /table
    rmmod minivmx
fi
exit 0
