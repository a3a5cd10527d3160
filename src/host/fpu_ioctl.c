// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's FPU, SSE and AVX registers. They are in memory while the vCPU doesn't run, in a form
 * that only the kernel knows; it translates from and to user space's, the one of XSAVE.
 */
#include <linux/kvm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>

#include "objects.h"

#define FP_AND_SSE 3 /* bits of XCR0 and XSTATE_BV */

/* struct kvm_xsave's area, with the components of xcr0. */
static struct kvm_xsave *save(struct host_vcpu *vcpu, u64 xcr0)
{
	struct kvm_xsave *area = kzalloc(sizeof(*area), GFP_KERNEL_ACCOUNT);

	if (area)
		fpu_copy_guest_fpstate_to_uabi(&vcpu->fpu, area->region, sizeof(area->region),
					       xcr0 | FP_AND_SSE, vcpu->pkru);
	return area;
}

static int restore(struct host_vcpu *vcpu, const struct kvm_xsave *area)
{
	return fpu_copy_uabi_to_guest_fpstate(&vcpu->fpu, area->region,
					      core_supported_xcr0() | FP_AND_SSE, &vcpu->pkru);
}

static long get_xsave(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_xsave *area = save(vcpu, core_guest_xcr0(vcpu->core));
	long r;

	if (!area)
		return -ENOMEM;
	r = copy_to_user(user, area, sizeof(*area)) ? -EFAULT : 0;
	kfree(area);
	return r;
}

static long set_xsave(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_xsave *area = memdup_user(user, sizeof(*area));
	long r;

	if (IS_ERR(area))
		return PTR_ERR(area);
	r = restore(vcpu, area);
	kfree(area);
	return r;
}

/* ---- KVM_GET_FPU, KVM_SET_FPU: the part that FXSAVE knows ---- */

static struct fxregs_state *legacy_part(struct kvm_xsave *area)
{
	return (struct fxregs_state *)area->region;
}

static long get_fpu(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_xsave *area = save(vcpu, 0);
	struct fxregs_state *regs;
	struct kvm_fpu fpu;
	long r;

	if (!area)
		return -ENOMEM;
	regs = legacy_part(area);
	memset(&fpu, 0, sizeof(fpu));
	memcpy(fpu.fpr, regs->st_space, sizeof(fpu.fpr));
	memcpy(fpu.xmm, regs->xmm_space, sizeof(fpu.xmm));
	fpu.fcw = regs->cwd;
	fpu.fsw = regs->swd;
	fpu.ftwx = regs->twd;
	fpu.last_opcode = regs->fop;
	fpu.last_ip = regs->rip;
	fpu.last_dp = regs->rdp;
	fpu.mxcsr = regs->mxcsr;
	r = copy_to_user(user, &fpu, sizeof(fpu)) ? -EFAULT : 0;
	kfree(area);
	return r;
}

static long set_fpu(struct host_vcpu *vcpu, const void __user *user)
{
	struct fxregs_state *regs;
	struct kvm_xsave *area;
	struct kvm_fpu fpu;
	long r;

	if (copy_from_user(&fpu, user, sizeof(fpu)))
		return -EFAULT;
	/* All that there may be: what is left out of the area would be cleared by restore(). */
	area = save(vcpu, core_supported_xcr0());
	if (!area)
		return -ENOMEM;
	regs = legacy_part(area);
	memcpy(regs->st_space, fpu.fpr, sizeof(fpu.fpr));
	memcpy(regs->xmm_space, fpu.xmm, sizeof(fpu.xmm));
	regs->cwd = fpu.fcw;
	regs->swd = fpu.fsw;
	regs->twd = fpu.ftwx;
	regs->fop = fpu.last_opcode;
	regs->rip = fpu.last_ip;
	regs->rdp = fpu.last_dp;
	/* Not MXCSR: KVM never took it from here, and clients leave it zero. */
	((struct xregs_state *)area->region)->header.xfeatures |= FP_AND_SSE;
	r = restore(vcpu, area);
	kfree(area);
	return r;
}

long fpu_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case KVM_GET_FPU:
		return get_fpu(vcpu, user);
	case KVM_SET_FPU:
		return set_fpu(vcpu, user);
	case KVM_GET_XSAVE:
	case KVM_GET_XSAVE2: /* no component lies beyond struct kvm_xsave */
		return get_xsave(vcpu, user);
	case KVM_SET_XSAVE:
		return set_xsave(vcpu, user);
	default:
		return -EINVAL;
	}
}
