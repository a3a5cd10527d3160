// SPDX-License-Identifier: GPL-2.0-only
// The counters of vCPUs as text.
#include <minivmx/exit_name.hpp>
#include <minivmx/host_guard.hpp>
#include <minivmx/stats.hpp>
#include <minivmx/vcpu.hpp>

namespace minivmx {

namespace {

struct EventCounter {
    const char *name;
    u64 VcpuStats::*count;
};

constexpr EventCounter kEventCounters[] = {
    {"injected_exceptions", &VcpuStats::exceptions},
    {"injected_interrupts", &VcpuStats::interrupts},
    {"injected_nmis", &VcpuStats::nmis},
    {"failed_entries", &VcpuStats::failed_entries},
    {"halts", &VcpuStats::halts},
    {"tlb_flushes", &VcpuStats::tlb_flushes},
    {"emulated", &VcpuStats::emulated},
    {"returns_to_user", &VcpuStats::returns},
};

// Another thread may be counting: each number is read once.
u64 read_counter(const u64 &counter)
{
    return __atomic_load_n(&counter, __ATOMIC_RELAXED);
}

void add(VcpuStats &sum, const VcpuStats &stats)
{
    for (u32 reason = 0; reason <= EXIT_REASON_COUNT; reason++)
        sum.exits[reason] += read_counter(stats.exits[reason]);
    for (const EventCounter &counter : kEventCounters)
        sum.*counter.count += read_counter(stats.*counter.count);
}

void print_exit(const LineSink &out, u32 reason, u64 count)
{
    if (count == 0)
        return;
    Line line;
    if (const char *name = exit_reason_constant(reason))
        line.put(name);
    else if (reason < EXIT_REASON_COUNT)
        line.put("REASON_", reason);
    else
        line.put("UNKNOWN");
    line.put(" ", count);
    out(line);
}

} // namespace

void count_injection(VcpuStats &stats, u32 information, s64 by)
{
    const u32 type = information & INTR_INFO_TYPE_MASK;
    u64 &counter = type == INTR_TYPE_NMI                                       ? stats.nmis
                   : type == INTR_TYPE_EXT_INTR || type == INTR_TYPE_SOFT_INTR ? stats.interrupts
                                                                               : stats.exceptions;
    counter += static_cast<u64>(by);
}

void print_exits(const VcpuStats &stats, const LineSink &out)
{
    for (u32 reason = 0; reason <= EXIT_REASON_COUNT; reason++)
        print_exit(out, reason, read_counter(stats.exits[reason]));
}

void print_events(const VcpuStats &stats, const LineSink &out)
{
    for (const EventCounter &counter : kEventCounters) {
        Line line;
        line.put(counter.name, " ", read_counter(stats.*counter.count));
        out(line);
    }
}

VcpuStats stats_of(const kvm_vm &kvm)
{
    VcpuStats sum = {};
    const RcuReader reader;
    for (u32 slot = 0; slot < vcpu_count(kvm); slot++)
        if (const vcpu_vmx *vmx = vcpu_at(kvm, slot))
            add(sum, vmx->stats);
    return sum;
}

} // namespace minivmx

using namespace minivmx;

extern "C" {

void core_vcpu_print_exits(const core_vcpu *vcpu, host_line_function line, void *context)
{
    print_exits(static_cast<const vcpu_vmx *>(vcpu)->stats, {line, context});
}

void core_vcpu_print_events(const core_vcpu *vcpu, host_line_function line, void *context)
{
    print_events(static_cast<const vcpu_vmx *>(vcpu)->stats, {line, context});
}

void core_vm_print_exits(const core_vm *vm, host_line_function line, void *context)
{
    print_exits(stats_of(*static_cast<const kvm_vm *>(vm)), {line, context});
}

void core_vm_print_events(const core_vm *vm, host_line_function line, void *context)
{
    print_events(stats_of(*static_cast<const kvm_vm *>(vm)), {line, context});
}

} // extern "C"
