// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host page behind a guest page.
 *
 * No page stays referenced while the guest uses it: the mmu notifiers (mmu_notifier.c) take the
 * translation away when user space's mapping changes. Anonymous memory, which is most, is not even
 * referenced until the translation is made, see user_tables.c; the rest is found the kernel's way.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "objects.h"
#include "pfnmap.h"
#include "user_tables.h"

/* False: there is no anonymous page, or not with the access that is wanted. */
static bool find_anonymous(struct host_vm *vm, unsigned long hva, bool want_write,
			   struct host_frame *frame, bool *writable)
{
	struct user_mapping mapping;

	frame->mmu_seq = READ_ONCE(vm->mmu_seq);
	/*
	 * The sequence is read before the page is looked up; its writers move it after the change.
	 */
	smp_rmb();
	user_mapping_at(vm->mm, hva, &mapping);
	*writable = mapping.writable;
	if (!mapping.ordinary || !mapping.anonymous || (want_write && !mapping.writable))
		return false;
	frame->pfn = mapping.pfn;
	frame->writable = mapping.writable;
	frame->order = mapping.order;
	frame->page = pfn_to_page(mapping.pfn);
	return true;
}

/* As if user space wrote there. It may fail: whoever looks again, and then asks for the page, is
 * told why. */
static void make_writable(struct mm_struct *mm, unsigned long hva)
{
	bool unlocked = false;

	mmap_read_lock(mm);
	(void)fixup_user_fault(mm, hva, FAULT_FLAG_WRITE, &unlocked);
	mmap_read_unlock(mm);
}

/*
 * The page, with a reference. A write mapping if there is one already, or must be one; else whatever
 * can be read.
 */
static int get_page_at(unsigned long hva, bool want_write, struct host_frame *frame)
{
	unsigned int flags = FOLL_HWPOISON | (want_write ? FOLL_WRITE : 0);
	struct page *page = NULL;
	long got;

	got = get_user_pages_fast_only(hva, 1, FOLL_WRITE, &page);
	frame->at_hand = got == 1;
	frame->writable = frame->at_hand || want_write;
	if (!frame->at_hand)
		got = get_user_pages_unlocked(hva, 1, &page, flags);
	if (got != 1)
		return got < 0 ? got : -EFAULT;
	frame->pfn = page_to_pfn(page);
	frame->page = page;
	return 0;
}

/*
 * From now on each entry clears the CPU's buffers. vCPUs that are in the guest went there without:
 * they come out once.
 */
static void guest_reaches_devices(struct host_vm *vm)
{
	if (READ_ONCE(vm->reaches_devices))
		return;
	WRITE_ONCE(vm->reaches_devices, true);
	host_request_all(vm, 0);
}

/* The page, with a reference, or physical addresses. */
static int find_other(struct host_vm *vm, unsigned long hva, bool want_write,
		      struct host_frame *frame)
{
	struct user_mapping mapping;
	int r = get_page_at(hva, want_write, frame);

	if (r == -EHWPOISON)
		send_sig_mceerr(BUS_MCEERR_AR, (void __user *)hva, PAGE_SHIFT, current);
	if (r == -EHWPOISON || r == -EINTR)
		return r;
	if (r && fatal_signal_pending(current))
		return -EINTR;
	if (r) {
		r = pfnmap_fault_in(hva, want_write, frame);
		if (r)
			return r == -EACCES ? -EACCES : -EFAULT;
		guest_reaches_devices(vm);
	}
	frame->referenced = frame->page != NULL;
	user_mapping_at(vm->mm, hva, &mapping);
	frame->order = mapping.order;
	return 0;
}

int host_fault_in(struct host_vm *vm, host_u64 hva, bool want_write, struct host_frame *frame)
{
	bool made = false, writable;
	int r;

	memset(frame, 0, sizeof(*frame));
	frame->at_hand = find_anonymous(vm, hva, want_write, frame, &writable);
	if (frame->at_hand)
		return 0;
	if (want_write && !writable) {
		made = true;
		make_writable(vm->mm, hva);
		if (find_anonymous(vm, hva, want_write, frame, &writable))
			return 0;
	}
	r = find_other(vm, hva, want_write, frame);
	if (made)
		frame->at_hand = false;
	return r;
}

bool host_frame_at_hand(struct host_vm *vm, host_u64 hva, bool want_write, struct host_frame *frame)
{
	struct page *page;

	memset(frame, 0, sizeof(*frame));
	frame->mmu_seq = vm->mmu_seq;
	/* A change under way has passed by already, and would not see the translation. */
	if (host_mmu_retry(vm, frame, hva))
		return false;
	if (get_user_pages_fast_only(hva, 1, want_write ? FOLL_WRITE : 0, &page) != 1)
		return false;
	frame->pfn = page_to_pfn(page);
	frame->writable = want_write;
	frame->page = page;
	frame->referenced = true;
	return true;
}

void host_frame_put(struct host_frame *frame, bool dirty)
{
	struct page *page = frame->page;

	if (!page)
		return;
	frame->page = NULL;
	/* The zero page and its like carry no such state. */
	if (dirty && !PageReserved(page) && !PageDirty(page))
		SetPageDirty(page);
	if (!frame->referenced)
		return;
	/*
	 * Whether anonymous memory is in use the kernel asks all who map it: see age(). Of files it
	 * is told here, too.
	 */
	if (!PageReserved(page) && !PageAnon(page))
		mark_page_accessed(page);
	put_page(page);
}
