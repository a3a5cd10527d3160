/* SPDX-License-Identifier: GPL-2.0-only */
/* What root sees of VMs and vCPUs in debugfs, and the names they have there. */
#ifndef MINIVMX_HOST_DEBUGFS_H
#define MINIVMX_HOST_DEBUGFS_H

struct host_vcpu;
struct host_vm;

/* Module load and unload. Without CONFIG_DEBUG_FS there are no files. [sleep] */
void debugfs_init(void);
void debugfs_exit(void);
/* Names a new VM of the calling process and shows it: 0 or -ENOMEM. [sleep] */
int debugfs_add_vm(struct host_vm *vm);
/* Takes the VM and its vCPUs away; when it returns nobody reads about them any more. [sleep] */
void debugfs_remove_vm(struct host_vm *vm);
/* Shows a vCPU of a VM that is shown. [sleep] */
void debugfs_add_vcpu(struct host_vcpu *vcpu);

#endif
