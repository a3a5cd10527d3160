// SPDX-License-Identifier: GPL-2.0-only
/*
 * L1 terminal fault: on affected CPUs a guest can speculatively read what is in the L1 data cache,
 * so it is flushed before VM entry. Parameter vmentry_l1d_flush has kvm_intel's values and meaning:
 *
 * - never: not at all
 * - cond: when host code ran that may have brought in somebody else's data; an exit that was
 *   answered by a few lines of ours is not
 * - always: before each entry
 *
 * Without it the kernel's l1tf= option decides.
 */
#define pr_fmt(fmt) "minivmx: " fmt

#include <linux/gfp.h>
#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/hardirq.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/vmx.h>

#include "objects.h"
#include "world.h"

/* Twice the L1 data cache of any affected CPU: reading it leaves nothing else in there. */
#define FLUSH_BUFFER_ORDER 4
#define FLUSH_BUFFER_SIZE (PAGE_SIZE << FLUSH_BUFFER_ORDER)

static const char *const mode_name[] = {
	[VMENTER_L1D_FLUSH_AUTO] = "auto",
	[VMENTER_L1D_FLUSH_NEVER] = "never",
	[VMENTER_L1D_FLUSH_COND] = "cond",
	[VMENTER_L1D_FLUSH_ALWAYS] = "always",
	[VMENTER_L1D_FLUSH_EPT_DISABLED] = "EPT disabled",
	[VMENTER_L1D_FLUSH_NOT_REQUIRED] = "not required",
};

static DEFINE_MUTEX(mode_lock);
static enum vmx_l1d_flush_state mode = VMENTER_L1D_FLUSH_AUTO;
static bool initialized;
static bool ept_in_use;
static u8 *flush_buffer;
DEFINE_STATIC_KEY_FALSE(l1d_flush_wanted);
static DEFINE_STATIC_KEY_FALSE(flush_conditional);

static bool cpu_needs_no_flush(void)
{
	u64 capabilities;

	if (!boot_cpu_has_bug(X86_BUG_L1TF))
		return true;
	/* A hypervisor below does it for us. */
	return boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES) &&
	       !rdmsrl_safe(MSR_IA32_ARCH_CAPABILITIES, &capabilities) &&
	       (capabilities & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH);
}

static enum vmx_l1d_flush_state decide(enum vmx_l1d_flush_state wish, bool uses_ept)
{
	if (cpu_needs_no_flush())
		return VMENTER_L1D_FLUSH_NOT_REQUIRED;
	if (!uses_ept)
		return VMENTER_L1D_FLUSH_EPT_DISABLED;
	if (l1tf_mitigation == L1TF_MITIGATION_FULL_FORCE)
		return VMENTER_L1D_FLUSH_ALWAYS;
	if (wish != VMENTER_L1D_FLUSH_AUTO)
		return wish;
	if (l1tf_mitigation == L1TF_MITIGATION_OFF)
		return VMENTER_L1D_FLUSH_NEVER;
	if (l1tf_mitigation == L1TF_MITIGATION_FULL)
		return VMENTER_L1D_FLUSH_ALWAYS;
	return VMENTER_L1D_FLUSH_COND;
}

bool l1d_flushes(bool ept)
{
	return decide(mode, ept) != VMENTER_L1D_FLUSH_NEVER;
}

static int need_flush_buffer(void)
{
	unsigned int i;
	struct page *pages;

	if (flush_buffer || boot_cpu_has(X86_FEATURE_FLUSH_L1D))
		return 0;
	pages = alloc_pages(GFP_KERNEL, FLUSH_BUFFER_ORDER);
	if (!pages)
		return -ENOMEM;
	flush_buffer = page_address(pages);
	/*
	 * Should this host be a guest, a hypervisor that merges equal pages must not shrink the
	 * buffer.
	 */
	for (i = 0; i < 1u << FLUSH_BUFFER_ORDER; i++)
		memset(flush_buffer + i * PAGE_SIZE, i + 1, PAGE_SIZE);
	return 0;
}

static void set_key(struct static_key_false *key, bool on)
{
	if (on)
		static_branch_enable(key);
	else
		static_branch_disable(key);
}

static int apply(enum vmx_l1d_flush_state wish)
{
	enum vmx_l1d_flush_state decided = decide(wish, ept_in_use);
	bool flushes = decided == VMENTER_L1D_FLUSH_COND || decided == VMENTER_L1D_FLUSH_ALWAYS;
	int r;

	if (flushes) {
		r = need_flush_buffer();
		if (r)
			return r;
	}
	mode = decided;
	set_key(&flush_conditional, decided == VMENTER_L1D_FLUSH_COND);
	set_key(&l1d_flush_wanted, flushes);
	return 0;
}

int l1d_init(bool ept)
{
	int r;

	mutex_lock(&mode_lock);
	ept_in_use = ept;
	r = apply(mode);
	initialized = !r;
	mutex_unlock(&mode_lock);
	return r;
}

void l1d_exit(void)
{
	free_pages((unsigned long)flush_buffer, FLUSH_BUFFER_ORDER);
	flush_buffer = NULL;
}

static int parameter_set(const char *text, const struct kernel_param *parameter)
{
	int wish, r = 0;

	for (wish = VMENTER_L1D_FLUSH_AUTO; wish <= VMENTER_L1D_FLUSH_ALWAYS; wish++) {
		if (text && sysfs_streq(text, mode_name[wish]))
			break;
	}
	if (wish > VMENTER_L1D_FLUSH_ALWAYS) {
		pr_err("vmentry_l1d_flush is auto, never, cond or always\n");
		return -EINVAL;
	}

	mutex_lock(&mode_lock);
	if (initialized)
		r = apply(wish);
	else
		mode = wish; /* insmod: the CPU's features and ept= aren't known yet */
	mutex_unlock(&mode_lock);
	return r;
}

static int parameter_get(char *text, const struct kernel_param *parameter)
{
	return sprintf(text, "%s\n", mode_name[READ_ONCE(mode)]);
}

static const struct kernel_param_ops parameter_ops = {
	.set = parameter_set,
	.get = parameter_get,
};
module_param_cb(vmentry_l1d_flush, &parameter_ops, NULL, 0644);
MODULE_PARM_DESC(vmentry_l1d_flush,
		 "L1 data cache flush before VM entry: auto, never, cond or always");

/*
 * Touches each page, so that no page walk adds lines afterwards, then each line. Of so many
 * instructions counting would be three quarters, were the loop not unrolled.
 */
static __always_inline void fill_cache_from_buffer(void)
{
	const volatile u8 *buffer = flush_buffer;
	u32 eax = 0, ebx, ecx = 0, edx;
	unsigned int i;

	for (i = 0; i < FLUSH_BUFFER_SIZE; i += PAGE_SIZE)
		(void)buffer[i];
	/* Serializes: the walks above are over before the lines are read. */
	asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx) : : "memory");
#pragma GCC unroll 32
	for (i = 0; i < FLUSH_BUFFER_SIZE; i += L1_CACHE_BYTES)
		(void)buffer[i];
	asm volatile("lfence" : : : "memory");
}

noinstr bool l1d_flush(struct host_vcpu *vcpu)
{
	if (static_branch_likely(&flush_conditional)) {
		/* Set by the core, and by the kernel's interrupt handlers for this CPU. */
		bool secrets = vcpu->area.flush_l1d || kvm_get_cpu_l1tf_flush_l1d();

		vcpu->area.flush_l1d = 0;
		kvm_clear_cpu_l1tf_flush_l1d();
		if (!secrets)
			return false;
	}
	if (static_cpu_has(X86_FEATURE_FLUSH_L1D)) {
		native_wrmsrl(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return true;
	}
	fill_cache_from_buffer();
	return false;
}
