/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MINIVMX_HOST_USER_TABLES_H
#define MINIVMX_HOST_USER_TABLES_H

#include <linux/mm_types.h>

#define ORDER_4K 0
#define ORDER_2M (PMD_SHIFT - PAGE_SHIFT)
#define ORDER_1G (PUD_SHIFT - PAGE_SHIFT)

/* What user space's tables have for an address at one moment. */
struct user_mapping {
	unsigned int order; /* of the memory that the same entry maps */
	bool writable; /* user space may write */
	bool ordinary; /* it may read, and there is a struct page: else the rest says nothing */
	unsigned long pfn;
	bool dirty; /* the kernel counts it as written */
	bool anonymous; /* no file's */
	bool swappable; /* anonymous or shared memory */
};

/*
 * Looks hva up without locks or references. What was found may change the next moment: such a change
 * calls the mmu notifiers, so it is to be used only if host_mmu_retry(), or the mmu lock held all
 * the time, says that none has come. [any]
 */
void user_mapping_at(struct mm_struct *mm, unsigned long hva, struct user_mapping *mapping);

#endif
