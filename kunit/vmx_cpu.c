// SPDX-License-Identifier: GPL-2.0-only
#include <linux/gfp.h>
#include <linux/io.h>
#include <asm/msr.h>
#include <asm/tlbflush.h>
#include <asm/vmx.h>

#include "vmx_cpu.h"

int vmx_cpu_init(struct kunit *test)
{
	struct vmx_cpu *cpu = kunit_kzalloc(test, sizeof(*cpu), GFP_KERNEL);
	u64 basic;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, cpu);
	test->priv = cpu;
	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	cpu->revision = basic & 0x7fffffff;
	for (i = 0; i < ARRAY_SIZE(cpu->pages); i++) {
		cpu->pages[i] = (void *)get_zeroed_page(GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, cpu->pages[i]);
		*(u32 *)cpu->pages[i] = cpu->revision;
	}
	cpu->region = virt_to_phys(cpu->pages[VMX_PAGES]);
	for (i = 0; i < VMX_PAGES; i++)
		cpu->vmcs[i] = virt_to_phys(cpu->pages[i]);
	return 0;
}

void vmx_cpu_exit(struct kunit *test)
{
	struct vmx_cpu *cpu = test->priv;
	int i;

	for (i = 0; cpu && i < ARRAY_SIZE(cpu->pages); i++)
		free_page((unsigned long)cpu->pages[i]);
}

void vmx_run(struct kunit *test, void (*body)(struct vmx_cpu *cpu, void *argument), void *argument)
{
	u32 on = PROBE_FAULTED, off = PROBE_FAULTED;
	struct vmx_cpu *cpu = test->priv;
	unsigned long flags;
	bool taken;
	int i;

	local_irq_save(flags);
	taken = __read_cr4() & X86_CR4_VMXE;
	if (!taken) {
		cr4_set_bits(X86_CR4_VMXE);
		on = probe_vmxon(cpu->region);
		if (on == PROBE_OK) {
			body(cpu, argument);
			/* Nothing of a VMCS may stay in the CPU when its page is freed (SDM Vol. 3C, 25.11.1). */
			for (i = 0; i < VMX_PAGES; i++)
				probe_vmclear(cpu->vmcs[i]);
			off = probe_vmxoff();
		}
		cr4_clear_bits(X86_CR4_VMXE);
	}
	local_irq_restore(flags);

	KUNIT_ASSERT_FALSE_MSG(test, taken, "CR4.VMXE is set: another hypervisor has VMX");
	KUNIT_ASSERT_EQ_MSG(test, on, (u32)PROBE_OK, "VMXON");
	KUNIT_ASSERT_EQ_MSG(test, off, (u32)PROBE_OK, "VMXOFF");
}

u32 vmx_load(u64 vmcs)
{
	u32 cleared = probe_vmclear(vmcs);

	return cleared == PROBE_OK ? probe_vmptrld(vmcs) : cleared;
}

u32 vmx_error(void)
{
	u64 error = 0;

	probe_vmread(VM_INSTRUCTION_ERROR, &error);
	return error;
}
