// SPDX-License-Identifier: GPL-2.0-only
// KVM_CAP_SYNC_REGS: registers go along with KVM_RUN in kvm_run, which saves the ioctls. User space
// may write there at any time: everything is copied once before it is looked at.
#include <minivmx/state.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

constexpr u64 kSyncable = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;

template <class T>
void copy_once(T &to, const T &from)
{
    __builtin_memcpy(&to, &from, sizeof(T));
    asm volatile("" : : "r"(&to) : "memory"); // what follows works on the copy
}

template <class T>
int take(core_vcpu &vcpu, const T &from, int (*set)(core_vcpu *, const T *))
{
    T copy;
    copy_once(copy, from);
    return set(&vcpu, &copy);
}

template <class T>
void give(core_vcpu &vcpu, T &to, int (*get)(core_vcpu *, T *))
{
    T copy;
    (void)get(&vcpu, &copy);
    copy_once(to, copy);
}

} // namespace

int take_synced_regs(vcpu_vmx &vmx)
{
    kvm_run &run = *vmx.area->run;
    const u64 valid = __atomic_load_n(&run.kvm_valid_regs, __ATOMIC_RELAXED);
    const u64 dirty = __atomic_load_n(&run.kvm_dirty_regs, __ATOMIC_RELAXED);
    const kvm_sync_regs &from = run.s.regs;
    if ((valid | dirty) & ~kSyncable)
        return -EINVAL;
    if (dirty & KVM_SYNC_X86_REGS)
        (void)take(vmx, from.regs, core_set_regs);
    if (dirty & KVM_SYNC_X86_SREGS && take(vmx, from.sregs, core_set_sregs))
        return -EINVAL;
    if (dirty & KVM_SYNC_X86_EVENTS && take(vmx, from.events, core_set_vcpu_events))
        return -EINVAL;
    if (dirty)
        __atomic_store_n(&run.kvm_dirty_regs, 0, __ATOMIC_RELAXED);
    return 0;
}

void give_synced_regs(vcpu_vmx &vmx)
{
    kvm_run &run = *vmx.area->run;
    const u64 valid = __atomic_load_n(&run.kvm_valid_regs, __ATOMIC_RELAXED);
    if (valid & KVM_SYNC_X86_REGS)
        give(vmx, run.s.regs.regs, core_get_regs);
    if (valid & KVM_SYNC_X86_SREGS)
        give(vmx, run.s.regs.sregs, core_get_sregs);
    if (valid & KVM_SYNC_X86_EVENTS)
        give(vmx, run.s.regs.events, core_get_vcpu_events);
}

} // namespace minivmx
