// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the core asks about CPUs: which one this is, what its host state is, and to run something on
 * another.
 */
#include <linux/cpumask.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/smp.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/segment.h>
#include <asm/special_insns.h>

#include <minivmx/host.h>

#include "vmenter.h"

host_u32 host_cpu(void)
{
	return raw_smp_processor_id();
}

host_u32 host_cpu_limit(void)
{
	return nr_cpu_ids;
}

host_u32 host_online_cpus(void)
{
	return num_online_cpus();
}

void host_call_on_cpu(host_u32 cpu, void (*fn)(void *arg), void *arg)
{
	/* -ENXIO: the CPU is offline, as the caller expects that it may be. */
	smp_call_function_single(cpu, fn, arg, true);
}

void host_get_cpu_state(struct host_cpu_state *state)
{
	struct desc_ptr idt;
	u64 value;

	store_idt(&idt);
	memset(state, 0, sizeof(*state));
	state->tr_base = (unsigned long)&get_cpu_entry_area(smp_processor_id())->tss.x86_tss;
	state->gdt_base = (unsigned long)get_current_gdt_ro();
	state->idt_base = idt.address;
	rdmsrl(MSR_IA32_SYSENTER_CS, value);
	state->sysenter_cs = value;
	rdmsrl(MSR_IA32_SYSENTER_ESP, state->sysenter_esp);
	rdmsrl(MSR_IA32_SYSENTER_EIP, state->sysenter_eip);
	state->cs_sel = __KERNEL_CS;
	state->ss_sel = __KERNEL_DS;
	state->tr_sel = GDT_ENTRY_TSS * 8;
	state->cr0 = read_cr0();
	rdmsrl(MSR_EFER, state->efer);
	rdmsrl(MSR_IA32_CR_PAT, state->pat);
	state->exit_rip = (unsigned long)minivmx_vmexit;
}

void host_preempt_disable(void)
{
	preempt_disable();
}

void host_preempt_enable(void)
{
	preempt_enable();
}

host_u64 host_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void host_irq_restore(host_u64 flags)
{
	local_irq_restore((unsigned long)flags);
}
