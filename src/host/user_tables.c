// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page tables of user space, as the CPU walks them.
 *
 * With interrupts off the tables can't be freed, as in the kernel's own lockless walks. Those also
 * take a reference on the page, and look again whether it is still the same; here the mmu notifiers'
 * sequence says so in the end, and no reference is needed: a page goes only after its translation.
 */
#include <linux/mm.h>
#include <linux/pgtable.h>

#include <minivmx/host.h>

#include "objects.h"
#include "user_tables.h"

/*
 * The entry that maps hva, or NULL. What is looked at here is at the same place in entries of all
 * levels.
 */
static __always_inline const pte_t *leaf_entry(struct mm_struct *mm, unsigned long hva,
					       unsigned int *order)
{
	pgd_t pgd = READ_ONCE(*pgd_offset(mm, hva));
	const pud_t *pud_entry;
	const pmd_t *pmd_entry;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;

	if (pgd_none(pgd))
		return NULL;
	p4d = READ_ONCE(*p4d_offset(&pgd, hva));
	if (p4d_none(p4d) || !p4d_present(p4d))
		return NULL;
	pud_entry = pud_offset(&p4d, hva);
	pud = READ_ONCE(*pud_entry);
	if (pud_none(pud) || !pud_present(pud))
		return NULL;
	*order = ORDER_1G;
	if (pud_leaf(pud))
		return (const pte_t *)pud_entry;
	pmd_entry = pmd_offset(&pud, hva);
	pmd = READ_ONCE(*pmd_entry);
	if (pmd_none(pmd) || !pmd_present(pmd))
		return NULL;
	*order = ORDER_2M;
	if (pmd_leaf(pmd))
		return (const pte_t *)pmd_entry;
	*order = ORDER_4K;
	return pte_offset_kernel(&pmd, hva);
}

static unsigned long pfn_of(pte_t entry, unsigned int order, unsigned long hva)
{
	unsigned long within = (1ul << order) - 1;
	unsigned long pfn;

	if (order == ORDER_4K)
		return pte_pfn(entry);
	pfn = order == ORDER_2M ? pmd_pfn(__pmd(pte_val(entry))) : pud_pfn(__pud(pte_val(entry)));
	return pfn + (PHYS_PFN(hva) & within);
}

/* Neither the zero page nor physical addresses nor a device's memory. */
static bool is_ordinary(pte_t entry)
{
#ifdef CONFIG_ARCH_HAS_PTE_DEVMAP
	if (pte_devmap(entry))
		return false;
#endif
	return pte_access_permitted(entry, false) && !pte_special(entry);
}

/* With interrupts off, since they keep the struct page, too. */
static __always_inline void describe(pte_t entry, unsigned int order, unsigned long hva,
				     struct user_mapping *mapping)
{
	struct folio *folio;

	mapping->order = order;
	mapping->ordinary = is_ordinary(entry);
	mapping->writable = pte_access_permitted(entry, true);
	if (!mapping->ordinary)
		return;
	mapping->dirty = pte_dirty(entry);
	mapping->pfn = pfn_of(entry, order, hva);
	folio = page_folio(pfn_to_page(mapping->pfn));
	mapping->anonymous = folio_test_anon(folio);
	/* Without a reference it may be a folio no longer, which the kernel's question would mind. */
	mapping->swappable = mapping->anonymous || test_bit(PG_swapbacked, &folio->flags);
}

void user_mapping_at(struct mm_struct *mm, unsigned long hva, struct user_mapping *mapping)
{
	unsigned int order = ORDER_4K;
	unsigned long flags;
	const pte_t *entry;

	local_irq_save(flags);
	entry = leaf_entry(mm, hva, &order);
	describe(entry ? READ_ONCE(*entry) : __pte(0), order, hva, mapping);
	local_irq_restore(flags);
}

/*
 * Memory that the kernel counts as written may be written without its being told. Files, other than
 * shared memory, are left to host_fault_in(): not all may be mapped without a reference.
 */
static host_u64 near_frame(const struct user_mapping *mapping)
{
	if (!mapping->ordinary || !mapping->swappable)
		return 0;
	return PFN_PHYS(mapping->pfn) | HOST_NEAR_PRESENT |
	       (mapping->writable && mapping->dirty ? HOST_NEAR_WRITABLE : 0);
}

void host_frames_at_hand(struct host_vm *vm, host_u64 hva, host_u32 count, host_u64 *frames)
{
	struct user_mapping mapping;
	unsigned int order = ORDER_4K;
	const pte_t *entry;
	unsigned long flags;

	lockdep_assert_held(&vm->mmu_lock);
	/* A change under way has passed by already, and would not see the translations. */
	if (vm->invalidations) {
		memset(frames, 0, count * sizeof(*frames));
		return;
	}
	local_irq_save(flags);
	entry = leaf_entry(vm->mm, hva, &order);
	for (; count; count--, hva += PAGE_SIZE, frames++) {
		if (IS_ALIGNED(hva, PMD_SIZE))
			entry = leaf_entry(vm->mm, hva, &order);
		*frames = 0;
		if (!entry)
			continue;
		describe(READ_ONCE(*entry), order, hva, &mapping);
		*frames = near_frame(&mapping);
		if (order == ORDER_4K)
			entry++;
	}
	local_irq_restore(flags);
}
