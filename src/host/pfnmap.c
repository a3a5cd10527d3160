// SPDX-License-Identifier: GPL-2.0-only
/*
 * Slots over mappings of physical addresses (VM_PFNMAP, VM_IO): a device's registers, memory that a
 * driver maps. get_user_pages() refuses them, since there may be no struct page to hold; but their
 * mappings go with notifier calls as others do, so the translation is taken away in time.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <asm/e820/api.h>
#include <asm/memtype.h>

#include "compat.h"
#include "pfnmap.h"

/* Takes a reference where the page has references at all. Whoever maps a page that could have them,
 * but has none, may free it at any time. */
static int hold_page(struct host_frame *frame)
{
	struct page *page;

	if (!pfn_valid(frame->pfn))
		return 0;
	page = pfn_to_page(frame->pfn);
	if (PageReserved(page) && !is_zero_pfn(frame->pfn))
		return 0;
	if (!get_page_unless_zero(page))
		return -EFAULT;
	frame->page = page;
	return 0;
}

/* Not memory, as far as the kernel knows; or memory that is mapped uncached here. */
static bool is_device(u64 pfn)
{
	if (pfn_valid(pfn))
		return !is_zero_pfn(pfn) && PageReserved(pfn_to_page(pfn)) &&
		       (!pat_enabled() || pat_pfn_immune_to_uc_mtrr(pfn));
	return !e820__mapped_raw_any(PFN_PHYS(pfn), PFN_PHYS(pfn + 1) - 1, E820_TYPE_RAM);
}

/* -EAGAIN: the lock was dropped meanwhile, and vma may be gone. */
static int find_pfn(struct vm_area_struct *vma, unsigned long hva, bool want_write,
		    struct host_frame *frame)
{
	bool unlocked = false, writable;
	unsigned long pfn;
	int r = compat_follow_pfn(vma, hva, &pfn, &writable);

	if (r) {
		r = fixup_user_fault(vma->vm_mm, hva, want_write ? FAULT_FLAG_WRITE : 0, &unlocked);
		if (r)
			return r;
		if (unlocked)
			return -EAGAIN;
		r = compat_follow_pfn(vma, hva, &pfn, &writable);
	}
	if (r)
		return r;
	if (want_write && !writable)
		return -EACCES;
	frame->pfn = pfn;
	frame->writable = writable;
	return 0;
}

int pfnmap_fault_in(unsigned long hva, bool want_write, struct host_frame *frame)
{
	struct vm_area_struct *vma;
	int r;

	mmap_read_lock(current->mm);
	do {
		vma = vma_lookup(current->mm, hva);
		if (vma && (vma->vm_flags & (VM_IO | VM_PFNMAP)))
			r = find_pfn(vma, hva, want_write, frame);
		else
			r = -EFAULT;
	} while (r == -EAGAIN);
	mmap_read_unlock(current->mm);
	if (!r)
		r = hold_page(frame);
	frame->device = !r && is_device(frame->pfn);
	return r;
}
