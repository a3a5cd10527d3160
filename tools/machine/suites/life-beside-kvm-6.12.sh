# SPDX-License-Identifier: GPL-2.0-only
# suite: beside kvm_intel on 6.12, which may enter VMX operation when it is loaded (kvm.enable_virt_at_load)
# kernel: stock-6.12
# in: test-long
# timeout: 900
# add: build/user/life/life:/bin/life
# add: test-user/life/life.sh:/tests/life.sh

. /tests/life.sh

load_ours() { insmod /minivmx.ko report=0; }
unload_kvm() { modprobe -r kvm-intel && modprobe -r kvm; }

# ---- With VMX operation from its load, kvm_intel has it all the time.
check "kvm_intel loads, with VMX on at once" sh -c 'modprobe kvm enable_virt_at_load=1 && modprobe kvm-intel'
forget_log
refused "then minivmx is refused with EBUSY" "resource busy" load_ours
logged "the reason names kvm_intel" "minivmx: .*VMX is in use.*kvm_intel"
logged "and the remedy" "modprobe -r kvm_intel"
check "kvm_intel runs a guest" life run /dev/kvm
check "kvm_intel unloads" unload_kvm
check "minivmx loads now" load_ours
check "and runs a guest" life run
start ours hold /dev/minivmx
if modprobe kvm enable_virt_at_load=1 && modprobe kvm-intel 2>/tmp/check; then
    fail "kvm_intel is refused while a VM of ours is open" "it loads"
else
    pass "kvm_intel is refused while a VM of ours is open"
fi
goes_on "our guest goes on" ours
stop "and computed the right thing" ours
modprobe -r kvm

# ---- Without it, it enters VMX operation with its first VM, as 6.1's does.
check "kvm_intel loads, with VMX off" sh -c 'modprobe kvm enable_virt_at_load=0 && modprobe kvm-intel'
check "both work in turn" sh -c 'life run && life run /dev/kvm && life run && life run /dev/kvm'
start theirs hold /dev/kvm
refused "with a VM of kvm_intel open, ours can't be created" "KVM_CREATE_VM: EBUSY" life run
stop "kvm_intel's guest computed the right thing" theirs
start ours hold /dev/minivmx
refused "with a VM of ours open, kvm_intel's can't be created" "KVM_CREATE_VM: E" life run /dev/kvm
stop "our guest computed the right thing" ours
check "both unload" sh -c 'modprobe -r kvm-intel && modprobe -r kvm && rmmod minivmx'
