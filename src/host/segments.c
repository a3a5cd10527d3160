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

/* The GDT that this CPU's VMX operation began with, whose limit each exit changes. */
static DEFINE_PER_CPU(struct desc_ptr, host_gdt);

void segments_cpu_start(void)
{
	native_store_gdt(this_cpu_ptr(&host_gdt));
}

/*
 * User mode's GS base. A RDMSR of IA32_KERNEL_GS_BASE tells the same, but slower. Between the two
 * SWAPGS nothing may use per-CPU data; NMIs find their way by the base itself where there is
 * RDGSBASE.
 */
static noinstr unsigned long user_gs_base(void)
{
	unsigned long base;

	asm volatile("swapgs\n\trdgsbase %0\n\tswapgs" : "=r"(base) : : "memory");
	return base;
}

/* User mode may have changed the bases without a system call (FSGSBASE); else the kernel knows. */
static void save_host_bases(struct host_vcpu *vcpu)
{
	struct host_segments *host = &vcpu->segments;
	struct vcpu_area *area = &vcpu->area;

	if (static_cpu_has(X86_FEATURE_FSGSBASE)) {
		area->host_fs_base = rdfsbase();
		host->kernel_gs_base = user_gs_base();
	} else if (current->mm && likely(is_64bit_mm(current->mm))) {
		current_save_fsgs();
		area->host_fs_base = current->thread.fsbase;
		host->kernel_gs_base = current->thread.gsbase;
	} else {
		rdmsrl(MSR_FS_BASE, area->host_fs_base);
		rdmsrl(MSR_KERNEL_GS_BASE, host->kernel_gs_base);
	}
}

static noinline void keep_selectors(struct host_vcpu *vcpu, u16 fs, u16 gs, u16 ds, u16 es, u16 ldt)
{
	vcpu->segments.fs_sel = fs;
	vcpu->segments.gs_sel = gs;
	vcpu->segments.ds_sel = ds;
	vcpu->segments.es_sel = es;
	vcpu->segments.ldt_sel = ldt;
	vcpu->area.host_fs_sel = selector_for_vmcs(fs);
	vcpu->area.host_gs_sel = selector_for_vmcs(gs);
}

/* In 64-bit user space they are all 0, and VM exit leaves them so. */
static void save_host_selectors(struct host_vcpu *vcpu)
{
	u16 fs, gs, ds, es;
	u32 ldt;

	savesegment(fs, fs);
	savesegment(gs, gs);
	savesegment(ds, ds);
	savesegment(es, es);
	/* store_ldt() would go through memory. */
	asm volatile("sldt %0" : "=r"(ldt));
	vcpu->segments.any_selector = fs | gs | ds | es | ldt;
	if (unlikely(vcpu->segments.any_selector)) {
		keep_selectors(vcpu, fs, gs, ds, es, ldt);
		return;
	}
	vcpu->area.host_fs_sel = 0;
	vcpu->area.host_gs_sel = 0;
}

/* A guest's kernel and user space's thread mostly have the same value in it, which is 0. */
static void switch_kernel_gs_base(u64 from, u64 to)
{
	if (from != to)
		wrmsrl(MSR_KERNEL_GS_BASE, to);
}

void segments_load_guest(struct host_vcpu *vcpu)
{
	if (vcpu->guest_state_loaded)
		return;
	save_host_selectors(vcpu);
	save_host_bases(vcpu);
	switch_kernel_gs_base(vcpu->segments.kernel_gs_base, vcpu->area.kernel_gs_base);
	vcpu->guest_state_loaded = true;
}

static noinline void load_host_selectors(const struct host_segments *host)
{
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
	/* Last: loading GS has changed it. */
	wrmsrl(MSR_KERNEL_GS_BASE, host->kernel_gs_base);
}

void segments_load_host(struct host_vcpu *vcpu)
{
	const struct host_segments *host = &vcpu->segments;

	if (!vcpu->guest_state_loaded)
		return;

	vcpu->area.kernel_gs_base = __rdmsr(MSR_KERNEL_GS_BASE);
	if (unlikely(host->any_selector))
		load_host_selectors(host);
	else
		switch_kernel_gs_base(vcpu->area.kernel_gs_base, host->kernel_gs_base);
	/* The exit left the TSS without its I/O bitmap, and the GDT with too long a limit. */
	invalidate_tss_limit();
	load_gdt(this_cpu_ptr(&host_gdt));
	vcpu->guest_state_loaded = false;
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
