/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the supported kernels, 6.1 and 6.12, differ. */
#ifndef MINIVMX_HOST_COMPAT_H
#define MINIVMX_HOST_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0) || LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#error "minivmx supports Linux 6.1 and 6.12"
#endif

#if !IS_ENABLED(CONFIG_KVM)
/* It selects the notifiers and the exports for hypervisor modules that this one uses, too. */
#error "minivmx needs a kernel configured with CONFIG_KVM"
#endif

#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/syscore_ops.h>
#include <asm/desc.h>

/*
 * Syscore callbacks: later updates of 6.12 pass them data. The build looks into the header, since
 * no version number tells.
 */
#ifdef COMPAT_SYSCORE_WITH_DATA
#define COMPAT_SYSCORE_PARAMETER void *unused
#define COMPAT_DEFINE_SYSCORE(name, suspend_fn, resume_fn)                                         \
	static const struct syscore_ops name##_ops = { .suspend = suspend_fn,                      \
						       .resume = resume_fn };                      \
	static struct syscore name = { .ops = &name##_ops }
#define compat_register_syscore(name) register_syscore(name)
#define compat_unregister_syscore(name) unregister_syscore(name)
#else
#define COMPAT_SYSCORE_PARAMETER void
#define COMPAT_DEFINE_SYSCORE(name, suspend_fn, resume_fn)                                         \
	static struct syscore_ops name = { .suspend = suspend_fn, .resume = resume_fn }
#define compat_register_syscore(name) register_syscore_ops(name)
#define compat_unregister_syscore(name) unregister_syscore_ops(name)
#endif

/*
 * Ioctls of kvm's long gone tracing, which 6.1 still knows by name and refuses with an errno of
 * their own.
 */
static inline bool compat_is_trace_ioctl(unsigned int ioctl)
{
#ifdef KVM_TRACE_ENABLE
	return ioctl == KVM_TRACE_ENABLE || ioctl == KVM_TRACE_PAUSE || ioctl == KVM_TRACE_DISABLE;
#else
	return false;
#endif
}

/*
 * The NMI entry for a hypervisor whose VM exit took the NMI: it runs on the present stack, unlike
 * the gate's. Each kernel exports its own name.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
asmlinkage void asm_exc_nmi_kvm_vmx(void);
#define compat_nmi_entry asm_exc_nmi_kvm_vmx
#else
asmlinkage void asm_exc_nmi_noist(void);
#define compat_nmi_entry asm_exc_nmi_noist
#endif

/*
 * The physical page behind an address of a VM_PFNMAP or VM_IO mapping, if it is mapped. The mmap
 * lock is held; what was found stays so only until a notifier says otherwise.
 */
static inline int compat_follow_pfn(struct vm_area_struct *vma, unsigned long address,
				    unsigned long *pfn, bool *writable)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	struct follow_pfnmap_args args = { .vma = vma, .address = address };
	int r = follow_pfnmap_start(&args);

	if (r)
		return r;
	*pfn = args.pfn;
	*writable = args.writable;
	follow_pfnmap_end(&args);
#else
	spinlock_t *lock;
	pte_t *pte;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	int r = follow_pte(vma, address, &pte, &lock);
#else
	int r = follow_pte(vma->vm_mm, address, &pte, &lock);
#endif

	if (r)
		return r;
	__acquire(lock); /* sparse can't know that it is held now */
	*pfn = pte_pfn(*pte);
	*writable = pte_write(*pte);
	pte_unmap_unlock(pte, lock);
#endif
	return 0;
}

/* The kernel's shrinkers: an object of the caller's, or one that is asked for. NULL: no memory. */
static inline struct shrinker *
compat_shrinker_register(struct shrinker *own, const char *name,
			 unsigned long (*count)(struct shrinker *, struct shrink_control *),
			 unsigned long (*scan)(struct shrinker *, struct shrink_control *),
			 int seeks)
{
	struct shrinker *shrinker = own;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker = shrinker_alloc(0, "%s", name);
	if (!shrinker)
		return NULL;
#endif
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->seeks = seeks;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker_register(shrinker);
#else
	if (register_shrinker(shrinker, "%s", name))
		return NULL;
#endif
	return shrinker;
}

static inline void compat_shrinker_unregister(struct shrinker *shrinker)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	shrinker_free(shrinker);
#else
	unregister_shrinker(shrinker);
#endif
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define compat_eventfd_signal(ctx) eventfd_signal(ctx)
#else
#define compat_eventfd_signal(ctx) eventfd_signal(ctx, 1)
#endif

/* smp_send_reschedule() has a tracepoint in it since then. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#include <trace/events/ipi.h>
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define compat_rcu_virt_note_context_switch() rcu_virt_note_context_switch()
#else
#define compat_rcu_virt_note_context_switch() rcu_virt_note_context_switch(smp_processor_id())
#endif

/* In a tracepoint's TP_fast_assign(): copies the string where its __string() said. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define compat_assign_str(field, text) __assign_str(field)
#else
#define compat_assign_str(field, text) __assign_str(field, text)
#endif

/* The function and its timer's clock in one call, or one after the other. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
#define compat_hrtimer_setup(timer, fn, clock, mode) hrtimer_setup(timer, fn, clock, mode)
#else
#define compat_hrtimer_setup(timer, fn, clock, mode)                                               \
	do {                                                                                       \
		hrtimer_init(timer, clock, mode);                                                  \
		(timer)->function = (fn);                                                          \
	} while (0)
#endif

#if defined(CONFIG_X86_FRED)
#include <asm/fred.h>
#define compat_uses_fred() cpu_feature_enabled(X86_FEATURE_FRED)
#define compat_fred_entry(type, vector) fred_entry_from_kvm(type, vector)
#else
/* Without FRED every event is delivered through the IDT. */
#define compat_uses_fred() false
#define compat_fred_entry(type, vector)                                                            \
	do {                                                                                       \
	} while (0)
#endif

#endif
