// SPDX-License-Identifier: GPL-2.0-only
//
// The VMCS and the CPU that this code runs on, as the audit sees them. In a file of its own: the
// tool has the audit, but neither of these.
#include <minivmx/arch.hpp>
#include <minivmx/audit.hpp>
#include <minivmx/hardware.hpp>

namespace minivmx {

namespace {

bool read_current_field(void *, u32 encoding, u64 *value)
{
    return arch::vmread(encoding, *value) == arch::Vmx::kOk;
}

/// The counters that IA32_PERF_GLOBAL_CTRL can enable. SDM Vol. 3B, 20.2.2.
u64 counters_of_this_cpu()
{
    const arch::CpuidResult leaf = arch::cpuid(0xa, 0);
    const u32 version = leaf.eax & 0xff;
    const u32 general = leaf.eax >> 8 & 0xff;
    const u32 fixed = version >= 2 ? leaf.edx & 0x1f : 0;
    if (version == 0 || general > 32)
        return 0;
    // Bit 48 is for the metrics that come with the fourth fixed counter.
    return (bit64(general) - 1) | (bit64(fixed) - 1) << 32 | (fixed > 3 ? bit64(48) : 0);
}

AuditHas known(bool has)
{
    return has ? AuditHas::kYes : AuditHas::kNo;
}

AuditFeatures features_of_this_cpu()
{
    AuditFeatures f;
    const u32 last = arch::cpuid(0, 0).eax;
    const arch::CpuidResult leaf7 = last >= 7 ? arch::cpuid(7, 0) : arch::CpuidResult{};
    const u32 leaf7_1 = leaf7.eax >= 1 ? arch::cpuid(7, 1).eax : 0;
    f.nx = known(hardware.host.has_nx);
    f.sgx = known((leaf7.ebx & bit32(2)) != 0);
    f.rtm = known((leaf7.ebx & bit32(11)) != 0);
    f.bus_lock = known((leaf7.ecx & bit32(24)) != 0);
    f.lam = known((leaf7_1 & bit32(26)) != 0);
    f.counters = AuditHas::kYes;
    f.perf_global_ctrl = last >= 0xa ? counters_of_this_cpu() : 0;
    return f;
}

} // namespace

AuditSource audit_current_vmcs()
{
    AuditSource source;
    source.field = read_current_field;
    source.cpu.msr = &hardware.host.msr;
    source.cpu.physical_bits = hardware.host.max_phys_bits;
    if (arch::cpuid(0x80000000, 0).eax >= 0x80000008)
        source.cpu.linear_bits = arch::cpuid(0x80000008, 0).eax >> 8 & 0xff;
    source.cpu.mode = hardware.host.is_64bit ? AuditCpu::Mode::kIa32e : AuditCpu::Mode::kLegacy;
    source.cpu.features = features_of_this_cpu();
    return source;
}

} // namespace minivmx
