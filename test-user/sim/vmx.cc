// SPDX-License-Identifier: GPL-2.0-only
//
// The CPU's side of arch.hpp: VMX instructions as in SDM Vol. 3C, chapter 31, MSRs, CPUID.
#include "machine.hpp"
#include "vmcs_fields.hpp"

#include <cstring>

namespace minivmx {

using arch::Vmx;
using sim::Machine;

namespace {

// VM-instruction error numbers. SDM Vol. 3C, 31.4.
enum : u32 {
    kVmclearAddress = 2,
    kVmclearVmxonPointer = 3,
    kVmptrldAddress = 9,
    kVmptrldVmxonPointer = 10,
    kVmptrldRevision = 11,
    kUnsupportedField = 12,
    kReadOnlyField = 13,
    kInvalidOperand = 28,
};
constexpr u32 kInstructionErrorField = 0x4400;

sim::Cpu &this_cpu()
{
    Machine &m = Machine::current();
    return m.cpus[m.this_cpu];
}

/// VMfail: with a current VMCS the error number goes there, otherwise nobody learns it.
Vmx vmfail(u32 error)
{
    Machine &m = Machine::current();
    const auto current = m.vmcs.find(this_cpu().current);
    if (current == m.vmcs.end())
        return Vmx::kFailInvalid;
    current->second.fields[kInstructionErrorField] = error;
    return Vmx::kFailValid;
}

/// A failure that a test asked for.
bool injected(const char *instruction, Vmx *outcome)
{
    Machine &m = Machine::current();
    const auto found = m.fail.find(instruction);
    if (found == m.fail.end())
        return false;
    *outcome = found->second;
    return true;
}

bool address_ok(u64 phys)
{
    const Machine &m = Machine::current();
    return (phys & 0xfff) == 0 && phys >> m.host_info.maxphyaddr == 0;
}

u32 first_word_of(u64 phys, bool *exists)
{
    const Machine &m = Machine::current();
    const auto page = m.pages_by_phys.find(phys);
    *exists = page != m.pages_by_phys.end();
    u32 word = 0;
    if (*exists)
        std::memcpy(&word, page->second, sizeof(word));
    return word;
}

u32 revision()
{
    return VmxBasic{Machine::current().msr[MSR_IA32_VMX_BASIC]}.revision();
}

} // namespace

Vmx arch::vmxon(u64 region_phys)
{
    Vmx outcome;
    if (injected("vmxon", &outcome))
        return outcome;
    Machine &m = Machine::current();
    const FeatureControl control{m.msr[MSR_IA32_FEATURE_CONTROL]};
    if (!control.locked() || !control.vmx_outside_smx())
        return Vmx::kFaulted;
    sim::Cpu &cpu = this_cpu();
    bool exists = false;
    if (cpu.in_vmx)
        return vmfail(15);
    if (!address_ok(region_phys) || first_word_of(region_phys, &exists) != revision() || !exists)
        return Vmx::kFailInvalid;
    cpu.in_vmx = true;
    cpu.vmxon_region = region_phys;
    cpu.current = ~u64{0};
    return Vmx::kOk;
}

Vmx arch::vmxoff()
{
    Machine &m = Machine::current();
    sim::Cpu &cpu = this_cpu();
    if (!cpu.in_vmx)
        return Vmx::kFaulted;
    for (auto &[phys, v] : m.vmcs) {
        if (v.active_on == static_cast<int>(m.this_cpu))
            m.violation("VMXOFF while a VMCS is active on this CPU");
    }
    cpu.in_vmx = false;
    cpu.current = ~u64{0};
    return Vmx::kOk;
}

Vmx arch::vmclear(u64 vmcs_phys)
{
    Vmx outcome;
    if (injected("vmclear", &outcome))
        return outcome;
    Machine &m = Machine::current();
    sim::Cpu &cpu = this_cpu();
    if (!cpu.in_vmx)
        return Vmx::kFaulted;
    if (!address_ok(vmcs_phys))
        return vmfail(kVmclearAddress);
    if (vmcs_phys == cpu.vmxon_region)
        return vmfail(kVmclearVmxonPointer);
    sim::Vmcs &v = m.vmcs[vmcs_phys];
    if (v.active_on >= 0 && v.active_on != static_cast<int>(m.this_cpu))
        m.violation("VMCLEAR of a VMCS that is active on another CPU");
    v.active_on = -1;
    if (cpu.current == vmcs_phys)
        cpu.current = ~u64{0};
    return Vmx::kOk;
}

Vmx arch::vmptrld(u64 vmcs_phys)
{
    Vmx outcome;
    if (injected("vmptrld", &outcome))
        return outcome;
    Machine &m = Machine::current();
    sim::Cpu &cpu = this_cpu();
    if (!cpu.in_vmx)
        return Vmx::kFaulted;
    if (!address_ok(vmcs_phys))
        return vmfail(kVmptrldAddress);
    if (vmcs_phys == cpu.vmxon_region)
        return vmfail(kVmptrldVmxonPointer);
    bool exists = false;
    if (first_word_of(vmcs_phys, &exists) != revision() || !exists)
        return vmfail(kVmptrldRevision);
    sim::Vmcs &v = m.vmcs[vmcs_phys];
    if (v.active_on >= 0 && v.active_on != static_cast<int>(m.this_cpu))
        m.violation("VMPTRLD of a VMCS that is active on another CPU");
    v.active_on = static_cast<int>(m.this_cpu);
    cpu.current = vmcs_phys;
    return Vmx::kOk;
}

Vmx arch::vmread(u32 field, u64 &value)
{
    value = 0;
    Machine &m = Machine::current();
    sim::Cpu &cpu = this_cpu();
    if (!cpu.in_vmx)
        return Vmx::kFaulted;
    m.vmreads++;
    const auto current = m.vmcs.find(cpu.current);
    if (current == m.vmcs.end())
        return Vmx::kFailInvalid;
    if (!sim::field_exists(field, m.vmx_msrs()))
        return vmfail(kUnsupportedField);
    const u64 full = current->second.fields[field & ~1u];
    value = (field & 1) != 0 ? full >> 32 : full;
    return Vmx::kOk;
}

Vmx arch::vmwrite(u32 field, u64 value)
{
    Machine &m = Machine::current();
    sim::Cpu &cpu = this_cpu();
    if (!cpu.in_vmx)
        return Vmx::kFaulted;
    const auto current = m.vmcs.find(cpu.current);
    if (current == m.vmcs.end())
        return Vmx::kFailInvalid;
    const VmxMsrs msrs = m.vmx_msrs();
    if (!sim::field_exists(field, msrs))
        return vmfail(kUnsupportedField);
    if (!sim::field_writable(field, msrs))
        return vmfail(kReadOnlyField);
    const u64 kept = sim::truncate_to_field(field, value);
    u64 &full = current->second.fields[field & ~1u];
    full = (field & 1) != 0 ? (full & 0xffffffff) | kept << 32 : kept;
    m.vmwrites.push_back(sim::FieldWrite{field, kept});
    return Vmx::kOk;
}

bool arch::vmread_succeeds(u32 field, u64 &value)
{
    return vmread(field, value) == Vmx::kOk;
}

bool arch::vmwrite_succeeds(u32 field, u64 value)
{
    return vmwrite(field, value) == Vmx::kOk;
}

Vmx arch::invept(u64 type, const InveptDescriptor &)
{
    Machine &m = Machine::current();
    if (!this_cpu().in_vmx)
        return Vmx::kFaulted;
    const EptCapability cap{static_cast<u32>(m.msr[MSR_IA32_VMX_EPT_VPID_CAP])};
    if (!cap.invept())
        return Vmx::kFaulted;
    m.invalidations++;
    if ((type == 1 && cap.invept_single()) || (type == 2 && cap.invept_all()))
        return Vmx::kOk;
    return vmfail(kInvalidOperand);
}

Vmx arch::invvpid(u64 type, const InvvpidDescriptor &descriptor)
{
    Machine &m = Machine::current();
    if (!this_cpu().in_vmx)
        return Vmx::kFaulted;
    const VpidCapability cap{static_cast<u32>(m.msr[MSR_IA32_VMX_EPT_VPID_CAP] >> 32)};
    if (!cap.invvpid())
        return Vmx::kFaulted;
    m.invalidations++;
    m.invvpids++;
    const bool supported =
        (type == 0 && cap.invvpid_address()) || (type == 1 && cap.invvpid_single()) ||
        (type == 2 && cap.invvpid_all()) || (type == 3 && cap.invvpid_single_retaining_globals());
    const bool vpid_ok = type == 2 || (descriptor.vpid != 0 && descriptor.vpid >> 16 == 0);
    if (!supported || !vpid_ok)
        return vmfail(kInvalidOperand);
    if (m.on_invvpid)
        m.on_invvpid(type, descriptor.vpid, descriptor.linear_address);
    return Vmx::kOk;
}

bool arch::rdmsr_safe(u32 msr, u64 &value)
{
    const Machine &m = Machine::current();
    const auto found = m.msr.find(msr);
    value = found == m.msr.end() ? 0 : found->second;
    return found != m.msr.end();
}

bool arch::wrmsr_safe(u32 msr, u64 value)
{
    Machine &m = Machine::current();
    const auto found = m.msr.find(msr);
    if (found == m.msr.end() || (msr >= kFirstVmxMsr && msr <= kLastVmxMsr))
        return false;
    found->second = value;
    m.wrmsr_log.emplace_back(msr, value);
    return true;
}

u64 arch::rdtsc()
{
    return Machine::current().tsc++;
}

arch::CpuidResult arch::cpuid(u32 leaf, u32 subleaf)
{
    const Machine &m = Machine::current();
    const auto found = m.cpuid.find({leaf, subleaf});
    return found == m.cpuid.end() ? CpuidResult{} : found->second;
}

bool arch::rdrand(u64 &value)
{
    const Machine &m = Machine::current();
    value = m.random_number;
    return m.random_ready;
}

bool arch::rdseed(u64 &value)
{
    return rdrand(value);
}

void arch::xsetbv(u32 index, u64 value)
{
    if (index == 0)
        sim::Machine::current().xcr0 = value;
}

} // namespace minivmx
