// SPDX-License-Identifier: GPL-2.0-only
// Dirty logging: which pages of a slot were written since user space asked last.
//
// A slot with KVM_MEM_LOG_DIRTY_PAGES has a bitmap, and small pages only. What holds of each of its
// pages under the mmu lock: if the guest can write it without our notice, its bit is set. The guest
// is noticed in one of two ways:
// - with page-modification logging (SDM Vol. 3C, 29.3.6) by the dirty flag of its EPT entry: the
//   CPU notes each page whose flag it sets in the vCPU's buffer. A read may map a page writable
//   with the flag clear;
// - else by write protection.
// Large pages, which the CPU would note as one, are write protected in both and split by the first
// write. Who takes bits from the bitmap clears the flags, or the permissions, under the lock and
// flushes before user space sees what was taken, so a later write sets its bit anew.
//
// A vCPU's buffer is emptied after each of its exits, before it says that it has left the guest: so
// once host_request_all() returns, the bitmaps have all that was written before.
#pragma once

#include <minivmx/host.h>
#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct MemSlot;
struct kvm_vm;
struct vcpu_vmx;

// A slot's bitmap, and as much room again for what was taken from it. It outlives the arrays of
// slots that name it: the updater that takes it from its slot frees it.
class DirtyBitmap {
  public:
    // Null when there is no memory. [sleep]
    static DirtyBitmap *create(u64 npages, bool all_dirty);
    static void release(DirtyBitmap *bitmap);

    u64 word_count() const { return words_; }
    // [any]
    void mark(u64 page);
    // Takes the bits of mask that are set.
    u64 take(u64 word, u64 mask)
    {
        return __atomic_fetch_and(&bits()[word], ~mask, __ATOMIC_SEQ_CST) & mask;
    }
    u64 peek(u64 word) const { return __atomic_load_n(&bits()[word], __ATOMIC_RELAXED); }
    u64 *bits() { return reinterpret_cast<u64 *>(this + 1); }
    const u64 *bits() const { return reinterpret_cast<const u64 *>(this + 1); }
    // Of whoever holds the slots mutex.
    u64 *scratch() { return bits() + words_; }

  private:
    u64 words_;
};

// The page's bit, if its slot is logged. To be called after the write. [any but NMI]
void mark_page_dirty(const MemSlot &slot, u64 gfn);
// The same for [gpa, gpa + size), all of it in the slot.
void mark_range_dirty(const MemSlot &slot, u64 gpa, u64 size);
// Only the vCPU's thread. [any but NMI]
void mark_page_dirty(vcpu_vmx &vmx, u64 gfn);
// Takes the mmu lock. [sleep or atomic]
void mark_page_dirty(kvm_vm &kvm, u64 gfn);

// KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; -EINVAL for options that don't exist.
int enable_manual_dirty_log(kvm_vm &kvm, u64 options);
// Whether a slot that is logged from now on counts as dirty all over.
bool starts_all_dirty(const kvm_vm &kvm);

// From now on writes to these frames are noticed. The mmu lock is held. Returns whether a flush is
// needed before that is so. [atomic]
bool watch_writes(kvm_vm &kvm, u64 base_gfn, u64 end_gfn);
// The same for all of a slot that is already in sight, flushed. Takes the mmu lock, in turns.
// [sleep]
void watch_slot(kvm_vm &kvm, const MemSlot &slot);

// ---- Page-modification logging ----------------------------------------------

// One slot more, one less is logged: the first one makes every vCPU use its buffer, the last one
// stop it. The slots mutex is held. [sleep]
void start_logging_a_slot(kvm_vm &kvm);
void stop_logging_a_slot(kvm_vm &kvm);
// Whether this VM's vCPUs have "Enable PML" on.
bool uses_pml(const kvm_vm &kvm);
// VCPU_REQUEST_DIRTY_LOGGING: kvm_intel's vmx_update_cpu_dirty_logging().
void update_dirty_logging(vcpu_vmx &vmx);
// The fields of a fresh VMCS.
void write_pml_fields(vcpu_vmx &vmx);
// After an exit, while the vCPU still counts as in the guest. [irqoff]
void flush_pml_buffer(vcpu_vmx &vmx);
// EXIT_REASON_PML_FULL.
Outcome handle_pml_full(vcpu_vmx &vmx);

} // namespace minivmx
