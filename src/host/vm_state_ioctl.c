// SPDX-License-Identifier: GPL-2.0-only
/* A VM's ioctls for what its vCPUs share: the clock, the TSC's rate, which MSRs the guest may use. */
#include <linux/compat.h>
#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "objects.h"

/* KVM's limit for one range. */
#define MAX_BITMAP_SIZE 0x600

static long get_clock(struct host_vm *vm, void __user *user)
{
	struct kvm_clock_data data;

	memset(&data, 0, sizeof(data));
	core_get_clock(vm->core, &data);
	return copy_to_user(user, &data, sizeof(data)) ? -EFAULT : 0;
}

static long set_clock(struct host_vm *vm, const void __user *user)
{
	struct kvm_clock_data data;

	if (copy_from_user(&data, user, sizeof(data)))
		return -EFAULT;
	return core_set_clock(vm->core, &data);
}

static long set_tsc_khz(struct host_vm *vm, unsigned long khz)
{
	long r;

	mutex_lock(&vm->lock);
	r = core_vm_set_tsc_khz(vm->core, khz);
	mutex_unlock(&vm->lock);
	return r;
}

/* ---- KVM_X86_SET_MSR_FILTER ---- */

static void *copy_bitmap(const struct kvm_msr_filter_range *range)
{
	size_t size = BITS_TO_LONGS((size_t)range->nmsrs) * sizeof(long);

	if (!size)
		return NULL;
	if (size > MAX_BITMAP_SIZE || !range->flags ||
	    range->flags & ~(u32)(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE))
		return ERR_PTR(-EINVAL);
	return memdup_user((const void __user *)range->bitmap, size);
}

static long use_msr_filter(struct host_vm *vm, const struct kvm_msr_filter *filter)
{
	u8 *bitmaps[KVM_MSR_FILTER_MAX_RANGES] = {};
	long r = 0;
	u32 i;

	if (filter->flags & ~(u32)KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		void *bitmap = copy_bitmap(&filter->ranges[i]);

		if (IS_ERR(bitmap)) {
			r = PTR_ERR(bitmap);
			goto out;
		}
		bitmaps[i] = bitmap;
	}
	mutex_lock(&vm->lock);
	r = core_set_msr_filter(vm->core, filter, (const host_u8 *const *)bitmaps);
	mutex_unlock(&vm->lock);
out:
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++)
		kfree(bitmaps[i]);
	return r;
}

static long set_msr_filter(struct host_vm *vm, const void __user *user)
{
	struct kvm_msr_filter filter;

	if (copy_from_user(&filter, user, sizeof(filter)))
		return -EFAULT;
	return use_msr_filter(vm, &filter);
}

/* The same of a 32-bit client: its pointers are shorter, and so is the ioctl's number another. */
struct compat_msr_filter_range {
	u32 flags, nmsrs, base;
	compat_uptr_t bitmap;
};
struct compat_msr_filter {
	u32 flags;
	struct compat_msr_filter_range ranges[KVM_MSR_FILTER_MAX_RANGES];
};
#define COMPAT_SET_MSR_FILTER _IOW(KVMIO, _IOC_NR(KVM_X86_SET_MSR_FILTER), struct compat_msr_filter)

static long set_msr_filter_compat(struct host_vm *vm, const void __user *user)
{
	struct compat_msr_filter given;
	struct kvm_msr_filter filter = {};
	u32 i;

	if (copy_from_user(&given, user, sizeof(given)))
		return -EFAULT;
	filter.flags = given.flags;
	for (i = 0; i < KVM_MSR_FILTER_MAX_RANGES; i++) {
		filter.ranges[i].flags = given.ranges[i].flags;
		filter.ranges[i].nmsrs = given.ranges[i].nmsrs;
		filter.ranges[i].base = given.ranges[i].base;
		filter.ranges[i].bitmap = (void *)(uintptr_t)given.ranges[i].bitmap;
	}
	return use_msr_filter(vm, &filter);
}

long vm_state_ioctl(struct host_vm *vm, unsigned int ioctl, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (ioctl) {
	case KVM_GET_CLOCK:
		return get_clock(vm, user);
	case KVM_SET_CLOCK:
		return set_clock(vm, user);
	case KVM_GET_TSC_KHZ:
		return core_vm_get_tsc_khz(vm->core);
	case KVM_SET_TSC_KHZ:
		return set_tsc_khz(vm, arg);
	case KVM_X86_SET_MSR_FILTER:
		return set_msr_filter(vm, user);
	case COMPAT_SET_MSR_FILTER:
		return in_compat_syscall() ? set_msr_filter_compat(vm, user) : -ENOIOCTLCMD;
	default:
		return -ENOIOCTLCMD;
	}
}
