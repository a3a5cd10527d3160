// SPDX-License-Identifier: GPL-2.0-only
/*
 * debugfs: minivmx/PID/VM/VCPU. PID is the process that created the VM, VM counts that process's
 * VMs from 0, VCPU is the vCPU's id. In a vCPU's directory:
 *
 *   exits     how many by reason: "CPUID 1234"
 *   events    what else was counted: "halts 3"
 *   controls  every bit of its control words, and why it is on or off
 *
 * and the first two for a VM as the sums over its vCPUs. There is also
 *
 *   memory    how many shadow tables it has, and how many it may have
 *
 * Only root may read them. A file holds
 * nothing of a VM while it is open: when the VM goes its files answer with an error. That an open
 * file keeps the module loaded is debugfs's doing.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "debugfs.h"
#include "objects.h"

/* A process with VMs. It may be gone while others still use them. */
struct vm_process {
	struct list_head link;
	pid_t pid;
	unsigned int vms; /* that exist */
	u32 next_number;
	struct dentry *directory;
};

static DEFINE_MUTEX(processes_mutex);
static LIST_HEAD(processes); /* under processes_mutex */
static struct dentry *top;

void debugfs_init(void)
{
	top = debugfs_create_dir("minivmx", NULL);
}

void debugfs_exit(void)
{
	debugfs_remove(top);
}

/* ---- Files ---- */

static void print_line(void *context, const char *line)
{
	seq_printf(context, "%s\n", line);
}

#define SHOW(name, type, print)                                                                    \
	static int name##_show(struct seq_file *file, void *unused)                                \
	{                                                                                          \
		const struct type *object = file->private;                                         \
                                                                                                   \
		print(object->core, print_line, file);                                             \
		return 0;                                                                          \
	}                                                                                          \
	DEFINE_SHOW_ATTRIBUTE(name)

SHOW(vm_exits, host_vm, core_vm_print_exits);
SHOW(vm_events, host_vm, core_vm_print_events);
SHOW(vm_memory, host_vm, core_vm_print_memory);
SHOW(vcpu_exits, host_vcpu, core_vcpu_print_exits);
SHOW(vcpu_events, host_vcpu, core_vcpu_print_events);
SHOW(vcpu_controls, host_vcpu, core_vcpu_print_controls);

#define FILE_MODE 0400

void debugfs_add_vcpu(struct host_vcpu *vcpu)
{
	struct dentry *directory;
	char name[16];

	snprintf(name, sizeof(name), "%u", vcpu->id);
	directory = debugfs_create_dir(name, vcpu->vm->directory);
	debugfs_create_file("exits", FILE_MODE, directory, vcpu, &vcpu_exits_fops);
	debugfs_create_file("events", FILE_MODE, directory, vcpu, &vcpu_events_fops);
	debugfs_create_file("controls", FILE_MODE, directory, vcpu, &vcpu_controls_fops);
}

static void create_vm_directory(struct host_vm *vm, struct dentry *parent)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", vm->name.number);
	vm->directory = debugfs_create_dir(name, parent);
	debugfs_create_file("exits", FILE_MODE, vm->directory, vm, &vm_exits_fops);
	debugfs_create_file("events", FILE_MODE, vm->directory, vm, &vm_events_fops);
	debugfs_create_file("memory", FILE_MODE, vm->directory, vm, &vm_memory_fops);
}

/* ---- Processes: processes_mutex is held ---- */

static struct vm_process *find_process(pid_t pid)
{
	struct vm_process *process;

	list_for_each_entry(process, &processes, link)
		if (process->pid == pid)
			return process;
	return NULL;
}

static struct vm_process *find_or_add_process(pid_t pid)
{
	struct vm_process *process = find_process(pid);
	char name[16];

	if (process)
		return process;
	process = kzalloc(sizeof(*process), GFP_KERNEL_ACCOUNT);
	if (!process)
		return NULL;
	process->pid = pid;
	snprintf(name, sizeof(name), "%d", pid);
	process->directory = debugfs_create_dir(name, top);
	list_add(&process->link, &processes);
	return process;
}

static void put_process(struct vm_process *process)
{
	if (--process->vms)
		return;
	debugfs_remove(process->directory);
	list_del(&process->link);
	kfree(process);
}

/* ---- VMs ---- */

int debugfs_add_vm(struct host_vm *vm)
{
	struct vm_process *process;

	mutex_lock(&processes_mutex);
	process = find_or_add_process(task_tgid_nr(current));
	if (process) {
		process->vms++;
		vm->name.pid = process->pid;
		vm->name.number = process->next_number++;
		create_vm_directory(vm, process->directory);
	}
	mutex_unlock(&processes_mutex);
	return process ? 0 : -ENOMEM;
}

void debugfs_remove_vm(struct host_vm *vm)
{
	/* May wait for a reader, and so may not hold anybody else up. */
	debugfs_remove(vm->directory);
	mutex_lock(&processes_mutex);
	put_process(find_process(vm->name.pid));
	mutex_unlock(&processes_mutex);
}
