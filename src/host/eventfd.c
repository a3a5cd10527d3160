// SPDX-License-Identifier: GPL-2.0-only
/*
 * Eventfds in both directions: KVM_IRQFD, where one that is signalled interrupts the guest, and
 * KVM_IOEVENTFD, where the guest's write signals one.
 *
 * An irqfd hangs in the wait queue of its eventfd. It ends when it is deassigned, when user space
 * closes the eventfd (its wait queue says so, in a context where nothing can be taken apart), or
 * with the VM. Whoever takes it off vm->irqfds first has it queued for the work that unhooks and
 * frees it; that work waits for irqfd_mutex, so it never meets one that is half set up.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/kvm.h>
#include <linux/poll.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "objects.h"

struct irqfd {
	struct host_vm *vm;
	u32 gsi;
	struct eventfd_ctx *eventfd;
	wait_queue_entry_t wait;
	poll_table poll;
	struct list_head link; /* of vm->irqfds; empty: on its way out */
	struct work_struct shutdown;

	/* KVM_IRQFD_FLAG_RESAMPLE: the line stays up until the guest ends the interrupt. */
	struct eventfd_ctx *resample; /* NULL: a pulse */
	struct list_head resample_link; /* of vm->resamplers */
};

/* ---- Interrupts ---- */

/* Callable with interrupts off and the eventfd's wait queue locked. */
static void inject(struct irqfd *irqfd)
{
	struct core_vm *core = irqfd->vm->core;

	if (irqfd->resample) {
		core_set_irq(core, HOST_IRQ_RESAMPLE, irqfd->gsi, true, false);
		return;
	}
	core_set_irq(core, HOST_IRQ_USER, irqfd->gsi, true, false);
	core_set_irq(core, HOST_IRQ_USER, irqfd->gsi, false, false);
}

/*
 * All irqfds of a GSI hold the line together: it goes down once, before the first of them hears of
 * it and may raise it again.
 */
void host_irq_acked(struct host_vm *vm, host_u32 gsi)
{
	bool down = false;
	struct irqfd *irqfd;
	int section = host_rcu_read_lock();

	list_for_each_entry_srcu(irqfd, &vm->resamplers, resample_link, true)
	{
		if (irqfd->gsi != gsi)
			continue;
		if (!down)
			core_set_irq(vm->core, HOST_IRQ_RESAMPLE, gsi, false, false);
		down = true;
		compat_eventfd_signal(irqfd->resample);
	}
	host_rcu_read_unlock(section);
}

/* ---- The end of an irqfd ---- */

static bool has_resampler(const struct host_vm *vm, u32 gsi)
{
	const struct irqfd *irqfd;

	list_for_each_entry(irqfd, &vm->resamplers, resample_link) {
		/* cppcheck-suppress uninitvar ; list_for_each_entry() sets it */
		if (irqfd->gsi == gsi)
			return true;
	}
	return false;
}

/* irqfd_mutex is held. */
static void remove_resampler(struct irqfd *irqfd)
{
	struct host_vm *vm = irqfd->vm;

	list_del_rcu(&irqfd->resample_link);
	host_rcu_wait();
	if (!has_resampler(vm, irqfd->gsi))
		core_set_irq(vm->core, HOST_IRQ_RESAMPLE, irqfd->gsi, false, false);
	eventfd_ctx_put(irqfd->resample);
}

static void shutdown(struct work_struct *work)
{
	struct irqfd *irqfd = container_of(work, struct irqfd, shutdown);
	struct host_vm *vm = irqfd->vm;
	u64 count;

	mutex_lock(&vm->irqfd_mutex);
	/* From here on nobody calls wakeup(). */
	eventfd_ctx_remove_wait_queue(irqfd->eventfd, &irqfd->wait, &count);
	if (irqfd->resample)
		remove_resampler(irqfd);
	mutex_unlock(&vm->irqfd_mutex);
	eventfd_ctx_put(irqfd->eventfd);
	kfree(irqfd);
}

/* irqfd_lock is held. */
static void deactivate(struct irqfd *irqfd)
{
	list_del_init(&irqfd->link);
	queue_work(irqfd->vm->irqfd_queue, &irqfd->shutdown);
}

/* The eventfd's wait queue is locked, interrupts are off. */
static int wakeup(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *irqfd = container_of(wait, struct irqfd, wait);
	struct host_vm *vm = irqfd->vm;
	__poll_t events = key_to_poll(key);
	unsigned long flags;
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(irqfd->eventfd, &count);
		inject(irqfd);
	}
	if (events & EPOLLHUP) {
		spin_lock_irqsave(&vm->irqfd_lock, flags);
		if (!list_empty(&irqfd->link))
			deactivate(irqfd);
		spin_unlock_irqrestore(&vm->irqfd_lock, flags);
	}
	return events & EPOLLIN ? 1 : 0;
}

/* ---- KVM_IRQFD ---- */

static void hook_into(struct file *file, wait_queue_head_t *head, poll_table *poll)
{
	struct irqfd *irqfd = container_of(poll, struct irqfd, poll);

	add_wait_queue_priority(head, &irqfd->wait);
}

/* -EBUSY: the eventfd interrupts already. */
static int activate(struct irqfd *irqfd)
{
	struct host_vm *vm = irqfd->vm;
	struct irqfd *other;
	int r = 0;

	spin_lock_irq(&vm->irqfd_lock);
	list_for_each_entry(other, &vm->irqfds, link) {
		if (other->eventfd == irqfd->eventfd)
			r = -EBUSY;
	}
	if (!r)
		list_add_tail(&irqfd->link, &vm->irqfds);
	spin_unlock_irq(&vm->irqfd_lock);
	return r;
}

/* The file is ours meanwhile, so the eventfd can't end. irqfd_mutex is held. */
static int set_up(struct irqfd *irqfd, struct file *file)
{
	struct host_vm *vm = irqfd->vm;
	int r;

	if (!vm->irqfd_queue)
		vm->irqfd_queue = alloc_workqueue("minivmx-irqfd", 0, 0);
	if (!vm->irqfd_queue)
		return -ENOMEM;
	if (irqfd->resample)
		list_add_rcu(&irqfd->resample_link, &vm->resamplers);
	r = activate(irqfd);
	if (r) {
		if (irqfd->resample) {
			list_del_rcu(&irqfd->resample_link);
			host_rcu_wait();
		}
		return r;
	}
	init_waitqueue_func_entry(&irqfd->wait, wakeup);
	init_poll_funcptr(&irqfd->poll, hook_into);
	/* What was signalled before counts, too. */
	if (vfs_poll(file, &irqfd->poll) & EPOLLIN)
		inject(irqfd);
	return 0;
}

static int get_eventfds(struct irqfd *irqfd, struct file *file, const struct kvm_irqfd *args)
{
	irqfd->eventfd = eventfd_ctx_fileget(file);
	if (IS_ERR(irqfd->eventfd))
		return PTR_ERR(irqfd->eventfd);
	if (!(args->flags & KVM_IRQFD_FLAG_RESAMPLE))
		return 0;
	irqfd->resample = eventfd_ctx_fdget(args->resamplefd);
	if (IS_ERR(irqfd->resample)) {
		eventfd_ctx_put(irqfd->eventfd);
		return PTR_ERR(irqfd->resample);
	}
	return 0;
}

static int assign_to_file(struct host_vm *vm, struct file *file, const struct kvm_irqfd *args)
{
	struct irqfd *irqfd = kzalloc(sizeof(*irqfd), GFP_KERNEL_ACCOUNT);
	int r;

	if (!irqfd)
		return -ENOMEM;
	irqfd->vm = vm;
	irqfd->gsi = args->gsi;
	INIT_LIST_HEAD(&irqfd->link);
	INIT_WORK(&irqfd->shutdown, shutdown);
	r = get_eventfds(irqfd, file, args);
	if (r)
		goto out_free;
	mutex_lock(&vm->irqfd_mutex);
	r = set_up(irqfd, file);
	mutex_unlock(&vm->irqfd_mutex);
	if (!r)
		return 0;
	if (irqfd->resample)
		eventfd_ctx_put(irqfd->resample);
	eventfd_ctx_put(irqfd->eventfd);
out_free:
	kfree(irqfd);
	return r;
}

static int assign(struct host_vm *vm, const struct kvm_irqfd *args)
{
	struct file *file;
	int r;

	if (!core_irqchip_ready(vm->core))
		return -EINVAL;
	/* An IOAPIC in user space knows of ends by itself. */
	if ((args->flags & KVM_IRQFD_FLAG_RESAMPLE) && !core_irqchip_in_kernel(vm->core))
		return -EINVAL;
	file = fget(args->fd);
	if (!file)
		return -EBADF;
	r = assign_to_file(vm, file, args);
	fput(file);
	return r;
}

static void flush_shutdowns(struct host_vm *vm)
{
	struct workqueue_struct *queue;

	mutex_lock(&vm->irqfd_mutex);
	queue = vm->irqfd_queue; /* once there, it stays */
	mutex_unlock(&vm->irqfd_mutex);
	if (queue)
		flush_workqueue(queue);
}

static int deassign(struct host_vm *vm, const struct kvm_irqfd *args)
{
	struct eventfd_ctx *eventfd = eventfd_ctx_fdget(args->fd);
	struct irqfd *irqfd, *next;

	if (IS_ERR(eventfd))
		return PTR_ERR(eventfd);
	spin_lock_irq(&vm->irqfd_lock);
	list_for_each_entry_safe(irqfd, next, &vm->irqfds, link) {
		if (irqfd->eventfd == eventfd && irqfd->gsi == args->gsi)
			deactivate(irqfd);
	}
	spin_unlock_irq(&vm->irqfd_lock);
	eventfd_ctx_put(eventfd);
	/* No interrupt comes from it any more when this returns. */
	flush_shutdowns(vm);
	return 0;
}

int irqfd_ioctl(struct host_vm *vm, const struct kvm_irqfd *args)
{
	if (args->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (args->flags & KVM_IRQFD_FLAG_DEASSIGN)
		return deassign(vm, args);
	return assign(vm, args);
}

void irqfd_init(struct host_vm *vm)
{
	mutex_init(&vm->irqfd_mutex);
	spin_lock_init(&vm->irqfd_lock);
	INIT_LIST_HEAD(&vm->irqfds);
	INIT_LIST_HEAD(&vm->resamplers);
}

void irqfd_release(struct host_vm *vm)
{
	struct irqfd *irqfd, *next;

	spin_lock_irq(&vm->irqfd_lock);
	list_for_each_entry_safe(irqfd, next, &vm->irqfds, link)
		deactivate(irqfd);
	spin_unlock_irq(&vm->irqfd_lock);
	flush_shutdowns(vm);
}

void irqfd_destroy(struct host_vm *vm)
{
	irqfd_release(vm);
	if (vm->irqfd_queue)
		destroy_workqueue(vm->irqfd_queue);
}

/* ---- KVM_IOEVENTFD ---- */

/* The core knows an eventfd by its context. */
static struct eventfd_ctx *to_context(struct host_eventfd *eventfd)
{
	return (struct eventfd_ctx *)eventfd;
}

void host_eventfd_signal(struct host_eventfd *eventfd)
{
	compat_eventfd_signal(to_context(eventfd));
}

void host_eventfd_put(struct host_eventfd *eventfd)
{
	eventfd_ctx_put(to_context(eventfd));
}

int ioeventfd_ioctl(struct host_vm *vm, const struct kvm_ioeventfd *args)
{
	bool remove = args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
	struct host_eventfd *eventfd;
	struct eventfd_ctx *context;
	int r;

	if (!remove) {
		r = core_check_ioeventfd(args);
		if (r)
			return r;
	}
	context = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(context))
		return PTR_ERR(context);
	eventfd = (struct host_eventfd *)context;
	mutex_lock(&vm->slots_lock);
	r = remove ? core_deassign_ioeventfd(vm->core, args, eventfd)
		   : core_assign_ioeventfd(vm->core, args, eventfd);
	mutex_unlock(&vm->slots_lock);
	/* An assigned one keeps the reference. */
	if (remove || r)
		eventfd_ctx_put(context);
	return r;
}
