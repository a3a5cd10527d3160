// SPDX-License-Identifier: GPL-2.0-only
/* VMREAD and VMWRITE of every field the core knows. SDM Vol. 3C, 25.11.2, and Vol. 3D, Appendix B. */
#include <linux/slab.h>
#include <asm/msr.h>
#include <asm/vmx.h>

#include "vmx_cpu.h"

/* SDM Vol. 3C, 31.4 "VM Instruction Error Numbers". */
enum { UNSUPPORTED_FIELD = 12, READ_ONLY_FIELD = 13 };

enum { MAX_FIELDS = 256 };

struct access {
	u32 write, write_error;
	u32 read, read_error;
	u64 value;
};

struct field_class {
	const char *name;
	u32 width, kind;
	bool on_every_cpu; /* at least one field of the class is on every CPU with VMX */
};

static const struct field_class writable_classes[] = {
	{ "16-bit control fields", PROBE_16, PROBE_CONTROL, false },
	{ "16-bit guest fields", PROBE_16, PROBE_GUEST, true },
	{ "16-bit host fields", PROBE_16, PROBE_HOST, true },
	{ "32-bit control fields", PROBE_32, PROBE_CONTROL, true },
	{ "32-bit guest fields", PROBE_32, PROBE_GUEST, true },
	{ "32-bit host fields", PROBE_32, PROBE_HOST, true },
	{ "64-bit control fields", PROBE_64, PROBE_CONTROL, true },
	{ "64-bit guest fields", PROBE_64, PROBE_GUEST, true },
	{ "64-bit host fields", PROBE_64, PROBE_HOST, false },
	{ "natural-width control fields", PROBE_NATURAL, PROBE_CONTROL, true },
	{ "natural-width guest fields", PROBE_NATURAL, PROBE_GUEST, true },
	{ "natural-width host fields", PROBE_NATURAL, PROBE_HOST, true },
};

static const struct field_class read_only_classes[] = {
	{ "32-bit exit information", PROBE_32, PROBE_EXIT_INFO, true },
	{ "64-bit exit information", PROBE_64, PROBE_EXIT_INFO, false },
	{ "natural-width exit information", PROBE_NATURAL, PROBE_EXIT_INFO, true },
};

static void describe_class(const struct field_class *class, char *text)
{
	strscpy(text, class->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(writable, writable_classes, describe_class);
KUNIT_ARRAY_PARAM(read_only, read_only_classes, describe_class);

static bool in_class(const struct probe_field *field, const struct field_class *class)
{
	return field->width == class->width && field->kind == class->kind;
}

/* What a field of this width keeps of 64 bits. */
static u64 width_mask(const struct probe_field *field)
{
	/* Processors may drop the reserved bits of access rights (SDM Vol. 3C, 25.4.1, table 25-2). */
	if (field->encoding >= GUEST_ES_AR_BYTES && field->encoding <= GUEST_TR_AR_BYTES)
		return 0x1f0ff;
	return field->width == PROBE_16 ? 0xffff : field->width == PROBE_32 ? 0xffffffff : ~0ull;
}

/* Another value for each field, so that two that share their place in the VMCS are seen. */
static u64 pattern(u32 index)
{
	return 0xa5c3f00dbeef0421ull + index * 0x0101010101010101ull;
}

static u32 error_of(u32 outcome)
{
	return outcome == PROBE_FAIL_VALID ? vmx_error() : 0;
}

/* Writes all, then reads all. */
static void access_all(struct vmx_cpu *cpu, void *result)
{
	const struct probe_field *field;
	struct access *access = result;
	u32 i;

	vmx_load(cpu->vmcs[0]);
	for (i = 0; i < MAX_FIELDS && (field = probe_field_at(i)); i++) {
		access[i].write = probe_vmwrite(field->encoding, pattern(i));
		access[i].write_error = error_of(access[i].write);
	}
	for (i = 0; i < MAX_FIELDS && (field = probe_field_at(i)); i++) {
		access[i].read = probe_vmread(field->encoding, &access[i].value);
		access[i].read_error = error_of(access[i].read);
	}
}

static struct access *accesses(struct kunit *test)
{
	struct access *access = kunit_kcalloc(test, MAX_FIELDS, sizeof(*access), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, access);
	KUNIT_ASSERT_PTR_EQ_MSG(test, probe_field_at(MAX_FIELDS), NULL,
				"more fields than MAX_FIELDS");
	vmx_run(test, access_all, access);
	return access;
}

static void expect_unsupported(struct kunit *test, const struct probe_field *field,
			       const struct access *access)
{
	KUNIT_EXPECT_EQ_MSG(test, access->write, (u32)PROBE_FAIL_VALID, "VMWRITE %s", field->name);
	KUNIT_EXPECT_EQ_MSG(test, access->write_error, (u32)UNSUPPORTED_FIELD, "VMWRITE %s",
			    field->name);
	KUNIT_EXPECT_EQ_MSG(test, access->read, (u32)PROBE_FAIL_VALID, "VMREAD %s", field->name);
	KUNIT_EXPECT_EQ_MSG(test, access->read_error, (u32)UNSUPPORTED_FIELD, "VMREAD %s",
			    field->name);
}

/* Each field keeps what was written, cut to its width; what this CPU lacks fails with error 12 both ways. */
static void fields_keep_what_is_written(struct kunit *test)
{
	const struct field_class *class = test->param_value;
	struct access *access = accesses(test);
	const struct probe_field *field;
	u32 i, kept = 0, fields = 0;

	for (i = 0; (field = probe_field_at(i)); i++) {
		if (!in_class(field, class))
			continue;
		fields++;
		if (access[i].write != PROBE_OK) {
			expect_unsupported(test, field, &access[i]);
			continue;
		}
		KUNIT_EXPECT_EQ_MSG(test, access[i].read, (u32)PROBE_OK, "VMREAD %s", field->name);
		KUNIT_EXPECT_EQ_MSG(test, access[i].value & width_mask(field),
				    pattern(i) & width_mask(field), "%s", field->name);
		if (field->width == PROBE_16 || field->width == PROBE_32)
			KUNIT_EXPECT_EQ_MSG(test,
					    access[i].value >> (field->width == PROBE_16 ? 16 : 32),
					    0ull, "%s is wider than it should be", field->name);
		kept++;
	}
	KUNIT_EXPECT_GT(test, fields, 0u);
	if (class->on_every_cpu)
		KUNIT_EXPECT_GT_MSG(test, kept, 0u, "no field of the class is there");
}

/* IA32_VMX_MISC[29] says whether VMWRITE may write them. */
static void exit_information_is_read_only(struct kunit *test)
{
	const struct field_class *class = test->param_value;
	struct access *access = accesses(test);
	const struct probe_field *field;
	u32 i, there = 0;
	u64 misc;

	rdmsrl(MSR_IA32_VMX_MISC, misc);
	for (i = 0; (field = probe_field_at(i)); i++) {
		if (!in_class(field, class))
			continue;
		if (access[i].read != PROBE_OK) {
			expect_unsupported(test, field, &access[i]);
			continue;
		}
		there++;
		if (misc & BIT_ULL(29)) {
			KUNIT_EXPECT_EQ_MSG(test, access[i].write, (u32)PROBE_OK, "VMWRITE %s",
					    field->name);
		} else {
			KUNIT_EXPECT_EQ_MSG(test, access[i].write, (u32)PROBE_FAIL_VALID,
					    "VMWRITE %s", field->name);
			KUNIT_EXPECT_EQ_MSG(test, access[i].write_error, (u32)READ_ONLY_FIELD,
					    "VMWRITE %s", field->name);
		}
	}
	if (class->on_every_cpu)
		KUNIT_EXPECT_GT_MSG(test, there, 0u, "no field of the class is there");
}

static const u32 no_field[] = { 0x00000ffe, 0x00002ffe, 0x00004ffe, 0x00006ffe, 0x00006bfe };

static void access_no_field(struct vmx_cpu *cpu, void *result)
{
	struct access *access = result;
	u32 i;

	vmx_load(cpu->vmcs[0]);
	for (i = 0; i < ARRAY_SIZE(no_field); i++) {
		access[i].value = 1;
		access[i].write = probe_vmwrite(no_field[i], 0);
		access[i].write_error = error_of(access[i].write);
		access[i].read = probe_vmread(no_field[i], &access[i].value);
		access[i].read_error = error_of(access[i].read);
	}
}

static void encodings_of_nothing_fail(struct kunit *test)
{
	struct access access[ARRAY_SIZE(no_field)] = {};
	struct probe_field field = { .name = "nothing" };
	u32 i;

	vmx_run(test, access_no_field, access);
	for (i = 0; i < ARRAY_SIZE(no_field); i++) {
		field.encoding = no_field[i];
		expect_unsupported(test, &field, &access[i]);
	}
}

struct halves {
	u64 whole, high, after_high_write;
};

static void access_halves(struct vmx_cpu *cpu, void *result)
{
	struct halves *h = result;

	vmx_load(cpu->vmcs[0]);
	probe_vmwrite(TSC_OFFSET, 0x1122334455667788ull);
	probe_vmread(TSC_OFFSET, &h->whole);
	probe_vmread(TSC_OFFSET_HIGH, &h->high);
	probe_vmwrite(TSC_OFFSET_HIGH, 0x99aabbccddeeff00ull);
	probe_vmread(TSC_OFFSET, &h->after_high_write);
}

/* The "high" access type: odd encodings are bits 63:32 of a 64-bit field. */
static void high_halves_of_64_bit_fields(struct kunit *test)
{
	struct halves h = {};

	vmx_run(test, access_halves, &h);
	KUNIT_EXPECT_EQ(test, h.whole, 0x1122334455667788ull);
	KUNIT_EXPECT_EQ(test, h.high, 0x11223344ull);
	KUNIT_EXPECT_EQ(test, h.after_high_write, 0xddeeff0055667788ull);
}

/* ---- Fields that come with a control ------------------------------------------------------------------------------- */

struct owned_field {
	const char *name;
	u32 encoding;
	u32 msr; /* its high half: the settings of control bits that may be 1 */
	u32 control;
};

#define OWNED(field, msr, control)                                                                 \
	{                                                                                          \
#field, field, msr, control                                                        \
	}
#define OWNED_PIN(field, control) OWNED(field, MSR_IA32_VMX_PINBASED_CTLS, control)
#define OWNED_PRIMARY(field, control) OWNED(field, MSR_IA32_VMX_PROCBASED_CTLS, control)
#define OWNED_SECONDARY(field, control) OWNED(field, MSR_IA32_VMX_PROCBASED_CTLS2, control)
#define OWNED_EXIT(field, control) OWNED(field, MSR_IA32_VMX_EXIT_CTLS, control)
#define OWNED_ENTRY(field, control) OWNED(field, MSR_IA32_VMX_ENTRY_CTLS, control)

/* "This field exists only on processors that support the 1-setting of ...": SDM Vol. 3D, Appendix B. */
static const struct owned_field owned_fields[] = {
	OWNED_PIN(VMX_PREEMPTION_TIMER_VALUE, PIN_BASED_VMX_PREEMPTION_TIMER),
	OWNED_PIN(POSTED_INTR_NV, PIN_BASED_POSTED_INTR),
	OWNED_PRIMARY(SECONDARY_VM_EXEC_CONTROL, CPU_BASED_ACTIVATE_SECONDARY_CONTROLS),
	OWNED_PRIMARY(MSR_BITMAP, CPU_BASED_USE_MSR_BITMAPS),
	OWNED_PRIMARY(TPR_THRESHOLD, CPU_BASED_TPR_SHADOW),
	OWNED_PRIMARY(VIRTUAL_APIC_PAGE_ADDR, CPU_BASED_TPR_SHADOW),
	OWNED_SECONDARY(APIC_ACCESS_ADDR, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES),
	OWNED_SECONDARY(EPT_POINTER, SECONDARY_EXEC_ENABLE_EPT),
	OWNED_SECONDARY(GUEST_PHYSICAL_ADDRESS, SECONDARY_EXEC_ENABLE_EPT),
	OWNED_SECONDARY(GUEST_PDPTR0, SECONDARY_EXEC_ENABLE_EPT),
	OWNED_SECONDARY(VIRTUAL_PROCESSOR_ID, SECONDARY_EXEC_ENABLE_VPID),
	OWNED_SECONDARY(PLE_GAP, SECONDARY_EXEC_PAUSE_LOOP_EXITING),
	OWNED_SECONDARY(GUEST_INTR_STATUS, SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY),
	OWNED_SECONDARY(VMREAD_BITMAP, SECONDARY_EXEC_SHADOW_VMCS),
	OWNED_SECONDARY(GUEST_PML_INDEX, SECONDARY_EXEC_ENABLE_PML),
	OWNED_SECONDARY(XSS_EXIT_BITMAP, SECONDARY_EXEC_XSAVES),
	OWNED_SECONDARY(TSC_MULTIPLIER, SECONDARY_EXEC_TSC_SCALING),
	OWNED_EXIT(HOST_IA32_PAT, VM_EXIT_LOAD_IA32_PAT),
	OWNED_EXIT(HOST_IA32_EFER, VM_EXIT_LOAD_IA32_EFER),
	OWNED_EXIT(HOST_IA32_PERF_GLOBAL_CTRL, VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL),
	OWNED_ENTRY(GUEST_IA32_PAT, VM_ENTRY_LOAD_IA32_PAT),
	OWNED_ENTRY(GUEST_IA32_EFER, VM_ENTRY_LOAD_IA32_EFER),
	OWNED_ENTRY(GUEST_BNDCFGS, VM_ENTRY_LOAD_BNDCFGS),
};

static void read_owned(struct vmx_cpu *cpu, void *result)
{
	u32 *outcomes = result;
	u64 value;
	u32 i;

	vmx_load(cpu->vmcs[0]);
	for (i = 0; i < ARRAY_SIZE(owned_fields); i++)
		outcomes[i] = probe_vmread(owned_fields[i].encoding, &value);
}

/* The other way round does not hold everywhere: an emulator may keep fields whose controls it lacks. */
static void controls_bring_their_fields(struct kunit *test)
{
	u32 outcomes[ARRAY_SIZE(owned_fields)] = {};
	const struct owned_field *field;
	u32 i, owned = 0;
	u64 settings;

	vmx_run(test, read_owned, outcomes);
	for (i = 0; i < ARRAY_SIZE(owned_fields); i++) {
		field = &owned_fields[i];
		/* Without secondary controls there is no MSR for them. */
		if (!probe_rdmsr_safe(field->msr, &settings) || !(settings >> 32 & field->control))
			continue;
		KUNIT_EXPECT_EQ_MSG(test, outcomes[i], (u32)PROBE_OK, "VMREAD %s", field->name);
		owned++;
	}
	KUNIT_EXPECT_GT(test, owned, 0u);
}

static struct kunit_case field_cases[] = {
	KUNIT_CASE_PARAM(fields_keep_what_is_written, writable_gen_params),
	KUNIT_CASE_PARAM(exit_information_is_read_only, read_only_gen_params),
	KUNIT_CASE(encodings_of_nothing_fail),
	KUNIT_CASE(high_halves_of_64_bit_fields),
	KUNIT_CASE(controls_bring_their_fields),
	{}
};

static struct kunit_suite field_suite = {
	.name = "minivmx_vmcs_fields",
	.init = vmx_cpu_init,
	.exit = vmx_cpu_exit,
	.test_cases = field_cases,
};
kunit_test_suite(field_suite);
