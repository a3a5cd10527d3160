// SPDX-License-Identifier: GPL-2.0-only
/*
 * Segment state that VM entry and VM exit don't switch by themselves, or not back to what a task
 * may have.
 *
 * VM exit loads FS, GS, DS and ES from the VMCS, whose host selectors must have RPL 0 and TI 0 (SDM
 * Vol. 3C, 27.2.3), clears LDTR and sets the limits of GDTR and TSS to fixed values (28.5.2). The
 * kernel itself needs none of FS, DS, ES and the LDT, and IA32_KERNEL_GS_BASE only matters to user
 * mode: so the host gets them back not at each exit but when the vCPU's thread is scheduled out or
 * leaves the ioctl.
 */
#include <linux/sched.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/mmu_context.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/segment.h>

#include "objects.h"
#include "world.h"

/* RPL or TI: what the VMCS must not hold. */
#define SELECTOR_NOT_FOR_VMCS 7

static u16 selector_for_vmcs(u16 selector)
{
	return selector & SELECTOR_NOT_FOR_VMCS ? 0 : selector;
}

static void save_host_segments(struct host_vcpu *vcpu)
{
	struct host_segments *host = &vcpu->segments;
	struct vcpu_area *area = &vcpu->area;

	savesegment(ds, host->ds_sel);
	savesegment(es, host->es_sel);
	store_ldt(host->ldt_sel);
	area->host_gs_base = cpu_kernelmode_gs_base(smp_processor_id());

	if (current->mm && likely(is_64bit_mm(current->mm))) {
		/* User mode may have changed the bases without a system call (FSGSBASE). */
		current_save_fsgs();
		host->fs_sel = current->thread.fsindex;
		host->gs_sel = current->thread.gsindex;
		area->host_fs_base = current->thread.fsbase;
		host->kernel_gs_base = current->thread.gsbase;
	} else {
		savesegment(fs, host->fs_sel);
		savesegment(gs, host->gs_sel);
		rdmsrl(MSR_FS_BASE, area->host_fs_base);
		rdmsrl(MSR_KERNEL_GS_BASE, host->kernel_gs_base);
	}

	area->host_fs_sel = selector_for_vmcs(host->fs_sel);
	area->host_gs_sel = selector_for_vmcs(host->gs_sel);
}

void segments_load_guest(struct host_vcpu *vcpu)
{
	if (vcpu->guest_state_loaded)
		return;
	save_host_segments(vcpu);
	wrmsrl(MSR_KERNEL_GS_BASE, vcpu->area.kernel_gs_base);
	vcpu->guest_state_loaded = true;
}

void segments_load_host(struct host_vcpu *vcpu)
{
	struct host_segments *host = &vcpu->segments;

	if (!vcpu->guest_state_loaded)
		return;

	rdmsrl(MSR_KERNEL_GS_BASE, vcpu->area.kernel_gs_base);
	if (host->ldt_sel || (host->gs_sel & SELECTOR_NOT_FOR_VMCS)) {
		asm volatile("lldt %0" : : "rm"(host->ldt_sel));
		load_gs_index(host->gs_sel);
	}
	if (host->fs_sel & SELECTOR_NOT_FOR_VMCS)
		loadsegment(fs, host->fs_sel);
	if (host->ds_sel || host->es_sel) {
		loadsegment(ds, host->ds_sel);
		loadsegment(es, host->es_sel);
	}
	/* The exit left the TSS without its I/O bitmap, and the GDT with too long a limit. */
	invalidate_tss_limit();
	load_fixmap_gdt(smp_processor_id());
	wrmsrl(MSR_KERNEL_GS_BASE, host->kernel_gs_base);
	vcpu->guest_state_loaded = false;
	/* Another vCPU may load its own before this one comes back. */
	vcpu->uret_loaded = false;
}

host_u64 host_read_kernel_gs_base(struct host_vcpu *vcpu)
{
	u64 value;

	preempt_disable();
	if (vcpu->guest_state_loaded)
		rdmsrl(MSR_KERNEL_GS_BASE, vcpu->area.kernel_gs_base);
	value = vcpu->area.kernel_gs_base;
	preempt_enable();
	return value;
}

void host_write_kernel_gs_base(struct host_vcpu *vcpu, host_u64 value)
{
	preempt_disable();
	vcpu->area.kernel_gs_base = value;
	if (vcpu->guest_state_loaded)
		wrmsrl(MSR_KERNEL_GS_BASE, value);
	preempt_enable();
}
