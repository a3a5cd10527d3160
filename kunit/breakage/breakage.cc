// SPDX-License-Identifier: GPL-2.0-only
// Breaks a VM entry: writes fields of the VMCS right before it, and puts back what was there right
// after it. One vCPU at a time can be broken; included by core.cc in the test build.
#include <minivmx/arch.hpp>
#include <minivmx/audit.hpp>
#include <minivmx/breakage.hpp>
#include <minivmx/vcpu.hpp>

#include "core.h"

namespace minivmx::breakage
{

namespace
{

enum class State : u8 { kNone, kSet, kBroken, kDone };

struct Breaker {
	State state;
	const core_vcpu *vcpu;
	minivmx_breakage wanted;
	u64 before[MINIVMX_BREAK_WRITES];
	u8 *page; // what MINIVMX_BREAK_PAGE means
	minivmx_breakage_result result;
};

constinit Breaker breaker{};

// ----- Writing and putting back ------------------------------------------------------------------

u64 read(vcpu_vmx &vmx, u32 field)
{
	if (field == MINIVMX_BREAK_LAUNCHED)
		return vmx.area->launched;
	u64 value = 0;
	return arch::vmread(field, value) == arch::Vmx::kOk ? value : 0;
}

void write(vcpu_vmx &vmx, u32 field, u64 value)
{
	if (field == MINIVMX_BREAK_LAUNCHED)
		vmx.area->launched = static_cast<u32>(value);
	else
		(void)arch::vmwrite(field, value);
}

u64 broken_value(const vcpu_vmx &vmx, const minivmx_break_write &write, u64 before)
{
	switch (write.op) {
	case MINIVMX_BREAK_BITS_ON:
		return before | write.value;
	case MINIVMX_BREAK_BITS_OFF:
		return before & ~write.value;
	case MINIVMX_BREAK_PAGE:
		return host_page_phys(breaker.page) + write.value;
	case MINIVMX_BREAK_VMCS:
		return vmx.vmcs01.phys + write.value;
	default:
		return write.value;
	}
}

void write_all(vcpu_vmx &vmx)
{
	for (u32 i = 0; i < breaker.wanted.count; i++) {
		const minivmx_break_write &wanted = breaker.wanted.writes[i];
		breaker.before[i] = read(vmx, wanted.field);
		write(vmx, wanted.field, broken_value(vmx, wanted, breaker.before[i]));
	}
}

// The other way round, since a field may have been written twice.
void put_back(vcpu_vmx &vmx)
{
	for (u32 i = breaker.wanted.count; i-- > 0;)
		write(vmx, breaker.wanted.writes[i].field, breaker.before[i]);
}

// For the emulator's log: it complains of an MSR that no CPU has.
void leave_mark()
{
	u64 value;
	const bool there = arch::rdmsr_safe(MINIVMX_BREAK_MARK_MSR + breaker.wanted.mark, value);
	// Nobody wants the value, and nothing may be left out for that.
	asm volatile("" : : "r"(there), "r"(value));
}

// ----- What must not be entered ------------------------------------------------------------------

// Whether a VM exit would come back with something broken: host state, the controls of VM exits and
// the MSRs that they store and load.
bool reaches_the_host(u32 field)
{
	return (field != MINIVMX_BREAK_LAUNCHED && vmcs_kind(field) == VmcsKind::kHost) ||
	       field == VM_EXIT_CONTROLS.encoding || field == VM_EXIT_MSR_LOAD_COUNT.encoding ||
	       field == VM_EXIT_MSR_LOAD_ADDR.encoding ||
	       field == VM_EXIT_MSR_STORE_COUNT.encoding ||
	       field == VM_EXIT_MSR_STORE_ADDR.encoding;
}

bool may_reach_the_host()
{
	for (u32 i = 0; i < breaker.wanted.count; i++)
		if (reaches_the_host(breaker.wanted.writes[i].field))
			return true;
	return false;
}

bool read_page(void *, u64 address, void *bytes, usize size)
{
	const u64 offset = address - host_page_phys(breaker.page);
	if (offset >= kPageSize || size > kPageSize - offset)
		return false;
	__builtin_memcpy(bytes, breaker.page + offset, size);
	return true;
}

void audit_before(const vcpu_vmx &vmx)
{
	AuditSource source = audit_current_vmcs();
	source.memory = read_page;
	source.vmcs_address = vmx.vmcs01.phys;
	const AuditSummary summary = audit_vmcs(source, {});
	breaker.result.violated = summary.violated;
	breaker.result.not_checkable = summary.not_checkable;
}

// ----- The ioctls --------------------------------------------------------------------------------

bool valid(const minivmx_breakage &breakage)
{
	if (breakage.count > MINIVMX_BREAK_WRITES || breakage.mark > 0xffff ||
	    breakage.must_fail > 1 || breakage.pad)
		return false;
	for (u32 i = 0; i < breakage.count; i++)
		if (breakage.writes[i].op > MINIVMX_BREAK_VMCS)
			return false;
	return true;
}

void end()
{
	host_page_free(breaker.page);
	breaker = {};
}

int set(vcpu_vmx &vmx, const minivmx_breakage &breakage)
{
	if (!valid(breakage))
		return -EINVAL;
	if (breaker.state != State::kNone && breaker.vcpu != &vmx)
		return -EBUSY;
	if (!breaker.page)
		breaker.page = static_cast<u8 *>(host_page_alloc());
	if (!breaker.page)
		return -ENOMEM;
	__builtin_memset(breaker.page, 0, kPageSize);
	__builtin_memcpy(breaker.page, breakage.page, sizeof(breakage.page));
	breaker.wanted = breakage;
	breaker.result = {};
	breaker.vcpu = &vmx;
	breaker.state = State::kSet;
	return 0;
}

} // namespace

} // namespace minivmx::breakage

namespace minivmx
{

using breakage::breaker;
using breakage::State;

void break_entry(vcpu_vmx &vmx)
{
	if (breaker.state != State::kSet || breaker.vcpu != &vmx)
		return;
	breakage::leave_mark();
	breakage::write_all(vmx);
	breaker.state = State::kBroken;
	breakage::audit_before(vmx);
	const bool expected = (breaker.result.violated != 0) == (breaker.wanted.must_fail != 0);
	if (breakage::may_reach_the_host() && !expected) {
		breaker.result.refused = 1;
		breakage::put_back(vmx);
		breaker.state = State::kDone;
	}
}

bool read_breakage_page(u64 address, void *bytes, usize size)
{
	return breaker.page && breakage::read_page(nullptr, address, bytes, size);
}

void mend_entry(vcpu_vmx &vmx)
{
	if (breaker.state != State::kBroken || breaker.vcpu != &vmx)
		return;
	const bool failed = vmx.exit_reason & kExitReasonFailedEntry;
	breakage::put_back(vmx);
	if (!failed && breaker.wanted.count)
		vmx.area->launched = 1;
	breaker.result.entered = failed ? 2 : 1;
	breaker.state = State::kDone;
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_breakage_set(core_vcpu *vcpu, const minivmx_breakage *wanted)
{
	return breakage::set(to_vmx(vcpu), *wanted);
}

int core_breakage_result(core_vcpu *vcpu, minivmx_breakage_result *result)
{
	if (breaker.vcpu != vcpu)
		return -ENOENT;
	*result = breaker.result;
	breakage::end();
	return 0;
}

} // extern "C"
