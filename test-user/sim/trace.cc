// SPDX-License-Identifier: GPL-2.0-only
// The listener of the simulated machine's tracepoints: each event is a line in Machine::traces.
#include "machine.hpp"

#include <cstdio>

using minivmx::sim::Machine;

namespace {

template <class... Args>
void note(const char *format, Args... args)
{
    char line[400];
    std::snprintf(line, sizeof(line), format, args...);
    Machine::current().traces.emplace_back(line);
}

unsigned long long wide(host_u64 value)
{
    return value;
}

} // namespace

extern "C" {

host_trace_key host_tracing_entry, host_tracing_exit, host_tracing_inject,
    host_tracing_ept_violation, host_tracing_control_change;

void host_trace_entry(const host_vcpu *, host_u64 rip)
{
    note("entry %llx", wide(rip));
}

void host_trace_exit(const host_vcpu *, const struct host_exit_facts *exit)
{
    note("exit %x %x %llx %llx %x %x: %s", exit->reason, exit->instruction_error, wide(exit->rip),
         wide(exit->qualification), exit->intr_info, exit->idt_vectoring_info, exit->facts);
}

void host_trace_inject(const host_vcpu *, host_u32 information, host_u32 error_code,
                       const char *event)
{
    note("inject %x %x: %s", information, error_code, event);
}

void host_trace_ept_violation(const host_vcpu *, host_u64 gpa, host_u64 linear_address,
                              host_u64 qualification, const char *access)
{
    note("ept_violation %llx %llx %llx: %s", wide(gpa), wide(linear_address), wide(qualification),
         access);
}

void host_trace_control_change(const host_vcpu *, const char *word, host_u64 before, host_u64 after,
                               const char *changes)
{
    note("control_change %s %llx %llx: %s", word, wide(before), wide(after), changes);
}

} // extern "C"
