// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU's ioctls: arguments are copied in once and out of zeroed memory; what they mean is the
 * core's.
 */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/fpu/api.h>

#include <minivmx.h>

#include "objects.h"

/* ---- KVM_RUN ---- */

/*
 * While the vCPU runs the thread has KVM_SET_SIGNAL_MASK's mask, so that those signals, too, end
 * the run.
 */
static void sigset_activate(struct host_vcpu *vcpu)
{
	sigprocmask(SIG_SETMASK, &vcpu->sigset, &current->real_blocked);
}

static void sigset_deactivate(struct host_vcpu *vcpu)
{
	sigprocmask(SIG_SETMASK, &current->real_blocked, NULL);
	sigemptyset(&current->real_blocked);
}

/*
 * It mostly needs no sleep, so the thread stays on this CPU until the core says otherwise:
 * host_let_sleep().
 */
static int run_loaded(struct host_vcpu *vcpu)
{
	int r = vcpu_load_pinned(vcpu);

	if (r)
		return r;
	fpu_swap_kvm_fpstate(&vcpu->fpu, true);
	r = core_vcpu_run(vcpu->core);
	fpu_swap_kvm_fpstate(&vcpu->fpu, false);
	vcpu_put(vcpu);
	return r;
}

static noinline int run_with_sigset(struct host_vcpu *vcpu)
{
	int r;

	sigset_activate(vcpu);
	r = run_loaded(vcpu);
	sigset_deactivate(vcpu);
	return r;
}

static int run(struct host_vcpu *vcpu)
{
	return likely(!vcpu->sigset_active) ? run_loaded(vcpu) : run_with_sigset(vcpu);
}

/* ---- Registers ---- */

static int get_regs(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_regs regs;
	int r;

	memset(&regs, 0, sizeof(regs));
	r = core_get_regs(vcpu->core, &regs);
	if (r)
		return r;
	return copy_to_user(user, &regs, sizeof(regs)) ? -EFAULT : 0;
}

static int set_regs(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_regs regs;

	if (copy_from_user(&regs, user, sizeof(regs)))
		return -EFAULT;
	return core_set_regs(vcpu->core, &regs);
}

static int get_sregs(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_sregs sregs;
	int r;

	memset(&sregs, 0, sizeof(sregs));
	r = core_get_sregs(vcpu->core, &sregs);
	if (r)
		return r;
	return copy_to_user(user, &sregs, sizeof(sregs)) ? -EFAULT : 0;
}

static int set_sregs(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_sregs sregs;

	if (copy_from_user(&sregs, user, sizeof(sregs)))
		return -EFAULT;
	return core_set_sregs(vcpu->core, &sregs);
}

/* ---- CPUID ---- */

static int set_cpuid2(struct host_vcpu *vcpu, const struct kvm_cpuid2 __user *user)
{
	struct kvm_cpuid_entry2 *entries = NULL;
	struct kvm_cpuid2 header;
	int r;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (header.nent > HOST_MAX_CPUID_ENTRIES)
		return -E2BIG;
	if (header.nent) {
		entries = vmemdup_user(user->entries, array_size(header.nent, sizeof(*entries)));
		if (IS_ERR(entries))
			return PTR_ERR(entries);
	}
	r = core_set_cpuid2(vcpu->core, entries, header.nent);
	kvfree(entries);
	return r;
}

static int get_cpuid2(struct host_vcpu *vcpu, struct kvm_cpuid2 __user *user)
{
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid2 header;
	u32 count;
	int r;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	count = min_t(u32, header.nent, HOST_MAX_CPUID_ENTRIES);
	/* One at least, so that the core has somewhere to point at. */
	entries = kvcalloc(max_t(u32, count, 1), sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;
	r = core_get_cpuid2(vcpu->core, entries, &count);
	if (r)
		goto out;
	header.nent = count;
	r = cpuid_to_user(user, &header, entries);
out:
	kvfree(entries);
	return r;
}

/* ---- Events ---- */

static int interrupt(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_interrupt irq;

	if (copy_from_user(&irq, user, sizeof(irq)))
		return -EFAULT;
	return core_interrupt(vcpu->core, irq.irq);
}

/* ---- KVM_SET_SIGNAL_MASK ---- */

/* NULL: no mask of the vCPU's own. The vCPU's mutex is held. */
static void use_sigset(struct host_vcpu *vcpu, const sigset_t *sigset)
{
	vcpu->sigset_active = sigset;
	if (!sigset)
		return;
	vcpu->sigset = *sigset;
	sigdelsetmask(&vcpu->sigset, sigmask(SIGKILL) | sigmask(SIGSTOP));
}

static int set_signal_mask(struct host_vcpu *vcpu, const struct kvm_signal_mask __user *user)
{
	struct kvm_signal_mask header;
	sigset_t sigset;

	if (!user) {
		use_sigset(vcpu, NULL);
		return 0;
	}
	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (header.len != sizeof(sigset))
		return -EINVAL;
	if (copy_from_user(&sigset, user->sigset, sizeof(sigset)))
		return -EFAULT;
	use_sigset(vcpu, &sigset);
	return 0;
}

#ifdef CONFIG_COMPAT
static int set_signal_mask_compat(struct host_vcpu *vcpu, const struct kvm_signal_mask __user *user)
{
	struct kvm_signal_mask header;
	sigset_t sigset;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (header.len != sizeof(compat_sigset_t))
		return -EINVAL;
	if (get_compat_sigset(&sigset, (const compat_sigset_t __user *)user->sigset))
		return -EFAULT;
	if (mutex_lock_killable(&vcpu->mutex))
		return -EINTR;
	use_sigset(vcpu, &sigset);
	mutex_unlock(&vcpu->mutex);
	return 0;
}
#endif

/* ---- Dispatch ---- */

/* The ioctls that look into the vCPU: its state is loaded. */
static long ioctl_loaded(struct host_vcpu *vcpu, unsigned int ioctl, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	if (_IOC_TYPE(ioctl) == MINIVMX_IO)
		return vcpu_own_ioctl(vcpu, ioctl, user);
	switch (ioctl) {
	case KVM_GET_REGS:
		return get_regs(vcpu, user);
	case KVM_SET_REGS:
		return set_regs(vcpu, user);
	case KVM_GET_SREGS:
		return get_sregs(vcpu, user);
	case KVM_SET_SREGS:
		return set_sregs(vcpu, user);
	case KVM_SET_CPUID2:
		return set_cpuid2(vcpu, user);
	case KVM_GET_CPUID2:
		return get_cpuid2(vcpu, user);
	case KVM_INTERRUPT:
		return interrupt(vcpu, user);
	case KVM_NMI:
		return core_nmi(vcpu->core);
	case KVM_GET_LAPIC:
	case KVM_SET_LAPIC:
	case KVM_GET_MP_STATE:
	case KVM_SET_MP_STATE:
	case KVM_SET_VAPIC_ADDR:
	case KVM_TPR_ACCESS_REPORTING:
		return vcpu_lapic_ioctl(vcpu, ioctl, user);
	default:
		return state_ioctl(vcpu, ioctl, arg);
	}
}

static noinline long ioctl_locked(struct host_vcpu *vcpu, unsigned int ioctl, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	long r;

	if (ioctl == KVM_SET_SIGNAL_MASK)
		return set_signal_mask(vcpu, user);
	r = vcpu_load(vcpu);
	if (r)
		return r;
	r = ioctl_loaded(vcpu, ioctl, arg);
	vcpu_put(vcpu);
	return r;
}

long vcpu_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	struct host_vcpu *vcpu = file->private_data;
	long r = vm_check_caller(vcpu->vm);

	if (r)
		return r;
	if (ioctl != KVM_RUN && _IOC_TYPE(ioctl) != KVMIO && _IOC_TYPE(ioctl) != MINIVMX_IO)
		return -EINVAL;
	if (mutex_lock_killable(&vcpu->mutex))
		return -EINTR;
	if (likely(ioctl == KVM_RUN))
		r = arg ? -EINVAL : run(vcpu);
	else
		r = ioctl_locked(vcpu, ioctl, arg);
	mutex_unlock(&vcpu->mutex);
	return r;
}

#ifdef CONFIG_COMPAT
long vcpu_compat_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	struct host_vcpu *vcpu = file->private_data;
	long r;

	/* The one argument that is laid out otherwise in 32-bit clients. */
	if (ioctl != KVM_SET_SIGNAL_MASK || !arg)
		return vcpu_ioctl(file, ioctl, arg);
	r = vm_check_caller(vcpu->vm);
	return r ? r : set_signal_mask_compat(vcpu, compat_ptr(arg));
}
#else
long vcpu_compat_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	return -ENOTTY;
}
#endif
