// SPDX-License-Identifier: GPL-2.0-only
// What the host's mmu notifiers ask for: ranges of the owner's address space become ranges of guest
// frames, slot by slot. The mmu lock is held, which also keeps the slots as they are.
#include <minivmx/ept.hpp>
#include <minivmx/memslot.hpp>
#include <minivmx/shadow.hpp>
#include <minivmx/vm.hpp>

#include "ept_entry.hpp"

namespace minivmx {

namespace {

// Calls visit(first_gfn, end_gfn) for what each slot has of [start, end).
template <class Visit>
void for_each_gfn_range(const kvm_vm &kvm, u64 start, u64 end, Visit visit)
{
    if (!kvm.slots.current)
        return;
    kvm.slots.current->for_each_in_hva_range(start, end, [&](const MemSlot &slot) {
        const u64 first = start > slot.hva ? start : slot.hva;
        const u64 last = (end < slot.hva_end() ? end : slot.hva_end()) - 1;
        visit(slot.base_gfn + ((first - slot.hva) >> 12),
              slot.base_gfn + ((last - slot.hva) >> 12) + 1);
    });
}

} // namespace

extern "C" bool core_mmu_unmap_hva_range(core_vm *vm, u64 start, u64 end)
{
    kvm_vm &kvm = to_kvm(vm);
    bool flush = false;
    for_each_gfn_range(kvm, start, end, [&](u64 first, u64 last) {
        flush |=
            kvm.shadow ? shadow_unmap_gfns(kvm, first, last) : ept_zap_leaves(kvm.ept, first, last);
    });
    return flush;
}

extern "C" bool core_mmu_age_hva_range(core_vm *vm, u64 start, u64 end, bool clear)
{
    kvm_vm &kvm = to_kvm(vm);
    bool young = false;
    for_each_gfn_range(kvm, start, end, [&](u64 first, u64 last) {
        young |= kvm.shadow ? shadow_age_gfns(kvm, first, last, clear)
                            : ept_age(kvm.ept, first, last, clear);
    });
    return young;
}

// The tables are freed with the VM: no thread with the owner's mm is left that could run a vCPU,
// but one may still be on its way out.
extern "C" void core_mmu_zap_all(core_vm *vm)
{
    kvm_vm &kvm = to_kvm(vm);
    Ept &ept = kvm.ept;
    if (kvm.shadow)
        shadow_clear_all(kvm);
    (void)ept_zap_gfn_range(ept, 0, u64{1} << (kEptAddressBits - 12), ept.unlinked);
}

} // namespace minivmx
