// SPDX-License-Identifier: GPL-2.0-only
/* /dev/minivmx and the ioctls that need no VM yet. */
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "device.h"
#include "objects.h"

/* kvm_run, the page for port I/O data, and the VM's ring of coalesced writes. */
#define VCPU_MMAP_SIZE (3 * PAGE_SIZE)

int cpuid_to_user(struct kvm_cpuid2 __user *user, const struct kvm_cpuid2 *header,
		  const struct kvm_cpuid_entry2 *entries)
{
	if (copy_to_user(user->entries, entries, array_size(header->nent, sizeof(*entries))) ||
	    copy_to_user(user, header, sizeof(*header)))
		return -EFAULT;
	return 0;
}

/* What KVM_GET_EMULATED_CPUID asks for, and KVM_GET_SUPPORTED_CPUID doesn't. */
static bool padding_is_zero(const struct kvm_cpuid_entry2 __user *entries, u32 count)
{
	u32 padding[ARRAY_SIZE(entries->padding)];
	u32 i;

	for (i = 0; i < count; i++) {
		if (copy_from_user(padding, entries[i].padding, sizeof(padding)) ||
		    memchr_inv(padding, 0, sizeof(padding)))
			return false;
	}
	return true;
}

static int get_cpuid(struct kvm_cpuid2 __user *user, bool emulated)
{
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid2 header;
	u32 count;
	int r;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (header.nent < 1)
		return -E2BIG;
	count = min_t(u32, header.nent, HOST_MAX_CPUID_ENTRIES);
	if (emulated && !padding_is_zero(user->entries, count))
		return -EINVAL;

	entries = kvcalloc(count, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;
	if (emulated)
		r = core_get_emulated_cpuid(entries, &count);
	else
		r = core_get_supported_cpuid(entries, &count);
	if (r)
		goto out;
	header.nent = count;
	r = cpuid_to_user(user, &header, entries);
out:
	kvfree(entries);
	return r;
}

static int get_mce_capability(void __user *user)
{
	u64 capability = core_mce_capability();

	return copy_to_user(user, &capability, sizeof(capability)) ? -EFAULT : 0;
}

static long device_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	switch (ioctl) {
	case KVM_GET_API_VERSION:
		return arg ? -EINVAL : KVM_API_VERSION;
	case KVM_CREATE_VM:
		return vm_create_fd(arg);
	case KVM_CHECK_EXTENSION:
		return core_check_extension(NULL, arg);
	case KVM_GET_VCPU_MMAP_SIZE:
		return arg ? -EINVAL : VCPU_MMAP_SIZE;
	case KVM_GET_SUPPORTED_CPUID:
		return get_cpuid((struct kvm_cpuid2 __user *)arg, false);
	case KVM_GET_EMULATED_CPUID:
		return get_cpuid((struct kvm_cpuid2 __user *)arg, true);
	case KVM_GET_MSR_INDEX_LIST:
		return device_list_msrs((struct kvm_msr_list __user *)arg, false);
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		return device_list_msrs((struct kvm_msr_list __user *)arg, true);
	case KVM_GET_MSRS:
		return device_get_msrs((void __user *)arg);
	case KVM_X86_GET_MCE_CAP_SUPPORTED:
		return get_mce_capability((void __user *)arg);
	default:
		return compat_is_trace_ioctl(ioctl) ? -EOPNOTSUPP : -EINVAL;
	}
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = device_ioctl, /* no structure differs in 32-bit clients */
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "minivmx",
	.fops = &device_fops,
	.mode = 0600,
};

int device_init(void)
{
	return misc_register(&device);
}

void device_exit(void)
{
	misc_deregister(&device);
}
