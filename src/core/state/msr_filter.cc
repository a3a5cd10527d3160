// SPDX-License-Identifier: GPL-2.0-only
// MSRs that the VMM keeps from the guest (KVM_X86_SET_MSR_FILTER) or answers itself
// (KVM_CAP_X86_USER_SPACE_MSR).
#include <minivmx/host_guard.hpp>
#include <minivmx/state.hpp>

#include "msr.hpp"

namespace minivmx {

// In one piece of memory, the bitmaps behind it.
struct MsrFilter {
    bool default_allow;
    u32 count;
    struct Range {
        u32 access; // KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE
        u32 first, count;
        u8 *bitmap; // a bit that is set allows
    } ranges[KVM_MSR_FILTER_MAX_RANGES];
};

namespace {

// The local APIC's are not the filter's, in KVM neither.
bool is_x2apic_msr(u32 index)
{
    return index >= 0x800 && index <= 0x8ff;
}

usize bitmap_bytes(u32 count)
{
    return (usize{count} + 7) / 8;
}

void copy_range(MsrFilter &filter, const kvm_msr_filter_range &range, const u8 *bitmap, u8 *&room)
{
    if (!range.nmsrs)
        return;
    MsrFilter::Range &copy = filter.ranges[filter.count++];
    copy = {.access = range.flags, .first = range.base, .count = range.nmsrs, .bitmap = room};
    const usize bytes = bitmap_bytes(range.nmsrs);
    for (usize i = 0; i < bytes; i++)
        room[i] = bitmap[i];
    room += bytes;
}

MsrFilter *make_filter(const kvm_msr_filter &from, const u8 *const *bitmaps)
{
    usize bytes = sizeof(MsrFilter);
    for (const kvm_msr_filter_range &range : from.ranges)
        bytes += bitmap_bytes(range.nmsrs);
    auto *filter = static_cast<MsrFilter *>(host_zalloc(bytes));
    if (!filter)
        return nullptr;
    filter->default_allow = !(from.flags & KVM_MSR_FILTER_DEFAULT_DENY);
    u8 *room = reinterpret_cast<u8 *>(filter + 1);
    for (u32 i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
        copy_range(*filter, from.ranges[i], bitmaps[i], room);
    return filter;
}

bool filter_allows(const MsrFilter &filter, u32 index, u32 access)
{
    for (u32 i = 0; i < filter.count; i++) {
        const MsrFilter::Range &range = filter.ranges[i];
        const u32 bit = index - range.first;
        if (index >= range.first && bit < range.count && range.access & access)
            return range.bitmap[bit / 8] >> bit % 8 & 1;
    }
    return filter.default_allow;
}

u32 exit_reason_of(MsrResult result)
{
    switch (result) {
    case MsrResult::kUnknown:
        return KVM_MSR_EXIT_REASON_UNKNOWN;
    case MsrResult::kFiltered:
        return KVM_MSR_EXIT_REASON_FILTER;
    default:
        return KVM_MSR_EXIT_REASON_INVAL;
    }
}

} // namespace

bool msr_allowed(const kvm_vm &kvm, u32 index, u32 access)
{
    if (is_x2apic_msr(index) || !__atomic_load_n(&kvm.msr_filter, __ATOMIC_RELAXED)) [[likely]]
        return true;
    const RcuReader reader;
    const MsrFilter *filter = __atomic_load_n(&kvm.msr_filter, __ATOMIC_ACQUIRE);
    return !filter || filter_allows(*filter, index, access);
}

void msr_filter_destroy(kvm_vm &kvm)
{
    host_free(kvm.msr_filter);
    kvm.msr_filter = nullptr;
}

bool ask_user_space(vcpu_vmx &vmx, MsrResult result, PendingMsr kind, u32 index, u64 value)
{
    const u32 reason = exit_reason_of(result);
    if (!(__atomic_load_n(&vmx.kvm->user_space_msr, __ATOMIC_RELAXED) & reason))
        return false;
    kvm_run &run = *vmx.area->run;
    run.exit_reason = kind == PendingMsr::kRead ? KVM_EXIT_X86_RDMSR : KVM_EXIT_X86_WRMSR;
    run.msr.error = 0;
    for (__u8 &pad : run.msr.pad)
        pad = 0;
    run.msr.reason = reason;
    run.msr.index = index;
    run.msr.data = value;
    vmx.pending_msr = kind;
    vmx.pending_msr_rip = read_rip(vmx);
    return true;
}

void complete_pending_msr(vcpu_vmx &vmx)
{
    const PendingMsr kind = vmx.pending_msr;
    vmx.pending_msr = PendingMsr::kNone;
    if (kind == PendingMsr::kNone || read_rip(vmx) != vmx.pending_msr_rip)
        return; // user space made the vCPU go on elsewhere
    const volatile kvm_run &run = *vmx.area->run;
    if (run.msr.error) {
        inject_gp(vmx);
        return;
    }
    if (kind == PendingMsr::kRead)
        write_edx_eax(vmx, run.msr.data);
    skip_emulated_instruction(vmx);
}

} // namespace minivmx

using namespace minivmx;

extern "C" int core_set_msr_filter(core_vm *vm, const kvm_msr_filter *filter,
                                   const host_u8 *const *bitmaps)
{
    kvm_vm &kvm = to_kvm(vm);
    MsrFilter *fresh = make_filter(*filter, bitmaps);
    if (!fresh)
        return -ENOMEM;
    // A filter that denies everything, by having no range that allows something, is a mistake.
    if (!fresh->count && !fresh->default_allow) {
        host_free(fresh);
        return -EINVAL;
    }
    MsrFilter *old = __atomic_exchange_n(&kvm.msr_filter, fresh, __ATOMIC_ACQ_REL);
    host_rcu_wait();
    host_free(old);
    host_request_all(kvm.host, VCPU_REQUEST_MSR_FILTER);
    return 0;
}
