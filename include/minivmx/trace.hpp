// SPDX-License-Identifier: GPL-2.0-only
// The tracepoints minivmx:entry, exit, inject, ept_violation and control_change. While nobody
// listens each is one patched instruction (arch::static_key_enabled); what a listener gets is
// gathered out of line.
#pragma once

#include <minivmx/arch.hpp>
#include <minivmx/controls.hpp>
#include <minivmx/exit.hpp>
#include <minivmx/host.h>
#include <minivmx/text.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

#if defined(MINIVMX_KERNEL) && !defined(MINIVMX_TRACEPOINTS)
// A kernel without CONFIG_TRACEPOINTS: there are no keys.
#define MINIVMX_TRACING(event) false
#else
#define MINIVMX_TRACING(event) arch::static_key_enabled<host_tracing_##event>()
#endif

// ----- What a listener gets (src/core/run/trace.cc). The VMCS is loaded. [irqoff or not] ---------

// Far from the way to the next entry, which the compiler else makes room for them in.
#define MINIVMX_OUT_OF_THE_WAY [[gnu::cold, gnu::noinline]]
MINIVMX_OUT_OF_THE_WAY void gather_trace_entry(vcpu_vmx &vmx);
MINIVMX_OUT_OF_THE_WAY void gather_trace_inject(vcpu_vmx &vmx);
MINIVMX_OUT_OF_THE_WAY void gather_trace_exit(vcpu_vmx &vmx);
MINIVMX_OUT_OF_THE_WAY void gather_trace_ept_violation(vcpu_vmx &vmx, u64 gpa,
                                                       const EptViolationInfo &access);
MINIVMX_OUT_OF_THE_WAY void gather_trace_control_change(const vcpu_vmx &vmx, ControlField field,
                                                        u64 before, u64 after);

#undef MINIVMX_OUT_OF_THE_WAY

// ----- Where it happens --------------------------------------------------------------------------

// All that the VMCS holds is in place; the VM entry is the next thing to happen.
inline void trace_entry(vcpu_vmx &vmx)
{
    if (MINIVMX_TRACING(inject)) [[unlikely]]
        gather_trace_inject(vmx);
    if (MINIVMX_TRACING(entry)) [[unlikely]]
        gather_trace_entry(vmx);
}

// An exit, or a failed entry, and nothing was done about it yet.
inline void trace_exit(vcpu_vmx &vmx)
{
    if (MINIVMX_TRACING(exit)) [[unlikely]]
        gather_trace_exit(vmx);
}

inline bool exits_are_traced()
{
    return MINIVMX_TRACING(exit);
}

inline void trace_ept_violation(vcpu_vmx &vmx, u64 gpa, const EptViolationInfo &access)
{
    if (MINIVMX_TRACING(ept_violation)) [[unlikely]]
        gather_trace_ept_violation(vmx, gpa, access);
}

// A control word of the VMCS changes.
inline void trace_control_change(const vcpu_vmx &vmx, ControlField field, u64 before, u64 after)
{
    if (MINIVMX_TRACING(control_change)) [[unlikely]]
        gather_trace_control_change(vmx, field, before, after);
}

#undef MINIVMX_TRACING

// ----- The facts as text, so that traces need no manual at hand ----------------------------------

// "#PF error 0x2", "interrupt 0x30", "NMI": an event in the format of interruption information.
// error_code counts only where the information says that there is one.
void put_event(TextBuilder &out, u32 information, u32 error_code);
// What the last exit says beside its reason: "MOV to CR3, 0x1000"; nothing where there is no more.
void put_exit_facts(TextBuilder &out, vcpu_vmx &vmx);
// "write to r-x page at 0x7000 for a page table"
void put_ept_violation(TextBuilder &out, const EptViolationInfo &access);
// "+Interrupt-window exiting -Use TPR shadow"
void put_control_change(TextBuilder &out, ControlField field, u64 before, u64 after);

} // namespace minivmx
