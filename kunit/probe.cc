// SPDX-License-Identifier: GPL-2.0-only
// The module's only C++ object: the core's own code behind functions that C can call.
#include "../src/core/capability/controls.cc"
#include "../src/core/capability/errata.cc"
#include "../src/core/capability/host_desc.cc"
#include "../src/core/capability/rules.cc"
#include "../src/core/capability/setup_vmcs_config.cc"
#include "../src/core/capability/vmx_msr.cc"

#include <minivmx/arch.hpp>
#include <minivmx/vmcs_field.hpp>

#include "probe.h"

using namespace minivmx;

namespace
{

static_assert(static_cast<u32>(arch::Vmx::kOk) == PROBE_OK);
static_assert(static_cast<u32>(arch::Vmx::kFailInvalid) == PROBE_FAIL_INVALID);
static_assert(static_cast<u32>(arch::Vmx::kFailValid) == PROBE_FAIL_VALID);
static_assert(static_cast<u32>(arch::Vmx::kFaulted) == PROBE_FAULTED);
static_assert(static_cast<u32>(VmcsWidth::kNatural) == PROBE_NATURAL &&
	      static_cast<u32>(VmcsWidth::k64) == PROBE_64);
static_assert(static_cast<u32>(VmcsKind::kHost) == PROBE_HOST &&
	      static_cast<u32>(VmcsKind::kGuest) == PROBE_GUEST);

constexpr probe_field kFields[] = {
#define FIELD(width, name, number)                                                                 \
	{ #name, number, static_cast<u32>(vmcs_width(number)),                                     \
	  static_cast<u32>(vmcs_kind(number)) },
	MINIVMX_VMCS_FIELDS(FIELD)
#undef FIELD
};

host_u32 number(arch::Vmx outcome)
{
	return static_cast<host_u32>(outcome);
}

} // namespace

extern "C" {

host_u32 probe_vmxon(host_u64 region)
{
	return number(arch::vmxon(region));
}

host_u32 probe_vmxoff(void)
{
	return number(arch::vmxoff());
}

host_u32 probe_vmclear(host_u64 vmcs)
{
	return number(arch::vmclear(vmcs));
}

host_u32 probe_vmptrld(host_u64 vmcs)
{
	return number(arch::vmptrld(vmcs));
}

host_u32 probe_vmread(host_u32 field, host_u64 *value)
{
	return number(arch::vmread(field, *value));
}

host_u32 probe_vmwrite(host_u32 field, host_u64 value)
{
	return number(arch::vmwrite(field, value));
}

host_u32 probe_vmlaunch(void)
{
	bool invalid, valid;
	asm volatile("vmlaunch" : "=@ccc"(invalid), "=@ccz"(valid) : : "memory");
	return invalid ? PROBE_FAIL_INVALID : valid ? PROBE_FAIL_VALID : PROBE_OK;
}

host_u32 probe_vmresume(void)
{
	bool invalid, valid;
	asm volatile("vmresume" : "=@ccc"(invalid), "=@ccz"(valid) : : "memory");
	return invalid ? PROBE_FAIL_INVALID : valid ? PROBE_FAIL_VALID : PROBE_OK;
}

bool probe_rdmsr_safe(host_u32 msr, host_u64 *value)
{
	return arch::rdmsr_safe(msr, *value);
}

bool probe_wrmsr_safe(host_u32 msr, host_u64 value)
{
	return arch::wrmsr_safe(msr, value);
}

const probe_field *probe_field_at(host_u32 index)
{
	return index < sizeof(kFields) / sizeof(kFields[0]) ? &kFields[index] : nullptr;
}

int probe_setup_vmcs_config(probe_config *config)
{
	HostDesc host;
	describe_cpu(this_cpu_msr_reader(), host);

	vmcs_config found;
	vmx_capability capability;
	SetupLog log;
	Status status = setup_vmcs_config(host, default_parameters(), found, capability, log);

	*config = {};
	config->revision = found.revision_id;
	config->size = found.size;
	config->order = found.order;
	config->pin = found.pin_based_exec_ctrl;
	config->primary = found.cpu_based_exec_ctrl;
	config->secondary = found.cpu_based_2nd_exec_ctrl;
	config->exit = found.vmexit_ctrl;
	config->entry = found.vmentry_ctrl;
	if (status.failed()) {
		const char *why = status.why();
		for (usize i = 0; why && why[i] && i + 1 < sizeof(config->why); i++)
			config->why[i] = why[i];
	}
	return status.code();
}

} // extern "C"
