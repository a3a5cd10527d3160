// SPDX-License-Identifier: GPL-2.0-only
/* A VM's ioctls of interrupt controllers and devices: arguments come in once, in KVM's order. */
#include <linux/kvm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "objects.h"

/* KVM's on x86: what KVM_CAP_IRQ_ROUTING tells. */
#define MAX_IRQ_ROUTES 4096

/* ---- Interrupt controllers ---- */

static int create_irqchip(struct host_vm *vm)
{
	int r;

	mutex_lock(&vm->lock);
	r = core_create_irqchip(vm->core);
	mutex_unlock(&vm->lock);
	return r;
}

static int get_irqchip(struct host_vm *vm, void __user *user)
{
	struct kvm_irqchip *chip = memdup_user(user, sizeof(*chip));
	int r;

	if (IS_ERR(chip))
		return PTR_ERR(chip);
	r = core_get_irqchip(vm->core, chip);
	if (!r && copy_to_user(user, chip, sizeof(*chip)))
		r = -EFAULT;
	kfree(chip);
	return r;
}

static int set_irqchip(struct host_vm *vm, const void __user *user)
{
	struct kvm_irqchip *chip = memdup_user(user, sizeof(*chip));
	int r;

	if (IS_ERR(chip))
		return PTR_ERR(chip);
	r = core_set_irqchip(vm->core, chip);
	kfree(chip);
	return r;
}

/* ---- Interrupts ---- */

static int irq_line(struct host_vm *vm, void __user *user, bool status)
{
	struct kvm_irq_level line;
	int r;

	if (copy_from_user(&line, user, sizeof(line)))
		return -EFAULT;
	r = core_irq_line(vm->core, &line, status);
	if (!r && status && copy_to_user(user, &line, sizeof(line)))
		r = -EFAULT;
	return r;
}

static int set_gsi_routing(struct host_vm *vm, const struct kvm_irq_routing __user *user)
{
	struct kvm_irq_routing_entry *entries = NULL;
	struct kvm_irq_routing header;
	int r;

	if (copy_from_user(&header, user, sizeof(header)))
		return -EFAULT;
	if (!core_irqchip_ready(vm->core) || header.nr > MAX_IRQ_ROUTES || header.flags)
		return -EINVAL;
	if (header.nr) {
		entries = vmemdup_user(user->entries, array_size(header.nr, sizeof(*entries)));
		if (IS_ERR(entries))
			return PTR_ERR(entries);
	}
	mutex_lock(&vm->routing_lock);
	r = core_set_gsi_routing(vm->core, entries, header.nr);
	mutex_unlock(&vm->routing_lock);
	kvfree(entries);
	return r;
}

static int signal_msi(struct host_vm *vm, const void __user *user)
{
	struct kvm_msi msi;

	if (copy_from_user(&msi, user, sizeof(msi)))
		return -EFAULT;
	return core_signal_msi(vm->core, &msi);
}

/* ---- The PIT ---- */

static int create_pit(struct host_vm *vm, u32 flags)
{
	int r;

	mutex_lock(&vm->lock);
	r = core_create_pit(vm->core, flags);
	mutex_unlock(&vm->lock);
	return r;
}

static int create_pit2(struct host_vm *vm, const void __user *user)
{
	struct kvm_pit_config config;

	if (copy_from_user(&config, user, sizeof(config)))
		return -EFAULT;
	return create_pit(vm, config.flags);
}

static int get_pit(struct host_vm *vm, void __user *user)
{
	struct kvm_pit_state2 state;
	struct kvm_pit_state old;
	int r;

	/* KVM reads before it writes. */
	if (copy_from_user(&old, user, sizeof(old)))
		return -EFAULT;
	r = core_get_pit(vm->core, &state);
	if (r)
		return r;
	memcpy(old.channels, state.channels, sizeof(old.channels));
	return copy_to_user(user, &old, sizeof(old)) ? -EFAULT : 0;
}

/* The older structure says nothing of the flags: they stay. */
static int set_pit(struct host_vm *vm, const void __user *user)
{
	struct kvm_pit_state2 state;
	struct kvm_pit_state old;
	int r;

	if (copy_from_user(&old, user, sizeof(old)))
		return -EFAULT;
	mutex_lock(&vm->lock);
	r = core_get_pit(vm->core, &state);
	if (!r) {
		memcpy(state.channels, old.channels, sizeof(state.channels));
		r = core_set_pit(vm->core, &state);
	}
	mutex_unlock(&vm->lock);
	return r;
}

static int get_pit2(struct host_vm *vm, void __user *user)
{
	struct kvm_pit_state2 state;
	int r = core_get_pit(vm->core, &state);

	if (r)
		return r;
	return copy_to_user(user, &state, sizeof(state)) ? -EFAULT : 0;
}

static int set_pit2(struct host_vm *vm, const void __user *user)
{
	struct kvm_pit_state2 state;
	int r;

	if (copy_from_user(&state, user, sizeof(state)))
		return -EFAULT;
	mutex_lock(&vm->lock);
	r = core_set_pit(vm->core, &state);
	mutex_unlock(&vm->lock);
	return r;
}

static int reinject_control(struct host_vm *vm, const void __user *user)
{
	struct kvm_reinject_control control;

	if (copy_from_user(&control, user, sizeof(control)))
		return -EFAULT;
	return core_reinject_control(vm->core, control.pit_reinject);
}

/* ---- Devices ---- */

static int coalesced(struct host_vm *vm, const void __user *user, bool add)
{
	struct kvm_coalesced_mmio_zone zone;
	int r;

	if (copy_from_user(&zone, user, sizeof(zone)))
		return -EFAULT;
	mutex_lock(&vm->slots_lock);
	r = add ? core_register_coalesced(vm->core, &zone)
		: core_unregister_coalesced(vm->core, &zone);
	mutex_unlock(&vm->slots_lock);
	return r;
}

static int irqfd(struct host_vm *vm, const void __user *user)
{
	struct kvm_irqfd args;

	if (copy_from_user(&args, user, sizeof(args)))
		return -EFAULT;
	return irqfd_ioctl(vm, &args);
}

static int ioeventfd(struct host_vm *vm, const void __user *user)
{
	struct kvm_ioeventfd args;

	if (copy_from_user(&args, user, sizeof(args)))
		return -EFAULT;
	return ioeventfd_ioctl(vm, &args);
}

/* ---- Dispatch ---- */

static long pit_ioctl(struct host_vm *vm, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case KVM_CREATE_PIT:
		return create_pit(vm, KVM_PIT_SPEAKER_DUMMY);
	case KVM_CREATE_PIT2:
		return create_pit2(vm, user);
	case KVM_GET_PIT:
		return get_pit(vm, user);
	case KVM_SET_PIT:
		return set_pit(vm, user);
	case KVM_GET_PIT2:
		return get_pit2(vm, user);
	case KVM_SET_PIT2:
		return set_pit2(vm, user);
	case KVM_REINJECT_CONTROL:
		return reinject_control(vm, user);
	default:
		return -ENOIOCTLCMD;
	}
}

long irq_ioctl(struct host_vm *vm, unsigned int ioctl, void __user *user)
{
	switch (ioctl) {
	case KVM_CREATE_IRQCHIP:
		return create_irqchip(vm);
	case KVM_GET_IRQCHIP:
		return get_irqchip(vm, user);
	case KVM_SET_IRQCHIP:
		return set_irqchip(vm, user);
	case KVM_IRQ_LINE:
		return irq_line(vm, user, false);
	case KVM_IRQ_LINE_STATUS:
		return irq_line(vm, user, true);
	case KVM_SET_GSI_ROUTING:
		return set_gsi_routing(vm, user);
	case KVM_SIGNAL_MSI:
		return signal_msi(vm, user);
	case KVM_IRQFD:
		return irqfd(vm, user);
	case KVM_IOEVENTFD:
		return ioeventfd(vm, user);
	case KVM_REGISTER_COALESCED_MMIO:
		return coalesced(vm, user, true);
	case KVM_UNREGISTER_COALESCED_MMIO:
		return coalesced(vm, user, false);
	default:
		return pit_ioctl(vm, ioctl, user);
	}
}
