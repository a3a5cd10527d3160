// SPDX-License-Identifier: GPL-2.0-only
/* A vCPU's life, its file, and the pages it shares with user space. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/fpu/api.h>

#include "debugfs.h"
#include "objects.h"

/*
 * Where user space finds the data of string port I/O, in pages behind kvm_run: KVM_PIO_PAGE_OFFSET
 * of <linux/kvm.h>.
 */
#define PIO_PAGE KVM_PIO_PAGE_OFFSET

/* ---- Life ---- */

static void free_host_parts(struct host_vcpu *vcpu)
{
	if (vcpu->fpu.fpstate)
		fpu_free_guest_fpstate(&vcpu->fpu);
	free_page((unsigned long)vcpu->area.pio_data);
	free_page((unsigned long)vcpu->area.run);
	kfree(vcpu);
}

static struct host_vcpu *alloc_host_parts(struct host_vm *vm, u32 id)
{
	struct host_vcpu *vcpu = kzalloc(sizeof(*vcpu), GFP_KERNEL_ACCOUNT);

	BUILD_BUG_ON(sizeof(struct kvm_run) > PAGE_SIZE);
	if (!vcpu)
		return NULL;
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->cpu = -1;
	mutex_init(&vcpu->mutex);
	rcuwait_init(&vcpu->wait);
	vcpu_init_preempt_notifier(vcpu);
	vcpu->area.run = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vcpu->area.pio_data = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (vcpu->area.run && vcpu->area.pio_data && fpu_alloc_guest_fpstate(&vcpu->fpu))
		return vcpu;
	free_host_parts(vcpu);
	return NULL;
}

static struct host_vcpu *create_vcpu(struct host_vm *vm, u32 id)
{
	struct host_vcpu *vcpu = alloc_host_parts(vm, id);
	int r;

	if (!vcpu)
		return ERR_PTR(-ENOMEM);
	r = core_vcpu_create(vm->core, vcpu, &vcpu->area, id, &vcpu->core);
	if (r) {
		free_host_parts(vcpu);
		return ERR_PTR(r);
	}
	return vcpu;
}

void vcpu_destroy(struct host_vcpu *vcpu)
{
	core_vcpu_destroy(vcpu->core);
	free_host_parts(vcpu);
}

/* ---- The file ---- */

static struct page *coalesced_page(struct host_vm *vm)
{
	void *ring = core_coalesced_ring(vm->core);

	return ring ? virt_to_page(ring) : NULL;
}

static vm_fault_t vcpu_fault(struct vm_fault *vmf)
{
	struct host_vcpu *vcpu = vmf->vma->vm_file->private_data;
	struct page *page;

	if (vmf->pgoff == 0)
		page = virt_to_page(vcpu->area.run);
	else if (vmf->pgoff == PIO_PAGE)
		page = virt_to_page(vcpu->area.pio_data);
	else if (vmf->pgoff == KVM_COALESCED_MMIO_PAGE_OFFSET)
		page = coalesced_page(vcpu->vm);
	else
		return VM_FAULT_SIGBUS;
	if (!page)
		return VM_FAULT_OOM;
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct vcpu_vm_ops = {
	.fault = vcpu_fault,
};

static int vcpu_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &vcpu_vm_ops;
	return 0;
}

static int vcpu_release(struct inode *inode, struct file *file)
{
	struct host_vcpu *vcpu = file->private_data;

	vm_put(vcpu->vm);
	return 0;
}

static const struct file_operations vcpu_fops = {
	.owner = THIS_MODULE,
	.release = vcpu_release,
	.unlocked_ioctl = vcpu_ioctl,
	.compat_ioctl = vcpu_compat_ioctl,
	.mmap = vcpu_mmap,
	.llseek = noop_llseek,
};

/* ---- KVM_CREATE_VCPU ---- */

static bool id_taken(struct host_vm *vm, u32 id)
{
	unsigned int i;

	for (i = 0; i < vm->vcpu_count; i++)
		if (vm_vcpu(vm, i)->id == id)
			return true;
	return false;
}

/* Room for one more; it stays when that is not created after all. */
static int reserve_place(struct host_vm *vm)
{
	struct host_vcpu ***chunk = &vm->vcpus[vm->vcpu_count / VCPUS_PER_CHUNK];

	if (!*chunk)
		*chunk = kcalloc(VCPUS_PER_CHUNK, sizeof(**chunk), GFP_KERNEL_ACCOUNT);
	return *chunk ? 0 : -ENOMEM;
}

/* Makes the vCPU known to the VM and to user space, or neither. */
static int publish(struct host_vm *vm, struct host_vcpu *vcpu)
{
	unsigned int place = vm->vcpu_count;
	struct file *file;
	char name[32];
	int fd, r;

	snprintf(name, sizeof(name), "kvm-vcpu:%u", vcpu->id);
	r = reserve_place(vm);
	if (r)
		return r;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = anon_inode_getfile(name, &vcpu_fops, vcpu, O_RDWR);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	vm_get(vm);
	vm->vcpus[place / VCPUS_PER_CHUNK][place % VCPUS_PER_CHUNK] = vcpu;
	smp_store_release(&vm->vcpu_count, place + 1);
	fd_install(fd, file);
	return fd;
}

int vcpu_create_fd(struct host_vm *vm, u32 id)
{
	struct host_vcpu *vcpu;
	int r;

	if (id >= HOST_MAX_VCPU_IDS)
		return -EINVAL;

	mutex_lock(&vm->lock);
	r = -EINVAL;
	if (vm->vcpu_count >= HOST_MAX_VCPUS)
		goto out;
	r = core_check_vcpu_id(vm->core, id);
	if (r)
		goto out;
	r = -EEXIST;
	if (id_taken(vm, id))
		goto out;
	vcpu = create_vcpu(vm, id);
	if (IS_ERR(vcpu)) {
		r = PTR_ERR(vcpu);
		goto out;
	}
	r = publish(vm, vcpu);
	if (r < 0)
		vcpu_destroy(vcpu);
	else
		debugfs_add_vcpu(vcpu);
out:
	mutex_unlock(&vm->lock);
	return r;
}
