// SPDX-License-Identifier: GPL-2.0-only
/* The core's locks, and what its readers read without one. */
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>

#include <minivmx/host.h>

#include "lock.h"

/* Raw: timers' handlers take it in hard interrupt context. */
struct host_lock {
	raw_spinlock_t spinlock;
};

struct host_lock *host_lock_create(void)
{
	struct host_lock *lock = kzalloc(sizeof(*lock), GFP_KERNEL_ACCOUNT);

	if (lock)
		raw_spin_lock_init(&lock->spinlock);
	return lock;
}

void host_lock_destroy(struct host_lock *lock)
{
	kfree(lock);
}

host_u64 host_lock_take(struct host_lock *lock) __acquires(&lock->spinlock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock->spinlock, flags);
	return flags;
}

void host_lock_release(struct host_lock *lock, host_u64 flags) __releases(&lock->spinlock)
{
	raw_spin_unlock_irqrestore(&lock->spinlock, (unsigned long)flags);
}

/*
 * The module's own readers: who waits, waits for these alone. With the kernel's RCU each wait had
 * to interrupt every CPU, or to last until all of them had passed through the scheduler, and a
 * client that sets up its routing waits many times.
 */
static struct srcu_struct readers;

int readers_init(void)
{
	return init_srcu_struct(&readers);
}

void readers_exit(void)
{
	cleanup_srcu_struct(&readers);
}

int host_rcu_read_lock(void) __acquires(&readers)
{
	return srcu_read_lock(&readers);
}

void host_rcu_read_unlock(int section) __releases(&readers)
{
	srcu_read_unlock(&readers, section);
}

void host_rcu_wait(void)
{
	synchronize_srcu_expedited(&readers);
}
