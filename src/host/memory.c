// SPDX-License-Identifier: GPL-2.0-only
/* Memory of the core's own, and access to the guest's by its address in user space. */
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <minivmx/host.h>

/* More than any table of the core needs: an allocation beyond it is a bug, not a wish. */
#define MAX_ALLOCATION (1ul << 30)

void *host_zalloc(size_t size)
{
	if (size > MAX_ALLOCATION)
		return NULL;
	return kvzalloc(size, GFP_KERNEL_ACCOUNT);
}

void host_free(void *memory)
{
	kvfree(memory);
}

void *host_page_alloc(void)
{
	return (void *)__get_free_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
}

void *host_page_alloc_unset(void)
{
	return (void *)__get_free_page(GFP_KERNEL_ACCOUNT);
}

void *host_page_alloc_low(void)
{
	return (void *)__get_free_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_DMA32);
}

void host_page_free(void *page)
{
	free_page((unsigned long)page);
}

host_u64 host_page_phys(const void *page)
{
	return __pa(page);
}

void *host_phys_page(host_u64 phys)
{
	return __va(phys);
}

void host_page_set_owner(void *page, void *owner)
{
	set_page_private(virt_to_page(page), (unsigned long)owner);
}

void *host_phys_owner(host_u64 phys)
{
	return (void *)page_private(pfn_to_page(PHYS_PFN(phys)));
}

/*
 * One access, which a copy of bytes doesn't promise: the guest's entries of page tables change
 * under their reader. A fault is resolved where that may sleep, else it is -EFAULT.
 */
#define DEFINE_READ_USER(type)                                                                     \
	static int read_user_##type(void *to, const type __user *at)                               \
	{                                                                                          \
		type value;                                                                        \
                                                                                                   \
		if (__get_user(value, at))                                                         \
			return -EFAULT;                                                            \
		memcpy(to, &value, sizeof(value));                                                 \
		return 0;                                                                          \
	}
DEFINE_READ_USER(u32)
DEFINE_READ_USER(u64)

int host_copy_from_user(void *to, host_u64 hva, size_t size)
{
	const void __user *at = (const void __user *)hva;

	if (!access_ok(at, size))
		return -EFAULT;
	might_fault();
	if (size == 4 && IS_ALIGNED(hva, 4))
		return read_user_u32(to, at);
	if (size == 8 && IS_ALIGNED(hva, 8))
		return read_user_u64(to, at);
	return copy_from_user(to, at, size) ? -EFAULT : 0;
}

int host_read_user_atomic(void *to, host_u64 hva, size_t size)
{
	const void __user *at = (const void __user *)hva;
	int r;

	if (!access_ok(at, size))
		return -EFAULT;
	pagefault_disable();
	if (size == 4 && IS_ALIGNED(hva, 4))
		r = read_user_u32(to, at);
	else if (size == 8 && IS_ALIGNED(hva, 8))
		r = read_user_u64(to, at);
	else
		r = __copy_from_user_inatomic(to, at, size) ? -EFAULT : 0;
	pagefault_enable();
	return r;
}

bool host_user_words_are(const struct host_user_word *words, host_u32 count)
{
	bool same = false;
	u64 value;
	u32 i;

	for (i = 0; i < count; i++) {
		if (!access_ok((const void __user *)words[i].hva, sizeof(value)))
			return false;
	}
	pagefault_disable();
	/* A pointer to one of them stands for all: they are checked. */
	if (!user_read_access_begin((const void __user *)words->hva, sizeof(value)))
		goto out;
	for (i = 0; i < count; i++) {
		unsafe_get_user(value, (const u64 __user *)words[i].hva, end);
		if ((value ^ words[i].value) & words[i].mask)
			goto end;
	}
	same = true;
end:
	user_read_access_end();
out:
	pagefault_enable();
	return same;
}

int host_copy_to_user(host_u64 hva, const void *from, size_t size)
{
	return copy_to_user((void __user *)hva, from, size) ? -EFAULT : 0;
}

bool host_user_range_ok(host_u64 hva, host_u64 size)
{
	return access_ok((const void __user *)hva, size);
}

#define DEFINE_CMPXCHG_USER(type)                                                                  \
	static int cmpxchg_user_##type(type __user *at, host_u64 *expected, type desired)          \
	{                                                                                          \
		type old = *expected;                                                              \
		int differed = __try_cmpxchg_user(at, &old, desired, fault);                       \
                                                                                                   \
		*expected = old;                                                                   \
		return differed < 0 ? differed : differed ? -EAGAIN : 0;                           \
	}
DEFINE_CMPXCHG_USER(u8)
DEFINE_CMPXCHG_USER(u16)
DEFINE_CMPXCHG_USER(u32)
DEFINE_CMPXCHG_USER(u64)

int host_cmpxchg_user(host_u64 hva, host_u64 *expected, host_u64 desired, host_u32 size)
{
	void __user *at = (void __user *)hva;

	if (!size || !IS_ALIGNED(hva, size) || !access_ok(at, size))
		return -EFAULT;
	switch (size) {
	case 1:
		return cmpxchg_user_u8(at, expected, desired);
	case 2:
		return cmpxchg_user_u16(at, expected, desired);
	case 4:
		return cmpxchg_user_u32(at, expected, desired);
	case 8:
		return cmpxchg_user_u64(at, expected, desired);
	default:
		return -EFAULT;
	}
}

void host_relax(void)
{
	/* A sleep, not a spin: who is waited for may have lower priority on this very CPU. */
	usleep_range(10, 50);
}
