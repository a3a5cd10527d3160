/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The host's side of a VM and of a vCPU, and who keeps them alive.
 *
 * A VM lives as long as its file, any of its vCPUs' files, or an ioctl of one of them is in use.
 * vCPUs are destroyed with their VM, never before, so whoever holds a VM may follow its vCPUs.
 */
#ifndef MINIVMX_HOST_OBJECTS_H
#define MINIVMX_HOST_OBJECTS_H

#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/signal_types.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <asm/fpu/api.h>
#include <asm/fpu/types.h>

#include <minivmx/host.h>

/*
 * KVM's limits on x86: what core_check_extension() reports for KVM_CAP_MAX_VCPUS and
 * KVM_CAP_MAX_VCPU_ID.
 */
#define HOST_MAX_VCPUS 1024
#define HOST_MAX_VCPU_IDS 4096
#define VCPUS_PER_CHUNK 64
/* How many entries KVM_SET_CPUID2 and its siblings may carry. */
#define HOST_MAX_CPUID_ENTRIES 256
struct kvm_cpuid2;
/* device.c: answers KVM_GET_*CPUID*: header->nent entries, then the header. 0 or -EFAULT. [sleep] */
int cpuid_to_user(struct kvm_cpuid2 __user *user, const struct kvm_cpuid2 *header,
		  const struct kvm_cpuid_entry2 *entries);

struct perf_guest_switch_msr;

/* What people call a VM in debugfs and in traces: PID/NUMBER. */
struct vm_name {
	pid_t pid; /* of the process that created it */
	u32 number; /* among that process's VMs, from 0 */
};

struct host_vm {
	struct core_vm *core;
	struct vm_name name;
	struct dentry *directory; /* in debugfs */
	struct mm_struct *mm; /* of the creator; its guest's memory lives there */
	refcount_t users;
	bool dead; /* set once; every ioctl answers -EIO from then on */
	bool reaches_devices; /* set once: physical addresses are mapped for the guest, see entry.c */

	/* vCPU creation and settings of the VM as a whole; taken before slots_lock. */
	struct mutex lock;
	/* KVM_SET_USER_MEMORY_REGION. */
	struct mutex slots_lock;
	/* By order of creation; grows under lock, is read without: vm_vcpu(). */
	struct host_vcpu **vcpus[HOST_MAX_VCPUS / VCPUS_PER_CHUNK];
	unsigned int vcpu_count;

	struct mutex routing_lock; /* KVM_SET_GSI_ROUTING */
	/* KVM_IRQFD: see eventfd.c. */
	struct mutex irqfd_mutex; /* taken while one is set up or taken apart */
	spinlock_t irqfd_lock;
	struct list_head irqfds; /* the active ones, under irqfd_lock */
	struct list_head resamplers; /* changed under irqfd_mutex, read by host_rcu_read_lock() */
	struct workqueue_struct *irqfd_queue; /* takes them apart; made with the first one */

	struct notifier_block suspend_block; /* clock.c */
	struct list_head shrinker_link; /* shrinker.c */
	struct mmu_notifier notifier;
	spinlock_t mmu_lock;
	bool mmu_gone; /* under mmu_lock; set once, when the core of the VM is about to go */
	/*
	 * Under mmu_lock: changes of user space's mappings that are under way, and how many have
	 * ended.
	 */
	u64 mmu_seq;
	unsigned int invalidations;
	unsigned long invalid_start, invalid_end;
};

/* What the host must get back after its selectors and MSRs made way for the guest's. */
struct host_segments {
	u64 kernel_gs_base;
	u16 fs_sel, gs_sel, ds_sel, es_sel, ldt_sel;
	u16 any_selector; /* 0: all of them are, and none was kept */
};

struct host_vcpu {
	struct vcpu_area area;
	struct host_vm *vm;
	struct core_vcpu *core;
	u32 id;
	struct mutex mutex; /* held by each ioctl of the vCPU, KVM_RUN for as long as it runs */

	struct rcuwait wait; /* its thread sleeps here: host_vcpu_block() */
	struct preempt_notifier preempt_notifier;
	int cpu; /* where it is loaded, or was last */
	bool loaded; /* its VMCS is the current one of cpu; only its thread looks */
	bool pinned; /* loaded, preemption is off, and the notifier isn't registered */

	struct fpu_guest fpu;
	u32 pkru; /* of KVM_SET_XSAVE; not loaded, since no guest has protection keys */
	bool sigset_active; /* KVM_SET_SIGNAL_MASK gave sigset */
	sigset_t sigset;

	unsigned long rcu_told; /* the jiffy in which RCU last heard of its guest */
	bool guest_state_loaded; /* segments holds the host's values, the CPU the guest's */
	struct host_segments segments;
	u64 host_debugctl;
	const struct perf_guest_switch_msr *perf_msrs; /* this CPU's, during an entry */
	int perf_count;
};

/* The vCPUs that there are: whoever sees the number sees all of them. [any] */
static inline unsigned int vm_vcpu_count(const struct host_vm *vm)
{
	return smp_load_acquire(&vm->vcpu_count);
}

static inline struct host_vcpu *vm_vcpu(const struct host_vm *vm, unsigned int index)
{
	return vm->vcpus[index / VCPUS_PER_CHUNK][index % VCPUS_PER_CHUNK];
}

/* vm.c: KVM_CREATE_VM: a file descriptor, or a negative errno. [sleep] */
int vm_create_fd(unsigned long type);
/* One user more, one less; the last one's vm_put() destroys the VM. [sleep] */
void vm_get(struct host_vm *vm);
void vm_put(struct host_vm *vm);
/* Whether the calling process may use the VM: 0, or -EIO as KVM answers. */
static inline int vm_check_caller(const struct host_vm *vm)
{
	return vm->mm != current->mm || READ_ONCE(vm->dead) ? -EIO : 0;
}

/*
 * vcpu.c: creates vCPU id under vm->lock and returns its file descriptor, or a negative errno
 * [sleep]
 */
int vcpu_create_fd(struct host_vm *vm, u32 id);
/* Frees a vCPU that nobody can reach any more [sleep] */
void vcpu_destroy(struct host_vcpu *vcpu);

/* vcpu_ioctl.c */
long vcpu_ioctl(struct file *file, unsigned int ioctl, unsigned long arg);
long vcpu_compat_ioctl(struct file *file, unsigned int ioctl, unsigned long arg);

/*
 * state_ioctl.c, fpu_ioctl.c: with the vCPU loaded; -EINVAL for ioctls that aren't theirs. [sleep]
 */
long state_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, unsigned long arg);
long fpu_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user);
/* KVM_GET_MSRS on the device, KVM_GET_MSR_INDEX_LIST and its sibling of features. [sleep] */
long device_get_msrs(void __user *user);
struct kvm_msr_list;
long device_list_msrs(struct kvm_msr_list __user *user, bool features);
/* vm_state_ioctl.c: -ENOIOCTLCMD for ioctls that aren't its own. [sleep] */
long vm_state_ioctl(struct host_vm *vm, unsigned int ioctl, unsigned long arg);

/* lapic_ioctl.c: with the vCPU loaded; -EINVAL for ioctls that aren't its own. */
long vcpu_lapic_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user);
/* own_ioctl.c: MINIVMX_*, with the vCPU loaded; -EINVAL for unknown ones. [sleep] */
long vcpu_own_ioctl(struct host_vcpu *vcpu, unsigned int ioctl, void __user *user);

/*
 * load.c: between the two the vCPU follows its thread from CPU to CPU. The vCPU's mutex is held.
 * vcpu_load(): 0, or -EIO when the machine is going down and VMX is off for good, or the thread was
 * killed while it waited for VMX. [sleep]
 */
int vcpu_load(struct host_vcpu *vcpu);
/* The same for KVM_RUN, but preemption stays off: host_let_sleep(), or vcpu_put(), ends that. */
int vcpu_load_pinned(struct host_vcpu *vcpu);
void vcpu_put(struct host_vcpu *vcpu);
void vcpu_init_preempt_notifier(struct host_vcpu *vcpu);

/* dirty_ioctl.c */
int vm_get_dirty_log(struct host_vm *vm, const void __user *user);
int vm_clear_dirty_log(struct host_vm *vm, const void __user *user);

/*
 * irq_ioctl.c: interrupt controllers and devices of the VM; -ENOIOCTLCMD when the ioctl is another
 * one. [sleep]
 */
long irq_ioctl(struct host_vm *vm, unsigned int ioctl, void __user *user);

/* eventfd.c [sleep] */
struct kvm_irqfd;
struct kvm_ioeventfd;
void irqfd_init(struct host_vm *vm);
int irqfd_ioctl(struct host_vm *vm, const struct kvm_irqfd *args);
int ioeventfd_ioctl(struct host_vm *vm, const struct kvm_ioeventfd *args);
/* Takes all of them apart, and waits for it. */
void irqfd_release(struct host_vm *vm);
/* The same for good, after the VM's last user. */
void irqfd_destroy(struct host_vm *vm);

/* mmu_notifier.c */
int vm_watch_mm(struct host_vm *vm); /* -ENOMEM or -EINTR [sleep] */
/* From here on callbacks leave the VM's core alone. */
void vm_unwatch_mm(struct host_vm *vm);
/* kfree(vm), as soon as no callback can see it; does not wait for that. */
void vm_free_unwatched(struct host_vm *vm);
/* Before the module goes: waits for all of these. [sleep] */
void mmu_notifiers_exit(void);

#endif
