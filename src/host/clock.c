// SPDX-License-Identifier: GPL-2.0-only
/* The clock behind kvmclock: raw monotonic time, which no NTP adjusts, plus what the machine slept. */
#include <linux/clocksource.h>
#include <linux/notifier.h>
#include <linux/pvclock_gtod.h>
#include <linux/suspend.h>
#include <linux/timekeeper_internal.h>
#include <linux/timekeeping.h>
#include <asm/cpufeature.h>
#include <asm/msr.h>

#include <minivmx/host.h>

#include "clock.h"
#include "objects.h"

/* The timekeeper counts the TSC; told by the kernel at each of its ticks. */
static bool counts_tsc;

static int on_timekeeper_update(struct notifier_block *block, unsigned long was_set, void *data)
{
	const struct timekeeper *tk = data;

	WRITE_ONCE(counts_tsc, tk->tkr_mono.clock->vdso_clock_mode == VDSO_CLOCKMODE_TSC);
	return 0;
}

static struct notifier_block timekeeper_block = {
	.notifier_call = on_timekeeper_update,
};

void clock_init(void)
{
	pvclock_gtod_register_notifier(&timekeeper_block);
}

void clock_exit(void)
{
	pvclock_gtod_unregister_notifier(&timekeeper_block);
}

static u64 slept_ns(void)
{
	return ktime_to_ns(ktime_mono_to_any(0, TK_OFFS_BOOT));
}

void host_clock_read(struct host_clock *clock)
{
	/* Before and after: the kernel may take another clock in between. */
	const bool counted_tsc = READ_ONCE(counts_tsc);
	struct system_time_snapshot now;

	ktime_get_snapshot(&now);
	clock->ns = ktime_to_ns(now.raw) + slept_ns();
	clock->realtime_ns = ktime_to_ns(now.real);
	clock->counts_tsc = counted_tsc && READ_ONCE(counts_tsc) && !check_tsc_unstable();
	clock->tsc = clock->counts_tsc ? now.cycles : rdtsc();
}

/*
 * A guest whose watchdog finds that nothing ran for hours complains, unless it is told. Before the
 * machine sleeps, since the first of the guest's threads to run afterwards would be too early.
 */
static int on_suspend(struct notifier_block *block, unsigned long event, void *data)
{
	struct host_vm *vm = container_of(block, struct host_vm, suspend_block);

	if (event == PM_SUSPEND_PREPARE || event == PM_HIBERNATION_PREPARE)
		host_request_all(vm, VCPU_REQUEST_STOPPED);
	return NOTIFY_DONE;
}

int clock_watch_suspend(struct host_vm *vm)
{
	vm->suspend_block.notifier_call = on_suspend;
	return register_pm_notifier(&vm->suspend_block);
}

void clock_unwatch_suspend(struct host_vm *vm)
{
	unregister_pm_notifier(&vm->suspend_block);
}
