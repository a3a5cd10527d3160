// SPDX-License-Identifier: GPL-2.0-only
/* The core's locks, and what its readers read without one. */
#include <linux/cpumask.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
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

/*
 * Readers count themselves, each CPU on a line of its own, so who waits for them only has to add
 * up: mostly nobody reads, and the wait is over at once. With the kernel's RCU, or SRCU, it would
 * end no sooner than threads of the kernel had run, and a client that sets up its VM waits often.
 *
 * Entering: count, barrier, read the pointer. Waiting: the new pointer is there, barrier, look at
 * the counts. So either the reader is seen, or it sees the new pointer. Of two sets of counts one
 * is for readers to come, so that they can't keep those who wait from an end.
 */
struct reader_counts {
	unsigned long entered[2], left[2]; /* by the set; readers may leave on another CPU */
};

static DEFINE_PER_CPU_ALIGNED(struct reader_counts, readers);
static int current_set;
static DEFINE_MUTEX(wait_mutex);

int host_rcu_read_lock(void)
{
	int set = READ_ONCE(current_set);

	this_cpu_inc(readers.entered[set]);
	smp_mb(); /* before anything is read; pairs with host_rcu_wait() */
	return set;
}

void host_rcu_read_unlock(int section)
{
	smp_mb(); /* after everything was read; pairs with nobody_reads() */
	this_cpu_inc(readers.left[section]);
}

/*
 * Who leaves while this adds up must not be counted unless his entry is: so the entries are read
 * last.
 */
static bool nobody_reads(int set)
{
	unsigned long entered = 0, left = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		left += READ_ONCE(per_cpu(readers, cpu).left[set]);
	smp_mb();
	for_each_possible_cpu(cpu)
		entered += READ_ONCE(per_cpu(readers, cpu).entered[set]);
	return entered == left;
}

static void wait_for_set(int set)
{
	while (!nobody_reads(set))
		host_relax();
}

void host_rcu_wait(void)
{
	mutex_lock(&wait_mutex);
	smp_mb(); /* what was published comes first */
	/* Stragglers of the last change, before others join them. */
	wait_for_set(!current_set);
	WRITE_ONCE(current_set, !current_set);
	smp_mb();
	wait_for_set(!current_set);
	smp_mb(); /* what is freed now was read before */
	mutex_unlock(&wait_mutex);
}
