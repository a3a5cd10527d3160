// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a task owes the kernel before it may stay in a guest: rescheduling, signals, task work.
 *
 * The kernel's helper for that is made for kvm and reports a signal through a struct kvm_vcpu. It
 * gets one of its own that nobody else looks at; that a signal came is known from the return value.
 */
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#include <linux/sched/signal.h>

#include "compat.h"

/*
 * world.h's declaration, which can't be included here: host.h and kvm's headers both name
 * KVM_DEBUGREG_*.
 */
int work_do_before_entry(void);

static struct kvm_run unused_run;
static struct kvm_vcpu unused_vcpu = { .run = &unused_run };

int work_do_before_entry(void)
{
	if (signal_pending(current))
		return -EINTR;
	return xfer_to_guest_mode_handle_work(&unused_vcpu);
}
