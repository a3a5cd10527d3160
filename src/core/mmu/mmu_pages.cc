// SPDX-License-Identifier: GPL-2.0-only
// The bound on a VM's shadow pages. The ioctls' rules are KVM's, also with EPT, where the number is
// kept and told but bounds nothing.
#include <minivmx/mmu_pages.hpp>

#include <minivmx/shadow.hpp>
#include <minivmx/text.hpp>
#include <minivmx/vm.hpp>

namespace minivmx {

namespace {

void set_limit(kvm_vm &kvm, u64 pages)
{
    __atomic_store_n(&kvm.mmu_pages.limit, pages, __ATOMIC_RELAXED);
    shadow_enforce_limit(kvm);
}

// A limit of the client's stands; else it follows the memory there is.
void follow_slots(kvm_vm &kvm)
{
    const MmuPages &pages = kvm.mmu_pages;
    if (pages.requested)
        return;
    const u64 share = pages.slot_pages / kGuestPagesPerMmuPage;
    set_limit(kvm, share > kMinMmuPages ? share : kMinMmuPages);
}

} // namespace

void add_slot_pages(kvm_vm &kvm, u64 pages)
{
    kvm.mmu_pages.slot_pages += pages;
    follow_slots(kvm);
}

void remove_slot_pages(kvm_vm &kvm, u64 pages)
{
    kvm.mmu_pages.slot_pages -= pages;
    follow_slots(kvm);
}

extern "C" int core_set_nr_mmu_pages(core_vm *vm, host_u64 pages)
{
    if (pages < kMinMmuPages)
        return -EINVAL;
    kvm_vm &kvm = to_kvm(vm);
    kvm.mmu_pages.requested = pages;
    set_limit(kvm, pages);
    return 0;
}

extern "C" host_u64 core_get_nr_mmu_pages(const core_vm *vm)
{
    return static_cast<const kvm_vm *>(vm)->mmu_pages.limit;
}

extern "C" host_u64 core_mmu_shadow_pages(const core_vm *vm)
{
    return shadow_page_count(*static_cast<const kvm_vm *>(vm));
}

extern "C" host_u64 core_mmu_shrink(core_vm *vm, host_u64 pages)
{
    return shadow_shrink(to_kvm(vm), pages);
}

extern "C" void core_vm_print_memory(const core_vm *vm, host_line_function line, void *context)
{
    const LineSink out{line, context};
    Line pages, limit;
    pages.put("shadow_pages ", core_mmu_shadow_pages(vm));
    limit.put("shadow_limit ", core_get_nr_mmu_pages(vm));
    out(pages);
    out(limit);
}

} // namespace minivmx
