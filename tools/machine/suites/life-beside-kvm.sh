# SPDX-License-Identifier: GPL-2.0-only
# suite: living beside kvm_intel on 6.1: who has VMX, who is told what, in every order
# kernel: lean stock
# cpus: 2
# timeout: 900
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

# Loading Debian's kvm.ko takes more than a minute of the machine's time: there it stays, with fewer rounds, and the orders in
# which the slot changes hands.
case $MACHINE_KERNEL in
stock)
    rounds=2
    orders='kvm-ours-ours-kvm ours-kvm-kvm-ours'
    unload_kvm() { rmmod kvm_intel; }
    ;;
*)
    rounds=5
    orders='ours-kvm-ours-kvm ours-kvm-kvm-ours kvm-ours-ours-kvm kvm-ours-kvm-ours'
    unload_kvm() { modprobe -r kvm-intel; }
    ;;
esac

OURS=/dev/minivmx
KVM=/dev/kvm

load_ours() { insmod /minivmx.ko report=0; }
load_kvm() { modprobe kvm-intel; }
unload_ours() { rmmod minivmx; }

# ---- kvm_intel has a VM open when minivmx is loaded -----------------------------------------------------------------

load_kvm
start theirs hold $KVM 1
forget_log
refused "insmod beside a VM of kvm_intel is refused with EBUSY" "resource busy" load_ours
logged "the reason names kvm_intel" "minivmx: .*VMX is in use.*kvm_intel"
logged "and the remedy" "minivmx: .*end its virtual machines, or: modprobe -r kvm_intel"
refused "nothing of the module is left" "No such file" ls -d /sys/module/minivmx
goes_on "kvm_intel's guest goes on" theirs

# ---- both loaded, one has a VM ---------------------------------------------------------------------------------------

stop "kvm_intel's guest computed the right thing" theirs
check "minivmx loads beside an idle kvm_intel" load_ours
start theirs hold $KVM 0
forget_log
refused "with a VM of kvm_intel open, ours can't be created: EBUSY" "KVM_CREATE_VM: EBUSY" life run $OURS
logged "the log says why" "minivmx: .*VMX is in use.*kvm_intel"
logged "and what to do" "end its virtual machines"
goes_on "kvm_intel's guest does not notice" theirs
stop "and computed the right thing" theirs

start ours hold $OURS 0
forget_log
refused "with a VM of ours open, kvm_intel's can't be created" "KVM_CREATE_VM: EBUSY" life run $KVM
goes_on "our guest does not notice" ours
refused "rmmod of ours is refused meanwhile" "temporarily unavailable" unload_ours
reload_kvm() { unload_kvm && load_kvm; }
check "kvm_intel can be unloaded and loaded beside a VM of ours" reload_kvm
goes_on "our guest does not notice that, either" ours
stop "and computed the right thing" ours

alternate() {
    i=0
    while [ $i -lt $rounds ]; do
        life run $OURS && life run $KVM || return 1
        i=$((i + 1))
    done
}
check "both work in turn, $rounds times" alternate

# ---- orders of loading and unloading: the emergency callback has one slot, and the kernel warns when it is taken twice ---

unload_ours
unload_kvm
for order in $orders; do
    set -- $(echo $order | tr - ' ')
    forget_log
    check "load $1, $2: $1 loads" load_$1
    check "load $1, $2: $2 loads" load_$2
    check "load $1, $2: both run a guest" sh -c "life run $OURS && life run $KVM && life run $OURS"
    check "then unload $3, $4: $3 unloads" unload_$3
    [ "$4" = ours ] && device=$OURS || device=$KVM
    check "then unload $3, $4: what is left runs a guest" life run $device
    check "then unload $3, $4: $4 unloads" unload_$4
    if dmesg | grep -qE 'WARNING|BUG|Oops|Call Trace'; then
        fail "load $1, $2, unload $3, $4: the kernel does not warn" "$(dmesg | grep -E 'WARNING|BUG|Oops' | head -n 1)"
    else
        pass "load $1, $2, unload $3, $4: the kernel does not warn"
    fi
done

# ---- a load of kvm_intel that fails after the slot was given back ----------------------------------------------------

forget_log
load_ours
start ours hold $OURS
refused "kvm_intel with an impossible parameter does not load" "nvalid\|Unknown" modprobe kvm-intel ept=maybe
goes_on "our guest goes on" ours
stop "and computed the right thing" ours
check "kvm_intel loads afterwards" load_kvm
check "and runs a guest" life run $KVM
unload_kvm
check "ours unloads" unload_ours
