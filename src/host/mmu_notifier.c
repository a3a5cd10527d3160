// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory follows user space's mappings: when one changes, the guest's translations of it go
 * first.
 *
 * A page fault of the guest races with such changes: it finds the page without the mmu lock, then
 * takes the lock and asks host_mmu_retry() whether what it found can still be used. It can't when a
 * change that covers the address is under way (it may have passed by before the translation was
 * made), nor when any change has ended since (mmu_seq moved).
 *
 * The kernel may be in a callback still when the VM goes. To wait for it would be to wait for every
 * callback of every process; instead the VM's struct host_vm, of which nothing but the lock and
 * mmu_gone means anything by then, outlives the rest of it until the kernel says that none is left.
 */
#include <linux/atomic.h>
#include <linux/mmu_notifier.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "objects.h"

static struct host_vm *notified_vm(struct mmu_notifier *notifier)
{
	return container_of(notifier, struct host_vm, notifier);
}

static void note_invalidation(struct host_vm *vm, unsigned long start, unsigned long end)
{
	if (vm->invalidations++ == 0) {
		vm->invalid_start = start;
		vm->invalid_end = end;
	} else {
		/*
		 * One range for several changes: too wide costs a retry, too narrow would be wrong.
		 */
		vm->invalid_start = min(vm->invalid_start, start);
		vm->invalid_end = max(vm->invalid_end, end);
	}
}

static int invalidate_range_start(struct mmu_notifier *notifier,
				  const struct mmu_notifier_range *range)
{
	struct host_vm *vm = notified_vm(notifier);

	spin_lock(&vm->mmu_lock);
	if (!vm->mmu_gone) {
		note_invalidation(vm, range->start, range->end);
		if (core_mmu_unmap_hva_range(vm->core, range->start, range->end))
			host_request_all(vm, VCPU_REQUEST_TLB_FLUSH);
	}
	spin_unlock(&vm->mmu_lock);
	return 0;
}

static void invalidate_range_end(struct mmu_notifier *notifier,
				 const struct mmu_notifier_range *range)
{
	struct host_vm *vm = notified_vm(notifier);

	spin_lock(&vm->mmu_lock);
	if (!vm->mmu_gone) {
		WRITE_ONCE(vm->mmu_seq, vm->mmu_seq + 1);
		WARN_ON_ONCE(vm->invalidations == 0);
		vm->invalidations--;
	}
	spin_unlock(&vm->mmu_lock);
}

static int age(struct host_vm *vm, unsigned long start, unsigned long end, bool clear)
{
	bool young;

	spin_lock(&vm->mmu_lock);
	young = !vm->mmu_gone && core_mmu_age_hva_range(vm->core, start, end, clear);
	spin_unlock(&vm->mmu_lock);
	return young;
}

static int clear_flush_young(struct mmu_notifier *notifier, struct mm_struct *mm,
			     unsigned long start, unsigned long end)
{
	struct host_vm *vm = notified_vm(notifier);
	bool young;

	spin_lock(&vm->mmu_lock);
	young = !vm->mmu_gone && core_mmu_age_hva_range(vm->core, start, end, true);
	/* Else a TLB may go on using the entry without setting "accessed" again. */
	if (young)
		host_request_all(vm, VCPU_REQUEST_TLB_FLUSH);
	spin_unlock(&vm->mmu_lock);
	return young;
}

static int clear_young(struct mmu_notifier *notifier, struct mm_struct *mm, unsigned long start,
		       unsigned long end)
{
	/* Asked often, to sort pages by use: a stale TLB entry makes a page look idle at worst. */
	return age(notified_vm(notifier), start, end, true);
}

static int test_young(struct mmu_notifier *notifier, struct mm_struct *mm, unsigned long address)
{
	return age(notified_vm(notifier), address, address + PAGE_SIZE, false);
}

static void release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct host_vm *vm = notified_vm(notifier);

	spin_lock(&vm->mmu_lock);
	if (!vm->mmu_gone) {
		WRITE_ONCE(vm->mmu_seq, vm->mmu_seq + 1);
		core_mmu_zap_all(vm->core);
		host_request_all(vm, VCPU_REQUEST_TLB_FLUSH);
	}
	spin_unlock(&vm->mmu_lock);
}

/* ---- The end ---- */

/* VMs that are gone but for their struct host_vm. */
static atomic_t remains = ATOMIC_INIT(0);

/* No callback is left. Can't sleep. */
static void free_remains(struct mmu_notifier *notifier)
{
	kfree(notified_vm(notifier));
	if (atomic_dec_and_test(&remains))
		wake_up_var(&remains);
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_start = invalidate_range_start,
	.invalidate_range_end = invalidate_range_end,
	.clear_flush_young = clear_flush_young,
	.clear_young = clear_young,
	.test_young = test_young,
	.release = release,
	.free_notifier = free_remains,
};

int vm_watch_mm(struct host_vm *vm)
{
	vm->notifier.ops = &notifier_ops;
	return mmu_notifier_register(&vm->notifier, vm->mm);
}

void vm_unwatch_mm(struct host_vm *vm)
{
	spin_lock(&vm->mmu_lock);
	vm->mmu_gone = true;
	spin_unlock(&vm->mmu_lock);
}

void vm_free_unwatched(struct host_vm *vm)
{
	atomic_inc(&remains);
	mmu_notifier_put(&vm->notifier);
}

void mmu_notifiers_exit(void)
{
	wait_var_event(&remains, !atomic_read(&remains));
	/* The last one may still be on its way out of free_remains(), where bottom halves are off. */
	synchronize_rcu();
}

void host_mmu_lock(struct host_vm *vm) __acquires(&vm->mmu_lock)
{
	spin_lock(&vm->mmu_lock);
}

void host_mmu_unlock(struct host_vm *vm) __releases(&vm->mmu_lock)
{
	spin_unlock(&vm->mmu_lock);
}

bool host_mmu_retry(struct host_vm *vm, const struct host_frame *frame, host_u64 hva)
{
	lockdep_assert_held(&vm->mmu_lock);
	if (vm->invalidations && hva >= vm->invalid_start && hva < vm->invalid_end)
		return true;
	return vm->mmu_seq != frame->mmu_seq;
}
