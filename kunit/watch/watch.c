// SPDX-License-Identifier: GPL-2.0-only
/*
 * Audits VM entries of minivmx.ko while it does something else: an entry that succeeds though the
 * audit finds fault with it is a false alarm, and said so in the log.
 *
 * It hangs on the tracepoints minivmx:entry and minivmx:exit, which lie right before and right
 * after the entry, with interrupts off: the module has nothing for it, and is the one that is
 * shipped. It waits for the module to be loaded, as often as that happens.
 */
#define pr_fmt(fmt) "minivmx_watch: " fmt

#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/string.h>
#include <linux/tracepoint.h>

#include "core.h"

/* Of each load of the module these many entries are audited, and then one in so many. */
#define ALL_OF_FIRST 3072
#define ONE_IN 128
/* AuditSentence of audit.hpp. */
#define MOST_TEXT 560

struct audit {
	bool done; /* of the entry that is under way */
	u32 violated;
	char text[MOST_TEXT];
};
static DEFINE_PER_CPU(struct audit, audits);

/* Since the watcher was loaded, for /sys/module/minivmx_watch/parameters. */
static uint audited, confirmed, false_alarms;
module_param(audited, uint, 0444);
MODULE_PARM_DESC(audited, "entries that were audited");
module_param(confirmed, uint, 0444);
MODULE_PARM_DESC(confirmed, "entries that the audit found fault with, and that failed");
module_param(false_alarms, uint, 0444);
MODULE_PARM_DESC(false_alarms, "entries that the audit found fault with, and that succeeded");
static uint missed;
module_param(missed, uint, 0444);
MODULE_PARM_DESC(missed, "entries that the audit found no fault with, and that failed");

static atomic_t entries = ATOMIC_INIT(0);

/* ---- The tracepoints ---- */

struct host_vcpu;

static void on_entry(void *data, const struct host_vcpu *vcpu, u64 rip)
{
	struct audit *audit = this_cpu_ptr(&audits);
	u32 number = atomic_inc_return(&entries);

	audit->done = number <= ALL_OF_FIRST || number % ONE_IN == 0;
	if (audit->done)
		audit->violated = watch_core_audit(audit->text, sizeof(audit->text));
}

static void judge(const struct audit *audit, bool failed)
{
	audited++;
	if (audit->violated && failed) {
		confirmed++;
	} else if (audit->violated) {
		false_alarms++;
		pr_err_ratelimited("false alarm: %s\n", audit->text);
	} else if (failed) {
		missed++;
	}
}

static void on_exit(void *data, const struct host_vcpu *vcpu, const struct host_exit_facts *exit)
{
	struct audit *audit = this_cpu_ptr(&audits);

	/* Without an entry before, the watcher came in between. */
	if (audit->done)
		judge(audit, exit->instruction_error || exit->reason & BIT(31));
	audit->done = false;
}

/* ---- The module that is watched ---- */

static const struct {
	const char *name;
	void *probe;
} probes[] = {
	{ "entry", on_entry },
	{ "exit", on_exit },
};

static bool is_watched(const struct module *module)
{
	return !strcmp(module->name, "minivmx") || !strcmp(module->name, "minivmx_test");
}

/* How many of the probes are in place now, or were taken away. */
static int for_each_probe(const struct module *module,
			  int (*what)(struct tracepoint *point, void *probe, void *data))
{
	unsigned int i, k;
	int done = 0;

	for (i = 0; i < module->num_tracepoints; i++) {
		struct tracepoint *point = tracepoint_ptr_deref(&module->tracepoints_ptrs[i]);

		for (k = 0; k < ARRAY_SIZE(probes); k++)
			if (!strcmp(point->name, probes[k].name) &&
			    !what(point, probes[k].probe, NULL))
				done++;
	}
	return done;
}

static int module_comes_or_goes(struct notifier_block *block, unsigned long what, void *data)
{
	const struct module *module = ((struct tp_module *)data)->mod;

	if (!is_watched(module))
		return NOTIFY_DONE;
	if (what == MODULE_STATE_COMING) {
		atomic_set(&entries, 0);
		if (for_each_probe(module, tracepoint_probe_register) != ARRAY_SIZE(probes))
			pr_err("%s lacks a tracepoint\n", module->name);
	} else if (what == MODULE_STATE_GOING) {
		for_each_probe(module, tracepoint_probe_unregister);
		tracepoint_synchronize_unregister();
	}
	return NOTIFY_OK;
}

static struct notifier_block notifier = {
	.notifier_call = module_comes_or_goes,
};

static int __init watch_init(void)
{
	watch_core_init();
	return register_tracepoint_module_notifier(&notifier);
}

/* Takes the probes away, too: to the notifier the module goes. */
static void __exit watch_exit(void)
{
	unregister_tracepoint_module_notifier(&notifier);
}

module_init(watch_init);
module_exit(watch_exit);

MODULE_DESCRIPTION("Audits the VM entries of minivmx");
MODULE_LICENSE("GPL");
