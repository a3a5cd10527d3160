// SPDX-License-Identifier: GPL-2.0-only
/*
 * The host page behind a guest page.
 *
 * No page stays referenced while the guest uses it: the reference taken here lasts until the
 * translation is made, and the mmu notifiers (mmu_notifier.c) take the translation away when user
 * space's mapping changes.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "objects.h"
#include "pfnmap.h"

#define ORDER_4K 0
#define ORDER_2M (PMD_SHIFT - PAGE_SHIFT)
#define ORDER_1G (PUD_SHIFT - PAGE_SHIFT)

/*
 * How much of address space around hva one leaf of the page tables maps. With interrupts off the
 * tables can't be freed, as in the kernel's lockless page walks. What is read may be changed the
 * next moment: such a change moves mmu_seq, which was read before, so host_mmu_retry() discards the
 * answer.
 */
static unsigned int mapping_order(struct mm_struct *mm, unsigned long hva)
{
	unsigned int order = ORDER_4K;
	unsigned long flags;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	local_irq_save(flags);
	pgd = READ_ONCE(*pgd_offset(mm, hva));
	if (pgd_none(pgd))
		goto out;
	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (p4d_none(p4d) || !p4d_present(p4d))
		goto out;
	pud = READ_ONCE(*pud_offset(&p4d, hva));
	if (pud_none(pud) || !pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		order = ORDER_1G;
		goto out;
	}
	pmd = READ_ONCE(*pmd_offset(&pud, hva));
	if (!pmd_none(pmd) && pmd_present(pmd) && pmd_leaf(pmd))
		order = ORDER_2M;
out:
	local_irq_restore(flags);
	return order;
}

/* A write mapping if there is one already, or must be one; else whatever can be read. */
static int get_page_at(unsigned long hva, bool want_write, struct page **page, bool *writable)
{
	unsigned int flags = FOLL_HWPOISON;
	long got;

	*writable = true;
	if (get_user_pages_fast_only(hva, 1, FOLL_WRITE, page) == 1)
		return 0;
	*writable = want_write;
	if (want_write)
		flags |= FOLL_WRITE;
	got = get_user_pages_unlocked(hva, 1, page, flags);
	if (got == 1)
		return 0;
	return got < 0 ? got : -EFAULT;
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

int host_fault_in(struct host_vm *vm, host_u64 hva, bool want_write, struct host_frame *frame)
{
	struct page *page = NULL;
	bool writable;
	int r;

	memset(frame, 0, sizeof(*frame));
	frame->mmu_seq = READ_ONCE(vm->mmu_seq);
	/*
	 * The sequence is read before the page is looked up; its writers move it after the change.
	 */
	smp_rmb();

	r = get_page_at(hva, want_write, &page, &writable);
	if (r == -EHWPOISON)
		send_sig_mceerr(BUS_MCEERR_AR, (void __user *)(unsigned long)hva, PAGE_SHIFT,
				current);
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
	if (page) {
		frame->pfn = page_to_pfn(page);
		frame->writable = writable;
		frame->page = page;
	}
	frame->order = mapping_order(vm->mm, hva);
	return 0;
}

bool host_frame_at_hand(struct host_vm *vm, host_u64 hva, bool want_write,
			struct host_frame *frame)
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
	return true;
}

void host_frame_put(struct host_frame *frame, bool dirty)
{
	struct page *page = frame->page;

	if (!page)
		return;
	frame->page = NULL;
	/* The zero page and its like carry no such state. */
	if (!PageReserved(page)) {
		if (dirty)
			SetPageDirty(page);
		mark_page_accessed(page);
	}
	put_page(page);
}
