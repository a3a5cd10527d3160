// SPDX-License-Identifier: GPL-2.0-only
#include "machine.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <sys/mman.h>

namespace minivmx::sim {

namespace {

Machine *the_machine = nullptr;

u32 register_text(const char *text)
{
    u32 value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= static_cast<u32>(static_cast<unsigned char>(text[i])) << (8 * i);
    return value;
}

/// CPUID leaves that describe_cpu() reads back into the same description.
void fill_cpuid(Machine &machine, const HostDesc &host)
{
    auto &cpuid = machine.cpuid;
    cpuid[{0, 0}] = {host.has_sgx ? 0x16u : 0xdu, register_text(host.vendor),
                     register_text(host.vendor + 8), register_text(host.vendor + 4)};
    cpuid[{1, 0}] = {host.signature.raw, 0, host.has_vmx ? bit32(5) : 0, 0};
    if (host.has_sgx)
        cpuid[{0x12, 0}] = {1, 0, 0, 0};
    cpuid[{0x80000000, 0}] = {0x80000008, 0, 0, 0};
    cpuid[{0x80000001, 0}] = {0, 0, 0, (host.has_nx ? bit32(20) : 0) | bit32(29)};
    cpuid[{0x80000008, 0}] = {host.max_phys_bits | 48u << 8, 0, 0, 0};
    char name[49] = "";
    std::memcpy(name, host.name, 48);
    for (u32 i = 0; i < 3; i++)
        cpuid[{0x80000002 + i, 0}] = {
            register_text(name + 16 * i), register_text(name + 16 * i + 4),
            register_text(name + 16 * i + 8), register_text(name + 16 * i + 12)};
}

void fill_msrs(Machine &machine, const HostDesc &host)
{
    if (host.msr.present(MSR_IA32_FEATURE_CONTROL))
        machine.msr[MSR_IA32_FEATURE_CONTROL] = host.msr[MSR_IA32_FEATURE_CONTROL];
    for (u32 msr = kFirstVmxMsr; msr <= kLastVmxMsr; msr++) {
        if (host.msr.present(msr))
            machine.msr[msr] = host.msr[msr];
    }
    // What a 64-bit kernel has in the MSRs that hypervisors read and write.
    for (const u32 msr :
         {0x10u, 0x174u, 0x175u, 0x176u, 0x1d9u, 0xc0000081u, 0xc0000082u, 0xc0000083u, 0xc0000084u,
          0xc0000100u, 0xc0000101u, 0xc0000102u, 0xc0000103u})
        machine.msr[msr] = 0;
    machine.msr[0x277] = 0x0407050600070106; // IA32_PAT
    machine.msr[0xc0000080] = 0xd01;         // IA32_EFER: NXE, LMA, LME, SCE
}

void fill_host_info(Machine &machine, const HostDesc &host)
{
    core_host_info &info = machine.host_info;
    info.family = host.signature.family();
    info.model = host.signature.model();
    info.stepping = host.signature.stepping();
    info.has_sgx = host.has_sgx;
    info.has_arat = true;
    info.uses_vmx = true;
    info.hyperv_evmcs = host.enlightened_vmcs;
    info.tsc_khz = host.tsc_khz;
    info.maxphyaddr = host.max_phys_bits;
    info.xcr0 = 7;
    info.efer = 0xd01;
    info.cr4 = 0x3626f0 & host.msr[MSR_IA32_VMX_CR4_FIXED1]; // what this CPU has of it
    std::memset(info.features, 0xff, sizeof(info.features)); // the kernel uses all there is
    std::memcpy(info.cpu_name, host.name, sizeof(host.name));
}

} // namespace

HostDesc cpu(const std::string &profile)
{
    const profiles::CpuProfile *found = profiles::find_profile(profile);
    if (found == nullptr)
        throw std::runtime_error("no CPU profile " + profile);
    return found->host();
}

Machine::Machine(const HostDesc &host, unsigned cpu_count) : cpus(cpu_count)
{
    if (the_machine != nullptr) {
        std::fputs("two simulated machines at once\n", stderr);
        std::abort();
    }
    the_machine = this;
    fill_cpuid(*this, host);
    fill_msrs(*this, host);
    fill_host_info(*this, host);
}

Machine::~Machine()
{
    if (hear_violations && !violations.empty())
        hear_violations(violations);
    for (auto &[page, phys] : pages)
        std::free(page);
    for (void *memory : allocations)
        std::free(memory);
    for (host_timer *timer : timers)
        delete timer;
    for (host_lock *lock : locks)
        delete lock;
    for (auto &[memory, size] : mappings_)
        munmap(memory, size);
    the_machine = nullptr;
}

Machine &Machine::current()
{
    if (the_machine == nullptr) {
        std::fputs("no simulated machine\n", stderr);
        std::abort();
    }
    return *the_machine;
}

VmxMsrs Machine::vmx_msrs() const
{
    VmxMsrs msrs;
    if (const auto control = msr.find(MSR_IA32_FEATURE_CONTROL); control != msr.end())
        msrs.set(control->first, control->second);
    // Each VMREAD asks: no more is looked at than there may be.
    for (auto at = msr.lower_bound(kFirstVmxMsr); at != msr.end() && at->first <= kLastVmxMsr; ++at)
        msrs.set(at->first, at->second);
    return msrs;
}

Vmcs &Machine::current_vmcs()
{
    const auto found = vmcs.find(cpus[this_cpu].current);
    if (found == vmcs.end()) {
        std::fputs("no current VMCS\n", stderr);
        std::abort();
    }
    return found->second;
}

u64 Machine::count_writes(u32 encoding) const
{
    u64 count = 0;
    for (const FieldWrite &write : vmwrites)
        count += write.field == encoding;
    return count;
}

std::string Machine::log_text() const
{
    std::string text;
    for (const LogLine &line : log)
        text += line.text + "\n";
    return text;
}

u64 Machine::add_user_memory(u64 size, bool writable, u64 alignment)
{
    const u64 mapped = size + alignment;
    void *const memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        throw std::runtime_error("no memory for the simulated user process");
    mappings_.emplace_back(memory, mapped);
    const u64 start = (reinterpret_cast<u64>(memory) + alignment - 1) & ~(alignment - 1);
    user_ranges.push_back(UserRange{start, size, writable});
    return start;
}

void Machine::map_contiguous(u64 start, u32 order)
{
    for (UserRange &range : user_ranges) {
        if (range.start != start)
            continue;
        range.order = order;
        const u64 span = u64{1} << order;
        next_pfn_ = (next_pfn_ + span - 1) & ~(span - 1);
        for (u64 page = 0; page < range.size >> 12; page++)
            pfns[(start >> 12) + page] = next_pfn_ + page;
        next_pfn_ += range.size >> 12;
    }
}

void Machine::protect_user(u64 start, bool writable)
{
    for (UserRange &range : user_ranges) {
        if (range.start == start)
            range.writable = writable;
    }
}

const UserRange *Machine::find_user(u64 address, u64 size) const
{
    for (const UserRange &range : user_ranges) {
        if (address >= range.start && size <= range.size &&
            address - range.start <= range.size - size)
            return &range;
    }
    return nullptr;
}

u64 Machine::pfn_of(u64 hva)
{
    const auto [entry, is_new] = pfns.try_emplace(hva >> 12, next_pfn_);
    if (is_new)
        next_pfn_++;
    return entry->second;
}

void Machine::may_sleep(const char *function)
{
    if (preempt_count != 0 || irqs_off)
        violation(std::string(function) + " may sleep, but preemption or interrupts are off");
}

} // namespace minivmx::sim
