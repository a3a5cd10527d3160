// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the kernel may ask back: shadow pages. A guest only pays for a lost one with page
 * faults, so they go when the machine is short of memory; with EPT there are none, and nothing is
 * registered.
 */
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/shrinker.h>

#include "compat.h"
#include "objects.h"
#include "shrinker.h"

/*
 * A shadow page costs far more to make anew than the page of a file costs to read: this many times
 * the usual price is what the kernel weighs it by.
 */
#define SHADOW_SEEKS (DEFAULT_SEEKS * 10)

/*
 * Every VM. The kernel asks while it reclaims, so nothing may be allocated under the lock; who is
 * on the list stays until it has left it.
 */
static DEFINE_MUTEX(vms_lock);
static LIST_HEAD(vms);

static struct shrinker own_shrinker;
static struct shrinker *shrinker; /* NULL: not registered */

static unsigned long count_shadow_pages(struct shrinker *unused, struct shrink_control *control)
{
	unsigned long pages = 0;
	struct host_vm *vm;

	mutex_lock(&vms_lock);
	list_for_each_entry(vm, &vms, shrinker_link)
		pages += core_mmu_shadow_pages(vm->core);
	mutex_unlock(&vms_lock);
	return pages ?: SHRINK_EMPTY;
}

static unsigned long free_shadow_pages(struct shrinker *unused, struct shrink_control *control)
{
	unsigned long freed = 0;
	struct host_vm *vm;

	/* Somebody is at this very work: to wait for him would free nothing more. */
	if (!mutex_trylock(&vms_lock))
		return SHRINK_STOP;
	list_for_each_entry(vm, &vms, shrinker_link) {
		if (freed >= control->nr_to_scan)
			break;
		freed += core_mmu_shrink(vm->core, control->nr_to_scan - freed);
	}
	/* The next request begins with another VM. */
	list_rotate_left(&vms);
	mutex_unlock(&vms_lock);
	return freed;
}

void shrinker_add_vm(struct host_vm *vm)
{
	mutex_lock(&vms_lock);
	list_add_tail(&vm->shrinker_link, &vms);
	mutex_unlock(&vms_lock);
}

void shrinker_remove_vm(struct host_vm *vm)
{
	mutex_lock(&vms_lock);
	list_del(&vm->shrinker_link);
	mutex_unlock(&vms_lock);
}

int shrinker_init(bool has_shadow_pages)
{
	if (!has_shadow_pages)
		return 0;
	shrinker = compat_shrinker_register(&own_shrinker, "minivmx-shadow", count_shadow_pages,
					    free_shadow_pages, SHADOW_SEEKS);
	return shrinker ? 0 : -ENOMEM;
}

void shrinker_exit(void)
{
	if (shrinker)
		compat_shrinker_unregister(shrinker);
	shrinker = NULL;
}
