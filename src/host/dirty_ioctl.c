// SPDX-License-Identifier: GPL-2.0-only
/* KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG: the core's bitmaps from and to user space. */
#include <linux/compat.h>
#include <linux/kvm.h>
#include <linux/uaccess.h>

#include "objects.h"

/*
 * A 32-bit client writes its pointer into the lower half of the field and leaves the rest as it
 * was.
 */
static void __user *user_bitmap(void __user *field)
{
	if (in_compat_syscall())
		return compat_ptr((compat_uptr_t)(uintptr_t)field);
	return field;
}

int vm_get_dirty_log(struct host_vm *vm, const void __user *user)
{
	struct core_dirty_log log;
	struct kvm_dirty_log request;
	int r;

	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	mutex_lock(&vm->slots_lock);
	r = core_get_dirty_log(vm->core, request.slot, &log);
	if (!r && copy_to_user(user_bitmap(request.dirty_bitmap), log.bitmap, log.size))
		r = -EFAULT;
	mutex_unlock(&vm->slots_lock);
	return r;
}

int vm_clear_dirty_log(struct host_vm *vm, const void __user *user)
{
	struct kvm_clear_dirty_log request;
	struct core_dirty_log log;
	int r;

	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	mutex_lock(&vm->slots_lock);
	r = core_prepare_clear_dirty_log(vm->core, &request, &log);
	if (!r && copy_from_user(log.bitmap, user_bitmap(request.dirty_bitmap), log.size))
		r = -EFAULT;
	if (!r)
		core_clear_dirty_log(vm->core, &request);
	mutex_unlock(&vm->slots_lock);
	return r;
}
