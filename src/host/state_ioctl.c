// SPDX-License-Identifier: GPL-2.0-only
/*
 * A vCPU's ioctls for its state beyond registers. Arguments are copied in once, answers come from
 * zeroed memory; what they mean is the core's. The FPU's state is the kernel's: see fpu_ioctl.c.
 */
#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "objects.h"

/* KVM's limit of KVM_GET_MSRS and KVM_SET_MSRS. */
#define MAX_IO_MSRS 256
/* More than any CPU has. */
#define MAX_LISTED_MSRS 256

/* ---- Structures that are only passed on ---- */

/* GETTER(name, type): core_get_name() of one structure; SETTER() the other way. */
#define GETTER(name, type)                                                                         \
	static long get_##name(struct host_vcpu *vcpu, void __user *user)                          \
	{                                                                                          \
		struct type *value = kzalloc(sizeof(*value), GFP_KERNEL_ACCOUNT);                  \
		long r;                                                                            \
                                                                                                   \
		if (!value)                                                                        \
			return -ENOMEM;                                                            \
		r = core_get_##name(vcpu->core, value);                                            \
		if (!r && copy_to_user(user, value, sizeof(*value)))                               \
			r = -EFAULT;                                                               \
		kfree(value);                                                                      \
		return r;                                                                          \
	}
#define SETTER(name, type)                                                                         \
	static long set_##name(struct host_vcpu *vcpu, const void __user *user)                    \
	{                                                                                          \
		struct type *value = memdup_user(user, sizeof(*value));                            \
		long r;                                                                            \
                                                                                                   \
		if (IS_ERR(value))                                                                 \
			return PTR_ERR(value);                                                     \
		r = core_set_##name(vcpu->core, value);                                            \
		kfree(value);                                                                      \
		return r;                                                                          \
	}

GETTER(sregs2, kvm_sregs2)
SETTER(sregs2, kvm_sregs2)
GETTER(xcrs, kvm_xcrs)
SETTER(xcrs, kvm_xcrs)
GETTER(debugregs, kvm_debugregs)
SETTER(debugregs, kvm_debugregs)
GETTER(vcpu_events, kvm_vcpu_events)
SETTER(vcpu_events, kvm_vcpu_events)
SETTER(guest_debug, kvm_guest_debug)
SETTER(mce, kvm_x86_mce)

static long translate(struct host_vcpu *vcpu, void __user *user)
{
	struct kvm_translation translation;
	int r;

	if (copy_from_user(&translation, user, sizeof(translation)))
		return -EFAULT;
	r = core_translate(vcpu->core, &translation);
	if (r)
		return r;
	return copy_to_user(user, &translation, sizeof(translation)) ? -EFAULT : 0;
}

static long setup_mce(struct host_vcpu *vcpu, const void __user *user)
{
	u64 capability;

	if (copy_from_user(&capability, user, sizeof(capability)))
		return -EFAULT;
	return core_setup_mce(vcpu->core, capability);
}

static long enable_cap(struct host_vcpu *vcpu, const void __user *user)
{
	struct kvm_enable_cap cap;

	if (copy_from_user(&cap, user, sizeof(cap)))
		return -EFAULT;
	return core_vcpu_enable_cap(vcpu->core, &cap);
}

/* ---- CPUID as it was given before there were subleaves ---- */

static long set_cpuid(struct host_vcpu *vcpu, const struct kvm_cpuid __user *user)
{
	struct kvm_cpuid_entry2 *entries;
	struct kvm_cpuid_entry *old;
	struct kvm_cpuid header;
	u32 i;
	int r;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (header.nent > HOST_MAX_CPUID_ENTRIES)
		return -E2BIG;
	if (!header.nent)
		return core_set_cpuid2(vcpu->core, NULL, 0);
	old = vmemdup_user(user->entries, array_size(header.nent, sizeof(*old)));
	if (IS_ERR(old))
		return PTR_ERR(old);
	entries = kvcalloc(header.nent, sizeof(*entries), GFP_KERNEL_ACCOUNT);
	r = -ENOMEM;
	if (!entries)
		goto out;
	for (i = 0; i < header.nent; i++) {
		entries[i].function = old[i].function;
		entries[i].eax = old[i].eax;
		entries[i].ebx = old[i].ebx;
		entries[i].ecx = old[i].ecx;
		entries[i].edx = old[i].edx;
	}
	r = core_set_cpuid2(vcpu->core, entries, header.nent);
	kvfree(entries);
out:
	kvfree(old);
	return r;
}

/* ---- MSRs ---- */

/* vcpu: NULL for the features of KVM_GET_MSRS on the device. */
static long transfer_msrs(struct host_vcpu *vcpu, struct kvm_msrs __user *user, bool get)
{
	struct kvm_msr_entry *entries;
	struct kvm_msrs header;
	size_t size;
	long r;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (header.nmsrs >= MAX_IO_MSRS)
		return -E2BIG;
	if (!header.nmsrs)
		return 0;
	size = array_size(header.nmsrs, sizeof(*entries));
	entries = memdup_user(user->entries, size);
	if (IS_ERR(entries))
		return PTR_ERR(entries);
	if (get)
		r = core_get_msrs(vcpu ? vcpu->core : NULL, entries, header.nmsrs);
	else
		r = core_set_msrs(vcpu->core, entries, header.nmsrs);
	if (get && copy_to_user(user->entries, entries, size))
		r = -EFAULT;
	kfree(entries);
	return r;
}

long device_get_msrs(void __user *user)
{
	return transfer_msrs(NULL, user, true);
}

long device_list_msrs(struct kvm_msr_list __user *user, bool features)
{
	struct kvm_msr_list header;
	u32 room, count;
	u32 *indices;
	long r = 0;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	indices = kcalloc(MAX_LISTED_MSRS, sizeof(*indices), GFP_KERNEL);
	if (!indices)
		return -ENOMEM;
	room = header.nmsrs;
	count = core_msr_index_list(features, indices, MAX_LISTED_MSRS);
	/* How many there are is told even if they don't fit. */
	header.nmsrs = count;
	if (copy_to_user(user, &header, sizeof(header)))
		r = -EFAULT;
	else if (room < count)
		r = -E2BIG;
	else if (copy_to_user(user->indices, indices, array_size(count, sizeof(*indices))))
		r = -EFAULT;
	kfree(indices);
	return r;
}

/* ---- Dispatch ---- */

static long get_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case KVM_GET_SREGS2:
		return get_sregs2(vcpu, user);
	case KVM_GET_XCRS:
		return get_xcrs(vcpu, user);
	case KVM_GET_DEBUGREGS:
		return get_debugregs(vcpu, user);
	case KVM_GET_VCPU_EVENTS:
		return get_vcpu_events(vcpu, user);
	case KVM_GET_MSRS:
		return transfer_msrs(vcpu, user, true);
	case KVM_GET_TSC_KHZ:
		return core_get_tsc_khz(vcpu->core);
	case KVM_TRANSLATE:
		return translate(vcpu, user);
	default:
		return fpu_ioctl(vcpu, ioctl, user);
	}
}

long state_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, unsigned long arg)
{
	void __user *user = (void __user *)arg;

	switch (ioctl) {
	case KVM_SET_SREGS2:
		return set_sregs2(vcpu, user);
	case KVM_SET_XCRS:
		return set_xcrs(vcpu, user);
	case KVM_SET_DEBUGREGS:
		return set_debugregs(vcpu, user);
	case KVM_SET_VCPU_EVENTS:
		return set_vcpu_events(vcpu, user);
	case KVM_SET_GUEST_DEBUG:
		return set_guest_debug(vcpu, user);
	case KVM_SET_MSRS:
		return transfer_msrs(vcpu, user, false);
	case KVM_SET_TSC_KHZ:
		return core_set_tsc_khz(vcpu->core, arg);
	case KVM_SET_CPUID:
		return set_cpuid(vcpu, user);
	case KVM_X86_SETUP_MCE:
		return setup_mce(vcpu, user);
	case KVM_X86_SET_MCE:
		return set_mce(vcpu, user);
	case KVM_KVMCLOCK_CTRL:
		return core_kvmclock_ctrl(vcpu->core);
	case KVM_ENABLE_CAP:
		return enable_cap(vcpu, user);
	default:
		return get_ioctl(vcpu, ioctl, user);
	}
}
