// SPDX-License-Identifier: GPL-2.0-only
/* The core's timers: high-resolution ones whose handlers run in hard interrupt context. */
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/timekeeping.h>
#include <linux/slab.h>

#include <minivmx/host.h>

#include "compat.h"

struct host_timer {
	struct hrtimer hrtimer;
	void (*fire)(void *arg);
	void *arg;
};

host_u64 host_time_ns(void)
{
	return ktime_get_ns();
}

static enum hrtimer_restart expired(struct hrtimer *hrtimer)
{
	struct host_timer *timer = container_of(hrtimer, struct host_timer, hrtimer);

	timer->fire(timer->arg);
	/* If fire() has started it again it is in the queue already. */
	return HRTIMER_NORESTART;
}

struct host_timer *host_timer_create(void (*fire)(void *arg), void *arg)
{
	struct host_timer *timer = kzalloc(sizeof(*timer), GFP_KERNEL_ACCOUNT);

	if (!timer)
		return NULL;
	timer->fire = fire;
	timer->arg = arg;
	compat_hrtimer_setup(&timer->hrtimer, expired, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
	return timer;
}

void host_timer_destroy(struct host_timer *timer)
{
	if (!timer)
		return;
	hrtimer_cancel(&timer->hrtimer);
	kfree(timer);
}

void host_timer_start(struct host_timer *timer, host_u64 deadline_ns)
{
	/* ktime_t is signed: the far future is never. */
	const u64 deadline = min_t(u64, deadline_ns, KTIME_MAX);

	hrtimer_start(&timer->hrtimer, ns_to_ktime(deadline), HRTIMER_MODE_ABS_HARD);
}

void host_timer_cancel(struct host_timer *timer)
{
	hrtimer_cancel(&timer->hrtimer);
}
