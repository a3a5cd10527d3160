// SPDX-License-Identifier: GPL-2.0-only
/* The core's locks, and what its readers read without one. */
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include <minivmx/host.h>

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

void host_rcu_read_lock(void) __acquires(RCU)
{
	rcu_read_lock();
}

void host_rcu_read_unlock(void) __releases(RCU)
{
	rcu_read_unlock();
}

void host_rcu_wait(void)
{
	/* A client that sets up its routing waits for this, and does it many times. */
	synchronize_rcu_expedited();
}
