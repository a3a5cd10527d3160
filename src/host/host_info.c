// SPDX-License-Identifier: GPL-2.0-only
/* The host's CPU and kernel, described for the core. */
#include <linux/cpu.h>
#include <linux/string.h>
#include <asm/cpufeature.h>
#include <asm/fpu/xcr.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/tsc.h>

#include <minivmx/host.h>

#include "compat.h"
#include "host_info.h"
#include "world.h"

static const enum cpuid_leafs kernel_word[HOST_FEATURE_WORDS] = {
	[HOST_FEATURES_1_ECX] = CPUID_1_ECX,
	[HOST_FEATURES_1_EDX] = CPUID_1_EDX,
	[HOST_FEATURES_7_EBX] = CPUID_7_0_EBX,
	[HOST_FEATURES_7_ECX] = CPUID_7_ECX,
	[HOST_FEATURES_7_EDX] = CPUID_7_EDX,
	[HOST_FEATURES_7_1_EAX] = CPUID_7_1_EAX,
	[HOST_FEATURES_D_1_EAX] = CPUID_D_1_EAX,
	[HOST_FEATURES_80000001_ECX] = CPUID_8000_0001_ECX,
	[HOST_FEATURES_80000001_EDX] = CPUID_8000_0001_EDX,
	[HOST_FEATURES_80000008_EBX] = CPUID_8000_0008_EBX,
};

static u32 host_bugs(const struct core_params *params)
{
	u32 bugs = 0;

	if (boot_cpu_has_bug(X86_BUG_CPU_MELTDOWN))
		bugs |= HOST_BUG_MELTDOWN;
	if (boot_cpu_has_bug(X86_BUG_SPEC_STORE_BYPASS))
		bugs |= HOST_BUG_SPEC_STORE_BYPASS;
	if (boot_cpu_has_bug(X86_BUG_MDS))
		bugs |= HOST_BUG_MDS;
	if (boot_cpu_has_bug(X86_BUG_TAA))
		bugs |= HOST_BUG_TAA;
	if (boot_cpu_has_bug(X86_BUG_RFDS))
		bugs |= HOST_BUG_RFDS;
	if (boot_cpu_has_bug(X86_BUG_ITS))
		bugs |= HOST_BUG_ITS;
	if (boot_cpu_has_bug(X86_BUG_GDS) && !gds_ucode_mitigated())
		bugs |= HOST_BUG_GDS;
	if (boot_cpu_has_bug(X86_BUG_MONITOR))
		bugs |= HOST_BUG_MONITOR;
	if (!l1d_flushes(params->ept))
		bugs |= HOST_BUG_L1D_NOT_FLUSHED;
	return bugs;
}

/*
 * kvm_intel's rule: nothing is lost where the erratum is not, or where the user turned mitigations
 * off.
 */
static bool want_nx_huge_pages(void)
{
	return boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) && !cpu_mitigations_off();
}

void describe_host(struct core_host_info *info, const struct core_params *params)
{
	u64 value;
	int i;

	memset(info, 0, sizeof(*info));
	info->family = boot_cpu_data.x86;
	info->model = boot_cpu_data.x86_model;
	info->stepping = boot_cpu_data.x86_stepping;
	info->has_sgx = cpuid_eax(0) >= 0x12 && (cpuid_eax(0x12) & BIT(0));
	info->has_arat = boot_cpu_has(X86_FEATURE_ARAT);
	info->uses_vmx = boot_cpu_has(X86_FEATURE_VMX);
	info->nx_huge_pages = want_nx_huge_pages();
	/* We use plain VMCSs wherever we run, so enlightened ones need not be thought of. */
	info->hyperv_evmcs = false;
	info->tsc_khz = tsc_khz;
	info->maxphyaddr = boot_cpu_data.x86_phys_bits;
	if (boot_cpu_has(X86_FEATURE_OSXSAVE))
		info->xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES) && !rdmsrl_safe(MSR_IA32_XSS, &value))
		info->xss = value;
	if (!rdmsrl_safe(MSR_EFER, &value))
		info->efer = value;
	info->cr4 = __read_cr4();
	for (i = 0; i < HOST_FEATURE_WORDS; i++)
		info->features[i] = boot_cpu_data.x86_capability[kernel_word[i]];
	info->bugs = host_bugs(params);
	strscpy(info->cpu_name, boot_cpu_data.x86_model_id, sizeof(info->cpu_name));
}
