// SPDX-License-Identifier: GPL-2.0-only
/* The VMX instructions of arch.hpp on the CPU: their outcomes, and what a VMCS keeps. SDM Vol. 3C, chapter 31. */
#include <linux/cpumask.h>
#include <linux/smp.h>
#include <asm/tlbflush.h>
#include <asm/vmx.h>

#include "vmx_cpu.h"

/* SDM Vol. 3C, 31.4 "VM Instruction Error Numbers". */
enum {
	VMCLEAR_BAD_ADDRESS = 2,
	VMCLEAR_OF_VMXON_REGION = 3,
	RESUME_OF_NON_LAUNCHED = 5,
	VMPTRLD_BAD_ADDRESS = 9,
	VMPTRLD_OF_VMXON_REGION = 10,
	VMPTRLD_WRONG_REVISION = 11,
	VMXON_IN_ROOT_OPERATION = 15,
};

/* How one instruction ended; error only counts after VMfailValid. */
struct ending {
	u32 outcome;
	u32 error;
};

static struct ending ended(u32 outcome)
{
	return (struct ending){ outcome, outcome == PROBE_FAIL_VALID ? vmx_error() : 0 };
}

#define EXPECT_ENDING(test, ending, expected_outcome, expected_error)                              \
	do {                                                                                       \
		KUNIT_EXPECT_EQ_MSG(test, (ending).outcome, (u32)(expected_outcome), #ending);     \
		KUNIT_EXPECT_EQ_MSG(test, (ending).error, (u32)(expected_error), #ending);         \
	} while (0)

/* ---- Outside VMX operation ---------------------------------------------------------------------------------------- */

static void faults_are_recovered(struct kunit *test)
{
	struct vmx_cpu *cpu = test->priv;
	u32 on, off, clear, load, read, write;
	unsigned long flags;
	u64 value = 1;
	bool taken;

	local_irq_save(flags);
	taken = __read_cr4() & X86_CR4_VMXE;
	if (!taken) {
		on = probe_vmxon(cpu->region);
		read = probe_vmread(GUEST_RIP, &value);
		write = probe_vmwrite(GUEST_RIP, 0);
		clear = probe_vmclear(cpu->vmcs[0]);
		load = probe_vmptrld(cpu->vmcs[0]);
		off = probe_vmxoff();
	}
	local_irq_restore(flags);

	KUNIT_ASSERT_FALSE_MSG(test, taken, "CR4.VMXE is set: another hypervisor has VMX");
	KUNIT_EXPECT_EQ(test, on, (u32)PROBE_FAULTED);
	KUNIT_EXPECT_EQ(test, read, (u32)PROBE_FAULTED);
	KUNIT_EXPECT_EQ(test, value, 0ull);
	KUNIT_EXPECT_EQ(test, write, (u32)PROBE_FAULTED);
	KUNIT_EXPECT_EQ(test, clear, (u32)PROBE_FAULTED);
	KUNIT_EXPECT_EQ(test, load, (u32)PROBE_FAULTED);
	KUNIT_EXPECT_EQ(test, off, (u32)PROBE_FAULTED);
}

static void nothing(struct vmx_cpu *cpu, void *unused)
{
}

static void faults_again_after_vmxoff(struct kunit *test)
{
	vmx_run(test, nothing, NULL);
	faults_are_recovered(test);
}

/* ---- The VMXON region and the current VMCS ------------------------------------------------------------------------ */

struct vmxon_endings {
	struct ending without_vmcs, with_vmcs;
};

static void vmxon_twice(struct vmx_cpu *cpu, void *result)
{
	struct vmxon_endings *r = result;

	r->without_vmcs = ended(probe_vmxon(cpu->region));
	vmx_load(cpu->vmcs[0]);
	r->with_vmcs = ended(probe_vmxon(cpu->region));
}

static void vmxon_in_vmx_operation(struct kunit *test)
{
	struct vmxon_endings r = {};

	vmx_run(test, vmxon_twice, &r);
	EXPECT_ENDING(test, r.without_vmcs, PROBE_FAIL_INVALID, 0);
	EXPECT_ENDING(test, r.with_vmcs, PROBE_FAIL_VALID, VMXON_IN_ROOT_OPERATION);
}

struct revision_endings {
	struct ending without_vmcs, with_vmcs, shadow, right;
	u64 kept;
};

static void load_wrong_revision(struct vmx_cpu *cpu, void *result)
{
	struct revision_endings *r = result;
	u32 *revision = cpu->pages[1];

	*revision = cpu->revision ^ 1;
	r->without_vmcs = ended(probe_vmptrld(cpu->vmcs[1]));
	vmx_load(cpu->vmcs[0]);
	probe_vmwrite(GUEST_RIP, 0x1234);
	r->with_vmcs = ended(probe_vmptrld(cpu->vmcs[1]));
	probe_vmread(GUEST_RIP, &r->kept);
	*revision = cpu->revision;
	r->right = ended(vmx_load(cpu->vmcs[1]));
}

static void wrong_revision(struct kunit *test)
{
	struct revision_endings r = {};

	vmx_run(test, load_wrong_revision, &r);
	EXPECT_ENDING(test, r.without_vmcs, PROBE_FAIL_INVALID, 0);
	EXPECT_ENDING(test, r.with_vmcs, PROBE_FAIL_VALID, VMPTRLD_WRONG_REVISION);
	KUNIT_EXPECT_EQ_MSG(test, r.kept, 0x1234ull, "the current VMCS changed");
	EXPECT_ENDING(test, r.right, PROBE_OK, 0);
}

struct pointer_endings {
	struct ending clear_unaligned, clear_region, load_unaligned, load_region, clear_too_wide,
		load_too_wide;
};

static void use_bad_pointers(struct vmx_cpu *cpu, void *result)
{
	struct pointer_endings *r = result;
	const u64 too_wide = cpu->vmcs[1] | 1ull << 62;

	vmx_load(cpu->vmcs[0]);
	r->clear_unaligned = ended(probe_vmclear(cpu->vmcs[1] + 8));
	r->clear_too_wide = ended(probe_vmclear(too_wide));
	r->clear_region = ended(probe_vmclear(cpu->region));
	r->load_unaligned = ended(probe_vmptrld(cpu->vmcs[1] + 8));
	r->load_too_wide = ended(probe_vmptrld(too_wide));
	r->load_region = ended(probe_vmptrld(cpu->region));
}

static void bad_pointers(struct kunit *test)
{
	struct pointer_endings r = {};

	vmx_run(test, use_bad_pointers, &r);
	EXPECT_ENDING(test, r.clear_unaligned, PROBE_FAIL_VALID, VMCLEAR_BAD_ADDRESS);
	EXPECT_ENDING(test, r.clear_too_wide, PROBE_FAIL_VALID, VMCLEAR_BAD_ADDRESS);
	EXPECT_ENDING(test, r.clear_region, PROBE_FAIL_VALID, VMCLEAR_OF_VMXON_REGION);
	EXPECT_ENDING(test, r.load_unaligned, PROBE_FAIL_VALID, VMPTRLD_BAD_ADDRESS);
	EXPECT_ENDING(test, r.load_too_wide, PROBE_FAIL_VALID, VMPTRLD_BAD_ADDRESS);
	EXPECT_ENDING(test, r.load_region, PROBE_FAIL_VALID, VMPTRLD_OF_VMXON_REGION);
}

struct current_endings {
	struct ending read_before, write_before, read, read_after_other, read_after_clear;
};

static void use_current(struct vmx_cpu *cpu, void *result)
{
	struct current_endings *r = result;
	u64 value;

	r->read_before = ended(probe_vmread(GUEST_RIP, &value));
	r->write_before = ended(probe_vmwrite(GUEST_RIP, 0));
	vmx_load(cpu->vmcs[0]);
	r->read = ended(probe_vmread(GUEST_RIP, &value));
	probe_vmclear(cpu->vmcs[1]);
	r->read_after_other = ended(probe_vmread(GUEST_RIP, &value));
	probe_vmclear(cpu->vmcs[0]);
	r->read_after_clear = ended(probe_vmread(GUEST_RIP, &value));
}

/* VMCLEAR of the current VMCS leaves none; VMCLEAR of another one does not matter. */
static void access_without_current_vmcs(struct kunit *test)
{
	struct current_endings r = {};

	vmx_run(test, use_current, &r);
	EXPECT_ENDING(test, r.read_before, PROBE_FAIL_INVALID, 0);
	EXPECT_ENDING(test, r.write_before, PROBE_FAIL_INVALID, 0);
	EXPECT_ENDING(test, r.read, PROBE_OK, 0);
	EXPECT_ENDING(test, r.read_after_other, PROBE_OK, 0);
	EXPECT_ENDING(test, r.read_after_clear, PROBE_FAIL_INVALID, 0);
}

static void write_all(struct vmx_cpu *cpu, void *unused)
{
	int i;

	for (i = 0; i < VMX_PAGES; i++) {
		vmx_load(cpu->vmcs[i]);
		probe_vmwrite(GUEST_RIP, 0x1000 + i);
	}
}

static void read_all(struct vmx_cpu *cpu, void *values)
{
	int i;

	for (i = VMX_PAGES - 1; i >= 0; i--) {
		probe_vmptrld(cpu->vmcs[i]);
		probe_vmread(GUEST_RIP, (u64 *)values + i);
	}
}

/* VMXOFF and VMXON come between the two: VMCLEAR has put everything into memory. */
static void each_vmcs_keeps_its_own(struct kunit *test)
{
	u64 values[VMX_PAGES] = {};
	int i;

	vmx_run(test, write_all, NULL);
	vmx_run(test, read_all, values);
	for (i = 0; i < VMX_PAGES; i++)
		KUNIT_EXPECT_EQ(test, values[i], 0x1000ull + i);
}

/* ---- Launch state -------------------------------------------------------------------------------------------------- */

static void resume_cleared(struct vmx_cpu *cpu, void *result)
{
	struct ending *r = result;

	r[0] = ended(probe_vmresume());
	r[1] = ended(probe_vmlaunch());
	vmx_load(cpu->vmcs[0]);
	r[2] = ended(probe_vmresume());
}

static void cleared_vmcs_is_not_launched(struct kunit *test)
{
	struct ending r[3] = {};

	vmx_run(test, resume_cleared, r);
	EXPECT_ENDING(test, r[0], PROBE_FAIL_INVALID, 0);
	EXPECT_ENDING(test, r[1], PROBE_FAIL_INVALID, 0);
	EXPECT_ENDING(test, r[2], PROBE_FAIL_VALID, RESUME_OF_NON_LAUNCHED);
}

/* ---- Another CPU --------------------------------------------------------------------------------------------------- */

struct elsewhere {
	struct vmx_cpu *cpu;
	u64 value;
	u32 on, load, off;
	bool taken;
};

/* Runs as an inter-processor interrupt. */
static void read_elsewhere(void *argument)
{
	struct elsewhere *e = argument;

	e->taken = __read_cr4() & X86_CR4_VMXE;
	if (e->taken)
		return;
	cr4_set_bits(X86_CR4_VMXE);
	e->on = probe_vmxon(e->cpu->region);
	if (e->on == PROBE_OK) {
		e->load = probe_vmptrld(e->cpu->vmcs[0]);
		probe_vmread(GUEST_RIP, &e->value);
		probe_vmclear(e->cpu->vmcs[0]);
		e->off = probe_vmxoff();
	}
	cr4_clear_bits(X86_CR4_VMXE);
}

static void vmcs_moves_to_another_cpu(struct kunit *test)
{
	struct elsewhere e = { .cpu = test->priv };
	int cpu, visited = 0;

	vmx_run(test, write_all, NULL);
	for_each_online_cpu(cpu) {
		e.value = 0;
		e.on = e.load = e.off = PROBE_FAULTED;
		KUNIT_ASSERT_EQ(test, smp_call_function_single(cpu, read_elsewhere, &e, 1), 0);
		KUNIT_ASSERT_FALSE_MSG(test, e.taken,
				       "CR4.VMXE is set on CPU %d: another hypervisor has VMX",
				       cpu);
		KUNIT_EXPECT_EQ_MSG(test, e.on, (u32)PROBE_OK, "VMXON on CPU %d", cpu);
		KUNIT_EXPECT_EQ_MSG(test, e.load, (u32)PROBE_OK, "VMPTRLD on CPU %d", cpu);
		KUNIT_EXPECT_EQ_MSG(test, e.off, (u32)PROBE_OK, "VMXOFF on CPU %d", cpu);
		KUNIT_EXPECT_EQ_MSG(test, e.value, 0x1000ull, "CPU %d", cpu);
		visited++;
	}
	KUNIT_EXPECT_EQ(test, visited, (int)num_online_cpus());
}

static struct kunit_case vmx_cases[] = { KUNIT_CASE(faults_are_recovered),
					 KUNIT_CASE(faults_again_after_vmxoff),
					 KUNIT_CASE(vmxon_in_vmx_operation),
					 KUNIT_CASE(wrong_revision),
					 KUNIT_CASE(bad_pointers),
					 KUNIT_CASE(access_without_current_vmcs),
					 KUNIT_CASE(each_vmcs_keeps_its_own),
					 KUNIT_CASE(cleared_vmcs_is_not_launched),
					 KUNIT_CASE(vmcs_moves_to_another_cpu),
					 {} };

static struct kunit_suite vmx_suite = {
	.name = "minivmx_vmx",
	.init = vmx_cpu_init,
	.exit = vmx_cpu_exit,
	.test_cases = vmx_cases,
};
kunit_test_suite(vmx_suite);

MODULE_DESCRIPTION("KUnit tests of minivmx's core");
MODULE_LICENSE("GPL");
