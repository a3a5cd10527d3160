// SPDX-License-Identifier: GPL-2.0-only
/*
 * MSRs that the kernel itself doesn't use while it runs (SYSCALL's targets, TSC_AUX, parts of
 * EFER): the guest's values stay in the CPU until it returns to user mode, when a notifier puts the
 * host's back.
 */
#include <linux/percpu.h>
#include <linux/user-return-notifier.h>
#include <asm/msr.h>

#include "objects.h"
#include "world.h"

/* clang-format off */
static const u32 uret_msr[URET_COUNT] = {
	[URET_STAR] = MSR_STAR,
	[URET_LSTAR] = MSR_LSTAR,
	[URET_CSTAR] = MSR_CSTAR,
	[URET_SYSCALL_MASK] = MSR_SYSCALL_MASK,
	[URET_TSC_AUX] = MSR_TSC_AUX,
	[URET_EFER] = MSR_EFER,
};
/* clang-format on */

/* Which of them every CPU has; a bit per enum vcpu_uret_msr. */
static u32 uret_present;

/*
 * What this CPU's MSRs are for the host, and what they hold now. Interrupts are off around changes
 * of registered.
 */
struct uret_cpu {
	struct user_return_notifier notifier;
	bool registered;
	u64 host[URET_COUNT];
	u64 now[URET_COUNT];
};

static DEFINE_PER_CPU(struct uret_cpu, uret_cpus);

DEFINE_PER_CPU(const struct host_vcpu *, uret_owner);

void uret_init(void)
{
	u64 value;
	int i;

	uret_present = 0;
	for (i = 0; i < URET_COUNT; i++) {
		if (!rdmsrl_safe(uret_msr[i], &value) && !wrmsrl_safe(uret_msr[i], value))
			uret_present |= BIT(i);
	}
}

static void restore_host(struct uret_cpu *here)
{
	int i;

	__this_cpu_write(uret_owner, NULL);
	if (here->registered) {
		here->registered = false;
		user_return_notifier_unregister(&here->notifier);
	}
	for (i = 0; i < URET_COUNT; i++) {
		if (here->now[i] != here->host[i]) {
			wrmsrl(uret_msr[i], here->host[i]);
			here->now[i] = here->host[i];
		}
	}
}

static void on_user_return(struct user_return_notifier *notifier)
{
	unsigned long flags;

	/* The interrupt that ends VMX operation on this CPU does the same. */
	local_irq_save(flags);
	restore_host(container_of(notifier, struct uret_cpu, notifier));
	local_irq_restore(flags);
}

void uret_cpu_start(void)
{
	struct uret_cpu *here = this_cpu_ptr(&uret_cpus);
	int i;

	here->notifier.on_user_return = on_user_return;
	for (i = 0; i < URET_COUNT; i++) {
		if (!(uret_present & BIT(i)))
			continue;
		rdmsrl(uret_msr[i], here->host[i]);
		here->now[i] = here->host[i];
	}
}

void uret_cpu_stop(void)
{
	restore_host(this_cpu_ptr(&uret_cpus));
}

static void load_one(struct uret_cpu *here, int i, u64 guest, u64 mask)
{
	u64 value = (guest & mask) | (here->host[i] & ~mask);

	if (value == here->now[i])
		return;
	/* The core checked the value; should the CPU refuse it all the same, the host's stays. */
	if (wrmsrl_safe(uret_msr[i], value))
		return;
	here->now[i] = value;
	if (!here->registered) {
		user_return_notifier_register(&here->notifier);
		here->registered = true;
	}
}

void uret_load_own(struct host_vcpu *vcpu)
{
	struct vcpu_area *area = &vcpu->area;
	struct uret_cpu *here = this_cpu_ptr(&uret_cpus);
	int i;

	for (i = 0; i < URET_COUNT; i++) {
		if (area->uret_mask[i] && (uret_present & BIT(i)))
			load_one(here, i, area->uret[i], area->uret_mask[i]);
	}
	area->uret_dirty = 0;
	__this_cpu_write(uret_owner, vcpu);
}
