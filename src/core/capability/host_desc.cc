// SPDX-License-Identifier: GPL-2.0-only
//
// Describing the CPU that this code runs on.
#include <minivmx/arch.hpp>
#include <minivmx/host_desc.hpp>

namespace minivmx {

namespace {

bool read_this_cpu_msr(void *, u32 msr, u64 *value)
{
    u64 result = 0;
    if (!arch::rdmsr_safe(msr, result))
        return false;
    *value = result;
    return true;
}

void put_register_text(char *to, u32 value)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = static_cast<char>(value >> (8 * i) & 0xff);
}

/// CPUID.80000002H to 80000004H, without the blanks that some CPUs put in front.
void read_brand_string(HostDesc &host)
{
    if (arch::cpuid(0x80000000, 0).eax < 0x80000004)
        return;
    char text[49] = "";
    for (u32 i = 0; i < 3; i++) {
        const arch::CpuidResult r = arch::cpuid(0x80000002 + i, 0);
        put_register_text(text + 16 * i, r.eax);
        put_register_text(text + 16 * i + 4, r.ebx);
        put_register_text(text + 16 * i + 8, r.ecx);
        put_register_text(text + 16 * i + 12, r.edx);
    }
    const char *from = text;
    while (*from == ' ')
        from++;
    usize n = 0;
    for (; from[n] != '\0'; n++)
        host.name[n] = from[n];
    while (n > 0 && host.name[n - 1] == ' ')
        n--;
    host.name[n] = '\0';
}

} // namespace

MsrReader this_cpu_msr_reader()
{
    return MsrReader{read_this_cpu_msr, nullptr};
}

void describe_cpu(const MsrReader &reader, HostDesc &host)
{
    const arch::CpuidResult leaf0 = arch::cpuid(0, 0);
    put_register_text(host.vendor, leaf0.ebx);
    put_register_text(host.vendor + 4, leaf0.edx);
    put_register_text(host.vendor + 8, leaf0.ecx);
    host.vendor[12] = '\0';

    const arch::CpuidResult leaf1 = arch::cpuid(1, 0);
    host.signature.raw = leaf1.eax;
    host.has_vmx = (leaf1.ecx & bit32(5)) != 0;
    host.has_sgx = leaf0.eax >= 0x12 && (arch::cpuid(0x12, 0).eax & 1) != 0;

    const u32 last_extended = arch::cpuid(0x80000000, 0).eax;
    if (last_extended >= 0x80000001)
        host.has_nx = (arch::cpuid(0x80000001, 0).edx & bit32(20)) != 0;
    if (last_extended >= 0x80000008)
        host.max_phys_bits = arch::cpuid(0x80000008, 0).eax & 0xff;
    read_brand_string(host);
    host.is_64bit = sizeof(void *) == 8;
    host.msr.read_all(reader);
}

} // namespace minivmx
