// SPDX-License-Identifier: GPL-2.0-only
/* MSR accesses that may fault, and setup_vmcs_config() judged by the CPU itself. */
#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/vmx.h>

#include "vmx_cpu.h"

/* SDM Vol. 3C, 31.4 "VM Instruction Error Numbers". */
enum { INVALID_CONTROL_FIELDS = 7, INVALID_HOST_STATE = 8 };

#define NOT_CANONICAL 0x0123456789abcdefull

/* ---- MSRs ---------------------------------------------------------------------------------------------------------- */

static const u32 base_msrs[] = { MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_CSTAR, MSR_IA32_SYSENTER_EIP };

static void refused_wrmsr_is_recovered(struct kunit *test)
{
	u64 before, after;
	unsigned long flags;
	bool written;
	int i;

	for (i = 0; i < ARRAY_SIZE(base_msrs); i++) {
		local_irq_save(flags);
		rdmsrl(base_msrs[i], before);
		written = probe_wrmsr_safe(base_msrs[i], NOT_CANONICAL);
		rdmsrl(base_msrs[i], after);
		wrmsrl(base_msrs[i], before);
		local_irq_restore(flags);
		KUNIT_EXPECT_FALSE_MSG(test, written, "MSR %x", base_msrs[i]);
		KUNIT_EXPECT_EQ_MSG(test, after, before, "MSR %x", base_msrs[i]);
	}
}

static void msr_accesses_agree_with_the_kernel(struct kunit *test)
{
	u64 ours, kernels, back;
	unsigned long flags;
	bool read, written;

	local_irq_save(flags);
	rdmsrl(MSR_KERNEL_GS_BASE, kernels);
	read = probe_rdmsr_safe(MSR_KERNEL_GS_BASE, &ours);
	written = probe_wrmsr_safe(MSR_KERNEL_GS_BASE, kernels ^ 0x1000);
	rdmsrl(MSR_KERNEL_GS_BASE, back);
	wrmsrl(MSR_KERNEL_GS_BASE, kernels);
	local_irq_restore(flags);

	KUNIT_EXPECT_TRUE(test, read);
	KUNIT_EXPECT_EQ(test, ours, kernels);
	KUNIT_EXPECT_TRUE(test, written);
	KUNIT_EXPECT_EQ(test, back, kernels ^ 0x1000);
}

/* ---- setup_vmcs_config() ------------------------------------------------------------------------------------------- */

static void negotiate(struct kunit *test, struct probe_config *config)
{
	int r;

	preempt_disable();
	r = probe_setup_vmcs_config(config);
	preempt_enable();
	KUNIT_ASSERT_EQ_MSG(test, r, 0, "%s", config->why);
}

static void revision_and_size(struct kunit *test)
{
	struct probe_config *config = kunit_kzalloc(test, sizeof(*config), GFP_KERNEL);
	u64 basic;

	KUNIT_ASSERT_NOT_NULL(test, config);
	negotiate(test, config);
	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	KUNIT_EXPECT_EQ(test, config->revision, (u32)(basic & 0x7fffffff));
	KUNIT_EXPECT_EQ(test, config->size, (u32)(basic >> 32 & 0x1fff));
	KUNIT_EXPECT_GT(test, config->size, 0u);
	KUNIT_EXPECT_LE(test, config->size, (u32)PAGE_SIZE << config->order);
}

struct word_bits {
	const char *name;
	u32 msr, true_msr; /* true_msr: 0 where there is none */
};

static u64 allowed(const struct word_bits *word)
{
	u64 basic, value;

	rdmsrl(MSR_IA32_VMX_BASIC, basic);
	rdmsrl(word->true_msr && (basic & BIT_ULL(55)) ? word->true_msr : word->msr, value);
	return value;
}

/* SDM Vol. 3D, A.3 to A.5: low half: bits that must be 1; high half: bits that may be 1. */
static void expect_allowed(struct kunit *test, const struct word_bits *word, u32 value)
{
	u64 settings = allowed(word);

	KUNIT_EXPECT_EQ_MSG(test, value & ~(u32)(settings >> 32), 0u, "%s has bits that must be 0",
			    word->name);
	KUNIT_EXPECT_EQ_MSG(test, (u32)settings & ~value, 0u, "%s lacks bits that must be 1",
			    word->name);
}

static void words_are_within_the_msrs(struct kunit *test)
{
	static const struct word_bits pin = { "pin-based", MSR_IA32_VMX_PINBASED_CTLS,
					      MSR_IA32_VMX_TRUE_PINBASED_CTLS };
	static const struct word_bits primary = { "primary", MSR_IA32_VMX_PROCBASED_CTLS,
						  MSR_IA32_VMX_TRUE_PROCBASED_CTLS };
	static const struct word_bits secondary = { "secondary", MSR_IA32_VMX_PROCBASED_CTLS2, 0 };
	static const struct word_bits exit = { "exit", MSR_IA32_VMX_EXIT_CTLS,
					       MSR_IA32_VMX_TRUE_EXIT_CTLS };
	static const struct word_bits entry = { "entry", MSR_IA32_VMX_ENTRY_CTLS,
						MSR_IA32_VMX_TRUE_ENTRY_CTLS };
	struct probe_config *config = kunit_kzalloc(test, sizeof(*config), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, config);
	negotiate(test, config);
	expect_allowed(test, &pin, config->pin);
	expect_allowed(test, &primary, config->primary);
	if (config->primary & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS)
		expect_allowed(test, &secondary, config->secondary);
	else
		KUNIT_EXPECT_EQ(test, config->secondary, 0u);
	expect_allowed(test, &exit, config->exit);
	expect_allowed(test, &entry, config->entry);
	KUNIT_EXPECT_TRUE(test, config->pin & PIN_BASED_EXT_INTR_MASK);
	KUNIT_EXPECT_TRUE(test, config->primary & CPU_BASED_HLT_EXITING);
	KUNIT_EXPECT_TRUE(test, config->exit & VM_EXIT_HOST_ADDR_SPACE_SIZE);
}

/* ---- The same words in a VMCS --------------------------------------------------------------------------------------- */

struct trial {
	const struct probe_config *config;
	u32 write_failures;
	u32 outcome, error;
};

static void write_field(struct trial *trial, u32 field, u64 value)
{
	trial->write_failures += probe_vmwrite(field, value) != PROBE_OK;
}

/*
 * A word of the negotiation is what some vCPU may have. No vCPU waits for windows at first, and one that uses the x2APIC doesn't
 * virtualize the other's page; posted interrupts need the tables of an in-kernel APIC.
 */
static void write_controls(struct trial *trial)
{
	const struct probe_config *config = trial->config;
	const u32 secondary = config->secondary & ~SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE;

	write_field(trial, PIN_BASED_VM_EXEC_CONTROL, config->pin & ~PIN_BASED_POSTED_INTR);
	write_field(trial, CPU_BASED_VM_EXEC_CONTROL,
		    config->primary &
			    ~(CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_NMI_WINDOW_EXITING));
	write_field(trial, VM_EXIT_CONTROLS, config->exit);
	write_field(trial, VM_ENTRY_CONTROLS, config->entry);
	write_field(trial, CR3_TARGET_COUNT, 0);
	write_field(trial, VM_EXIT_MSR_STORE_COUNT, 0);
	write_field(trial, VM_EXIT_MSR_LOAD_COUNT, 0);
	write_field(trial, VM_ENTRY_MSR_LOAD_COUNT, 0);
	write_field(trial, VM_ENTRY_INTR_INFO_FIELD, 0);
	if (config->primary & CPU_BASED_ACTIVATE_SECONDARY_CONTROLS)
		write_field(trial, SECONDARY_VM_EXEC_CONTROL, secondary);
	if (secondary & SECONDARY_EXEC_ENABLE_VPID)
		write_field(trial, VIRTUAL_PROCESSOR_ID, 1);
	if (secondary & SECONDARY_EXEC_TSC_SCALING)
		write_field(trial, TSC_MULTIPLIER, 1ull << 48);
}

/* Addresses of structures the CPU would use in a guest: of pages, all zero, that stay ours. */
static void write_addresses(struct vmx_cpu *cpu, struct trial *trial)
{
	const struct probe_config *config = trial->config;
	const u64 page = cpu->vmcs[1];

	if (config->primary & CPU_BASED_USE_MSR_BITMAPS)
		write_field(trial, MSR_BITMAP, page);
	if (config->primary & CPU_BASED_TPR_SHADOW) {
		write_field(trial, VIRTUAL_APIC_PAGE_ADDR, cpu->vmcs[2]);
		write_field(trial, TPR_THRESHOLD, 0);
	}
	if (config->secondary & SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES)
		write_field(trial, APIC_ACCESS_ADDR, page);
	if (config->secondary & SECONDARY_EXEC_ENABLE_EPT)
		write_field(trial, EPT_POINTER, page | VMX_EPTP_PWL_4 | VMX_EPTP_MT_WB);
	if (config->secondary & SECONDARY_EXEC_ENABLE_PML)
		write_field(trial, PML_ADDRESS, page);
	if (config->secondary & SECONDARY_EXEC_SHADOW_VMCS) {
		write_field(trial, VMREAD_BITMAP, page);
		write_field(trial, VMWRITE_BITMAP, page);
	}
}

/* The host state is all zero, with which no CPU enters: what is left to fail is told by the error. */
static void launch(struct vmx_cpu *cpu, void *argument)
{
	struct trial *trial = argument;

	vmx_load(cpu->vmcs[0]);
	write_controls(trial);
	write_addresses(cpu, trial);
	write_field(trial, HOST_CR0, 0);
	write_field(trial, HOST_CR4, 0);
	trial->outcome = probe_vmlaunch();
	trial->error = trial->outcome == PROBE_FAIL_VALID ? vmx_error() : 0;
}

/*
 * SDM Vol. 3C, 27.2: VM entry checks the control fields and the host state, and says by its error number which of them
 * failed; every CPU known checks the controls first.
 */
static void vm_entry_accepts_the_words(struct kunit *test)
{
	struct probe_config *config = kunit_kzalloc(test, sizeof(*config), GFP_KERNEL);
	struct trial trial = { .config = config };

	KUNIT_ASSERT_NOT_NULL(test, config);
	negotiate(test, config);
	vmx_run(test, launch, &trial);
	KUNIT_EXPECT_EQ(test, trial.write_failures, 0u);
	KUNIT_EXPECT_EQ(test, trial.outcome, (u32)PROBE_FAIL_VALID);
	KUNIT_EXPECT_EQ(test, trial.error, (u32)INVALID_HOST_STATE);
}

static void expect_refused(struct kunit *test, struct probe_config *config, const char *what)
{
	struct trial trial = { .config = config };

	vmx_run(test, launch, &trial);
	KUNIT_EXPECT_EQ_MSG(test, trial.outcome, (u32)PROBE_FAIL_VALID, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, trial.error, (u32)INVALID_CONTROL_FIELDS, "%s", what);
}

/* The judge of the case above does judge: one reserved bit, either way, and it refuses the controls. */
static void vm_entry_refuses_other_words(struct kunit *test)
{
	struct probe_config *config = kunit_kzalloc(test, sizeof(*config), GFP_KERNEL);
	struct probe_config changed;

	KUNIT_ASSERT_NOT_NULL(test, config);
	negotiate(test, config);
	changed = *config;
	changed.pin ^= BIT(1); /* a default1 bit */
	expect_refused(test, &changed, "pin-based bit 1 is 0");
	changed = *config;
	changed.pin |= BIT(31);
	expect_refused(test, &changed, "pin-based bit 31 is 1");
	changed = *config;
	changed.entry ^= BIT(0);
	expect_refused(test, &changed, "entry bit 0 is 0");
	changed = *config;
	changed.exit ^= BIT(0);
	expect_refused(test, &changed, "exit bit 0 is 0");
}

static struct kunit_case setup_cases[] = { KUNIT_CASE(refused_wrmsr_is_recovered),
					   KUNIT_CASE(msr_accesses_agree_with_the_kernel),
					   KUNIT_CASE(revision_and_size),
					   KUNIT_CASE(words_are_within_the_msrs),
					   KUNIT_CASE(vm_entry_accepts_the_words),
					   KUNIT_CASE(vm_entry_refuses_other_words),
					   {} };

static struct kunit_suite setup_suite = {
	.name = "minivmx_setup",
	.init = vmx_cpu_init,
	.exit = vmx_cpu_exit,
	.test_cases = setup_cases,
};
kunit_test_suite(setup_suite);
