// SPDX-License-Identifier: GPL-2.0-only
/* A VM's life, its file and the file's ioctls. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "clock.h"
#include "cpus.h"
#include "debugfs.h"
#include "objects.h"
#include "shrinker.h"

/* ---- Life ---- */

static void init_vm(struct host_vm *vm)
{
	refcount_set(&vm->users, 1);
	mutex_init(&vm->lock);
	mutex_init(&vm->slots_lock);
	spin_lock_init(&vm->mmu_lock);
	mutex_init(&vm->routing_lock);
	irqfd_init(vm);
	mmgrab(current->mm);
	vm->mm = current->mm;
}

/* All but the struct itself. */
static void uninit_vm(struct host_vm *vm)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vm->vcpus); i++)
		kfree(vm->vcpus[i]);
	mmdrop(vm->mm);
}

/* With one user, or ERR_PTR. */
static struct host_vm *vm_create(void)
{
	struct host_vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	int r;

	if (!vm)
		return ERR_PTR(-ENOMEM);
	init_vm(vm);

	r = cpus_get();
	if (r)
		goto out_free;
	r = core_vm_create(vm, &vm->core);
	if (r)
		goto out_cpus;
	r = clock_watch_suspend(vm);
	if (r)
		goto out_core;
	r = debugfs_add_vm(vm);
	if (r)
		goto out_suspend;
	/* Last: its callbacks come from here on. */
	r = vm_watch_mm(vm);
	if (r)
		goto out_debugfs;
	shrinker_add_vm(vm);
	return vm;

out_debugfs:
	debugfs_remove_vm(vm);
out_suspend:
	clock_unwatch_suspend(vm);
out_core:
	core_vm_destroy(vm->core);
out_cpus:
	cpus_put();
out_free:
	uninit_vm(vm);
	kfree(vm);
	return ERR_PTR(r);
}

static void destroy_vm(struct host_vm *vm)
{
	unsigned int i;

	/* First: who reads there looks at the VM and its vCPUs. */
	debugfs_remove_vm(vm);
	shrinker_remove_vm(vm);
	vm_unwatch_mm(vm);
	clock_unwatch_suspend(vm);
	irqfd_destroy(vm);
	core_vm_stop_timers(vm->core);
	for (i = 0; i < vm->vcpu_count; i++)
		vcpu_destroy(vm_vcpu(vm, i));
	core_vm_destroy(vm->core);
	cpus_put();
	uninit_vm(vm);
	vm_free_unwatched(vm);
}

void vm_get(struct host_vm *vm)
{
	refcount_inc(&vm->users);
}

void vm_put(struct host_vm *vm)
{
	if (refcount_dec_and_test(&vm->users))
		destroy_vm(vm);
}

/* ---- Ioctls ---- */

static int set_user_memory_region(struct host_vm *vm, const void __user *user)
{
	struct kvm_userspace_memory_region region;
	int r;

	if (copy_from_user(&region, user, sizeof(region)))
		return -EFAULT;
	mutex_lock(&vm->slots_lock);
	r = core_set_memory_region(vm->core, &region);
	mutex_unlock(&vm->slots_lock);
	return r;
}

static int set_nr_mmu_pages(struct host_vm *vm, u64 pages)
{
	int r;

	mutex_lock(&vm->slots_lock);
	r = core_set_nr_mmu_pages(vm->core, pages);
	mutex_unlock(&vm->slots_lock);
	return r;
}

/* KVM cuts the number to an int, which makes an errno or another number of it. */
static int get_nr_mmu_pages(struct host_vm *vm)
{
	u64 pages;

	mutex_lock(&vm->slots_lock);
	pages = core_get_nr_mmu_pages(vm->core);
	mutex_unlock(&vm->slots_lock);
	return pages <= INT_MAX ? (int)pages : -EOVERFLOW;
}

static int set_tss_addr(struct host_vm *vm, u64 address)
{
	int r;

	mutex_lock(&vm->lock);
	r = core_set_tss_addr(vm->core, address);
	mutex_unlock(&vm->lock);
	return r;
}

static int set_boot_cpu_id(struct host_vm *vm, u64 id)
{
	int r;

	mutex_lock(&vm->lock);
	r = core_set_boot_cpu_id(vm->core, id);
	mutex_unlock(&vm->lock);
	return r;
}

static int set_identity_map_addr(struct host_vm *vm, const void __user *user)
{
	u64 address;
	int r;

	mutex_lock(&vm->lock);
	if (vm->vcpu_count) /* before the pointer is looked at, as in KVM */
		r = -EINVAL;
	else if (copy_from_user(&address, user, sizeof(address)))
		r = -EFAULT;
	else
		r = core_set_identity_map_addr(vm->core, address);
	mutex_unlock(&vm->lock);
	return r;
}

static int enable_cap(struct host_vm *vm, const void __user *user)
{
	struct kvm_enable_cap cap;
	int r;

	if (copy_from_user(&cap, user, sizeof(cap)))
		return -EFAULT;
	mutex_lock(&vm->lock);
	r = core_vm_enable_cap(vm->core, &cap);
	mutex_unlock(&vm->lock);
	return r;
}

static long other_ioctl(struct host_vm *vm, unsigned int ioctl, unsigned long arg)
{
	long r = vm_state_ioctl(vm, ioctl, arg);

	if (r == -ENOIOCTLCMD)
		r = irq_ioctl(vm, ioctl, (void __user *)arg);
	return r == -ENOIOCTLCMD ? -ENOTTY : r;
}

static long vm_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	struct host_vm *vm = file->private_data;
	void __user *user = (void __user *)arg;
	int r = vm_check_caller(vm);

	if (r)
		return r;
	switch (ioctl) {
	case KVM_CREATE_VCPU:
		return vcpu_create_fd(vm, arg);
	case KVM_CHECK_EXTENSION:
		return core_check_extension(vm->core, arg);
	case KVM_SET_USER_MEMORY_REGION:
		return set_user_memory_region(vm, user);
	case KVM_SET_NR_MMU_PAGES:
		return set_nr_mmu_pages(vm, arg);
	case KVM_GET_NR_MMU_PAGES:
		return get_nr_mmu_pages(vm);
	case KVM_GET_DIRTY_LOG:
		return vm_get_dirty_log(vm, user);
	case KVM_CLEAR_DIRTY_LOG:
		return vm_clear_dirty_log(vm, user);
	case KVM_SET_TSS_ADDR:
		return set_tss_addr(vm, arg);
	case KVM_SET_BOOT_CPU_ID:
		return set_boot_cpu_id(vm, arg);
	case KVM_SET_IDENTITY_MAP_ADDR:
		return set_identity_map_addr(vm, user);
	case KVM_ENABLE_CAP:
		return enable_cap(vm, user);
	default:
		return other_ioctl(vm, ioctl, arg);
	}
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct host_vm *vm = file->private_data;

	/* Nobody can name the VM any more, though vCPUs may still run: no event comes from outside. */
	irqfd_release(vm);
	vm_put(vm);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.release = vm_release,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = vm_ioctl, /* where 32-bit clients' structures differ, the ioctl knows */
	.llseek = noop_llseek,
};

int vm_create_fd(unsigned long type)
{
	struct host_vm *vm;
	struct file *file;
	int fd, r;

	if (type)
		return -EINVAL;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	vm = vm_create();
	if (IS_ERR(vm)) {
		r = PTR_ERR(vm);
		goto out_fd;
	}
	file = anon_inode_getfile("kvm-vm", &vm_fops, vm, O_RDWR);
	if (IS_ERR(file)) {
		r = PTR_ERR(file);
		vm_put(vm);
		goto out_fd;
	}
	/* From here on the file owns the VM. */
	fd_install(fd, file);
	return fd;

out_fd:
	put_unused_fd(fd);
	return r;
}
