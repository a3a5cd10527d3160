// SPDX-License-Identifier: GPL-2.0-only
// More exits than the hypervisor needs, for a client that wants to watch its guest:
// MINIVMX_SET_INTERCEPTS. Such an exit is told to the client first; its answer comes with the next
// KVM_RUN, and only then does the guest's instruction or event take place, or not.
//
// Of all this a vCPU without intercepts sees one test of a pointer at each exit. The vCPU is
// loaded; may sleep unless it says otherwise.
#pragma once

#include <minivmx.h>

#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

// What a client has asked for beside vcpu_vmx.intercepted_controls.
struct Intercepts {
    u32 exceptions;
    u32 port_count, msr_count;
    // Both I/O bitmaps, where ports are asked for and the CPU has I/O bitmaps; else null.
    void *io_bitmap;
    minivmx_port_range ports[MINIVMX_MAX_INTERCEPT_RANGES];
    minivmx_msr_range msrs[MINIVMX_MAX_INTERCEPT_RANGES];
};

// What the next KVM_RUN has to do about an exit that a client was told of.
enum class InterceptWait : u8 {
    kNone,
    kInstruction, // it has not been carried out
    kFault,       // an exception of an instruction that can be tried again
    kEvent,       // something that comes after an instruction
    kNativeStep,  // no answer: the instruction executes in the guest with its intercept off
};
struct PendingIntercept {
    InterceptWait kind;
    u8 length; // of the instruction, if it is known
    u64 rip;   // if it is another one then, user space has made the vCPU go on elsewhere
};

// Whether a port, an MSR or an exception is among what was asked for. Without intercepts none is.
bool intercepts_port(const vcpu_vmx &vmx, u16 port, u8 size);
bool intercepts_msr(const vcpu_vmx &vmx, u32 msr,
                    u32 access); // MINIVMX_MSR_READ, MINIVMX_MSR_WRITE
u32 intercepted_exceptions(const vcpu_vmx &vmx);
void free_intercepts(vcpu_vmx &vmx);

// ----- Exits (src/core/intercept) ----------------------------------------------------------------

// In place of dispatch_exit(), for a vCPU with intercepts.
Outcome handle_intercepted_exit(vcpu_vmx &vmx);
// Whether the last exit is one that the client asked for; then `facts` tell of it.
bool describe_exit(vcpu_vmx &vmx, minivmx_exit_intercept &facts, InterceptWait &kind);
// The last exit's instruction or exception takes place after all.
Outcome let_it_happen(vcpu_vmx &vmx);
// At the start of KVM_RUN, whenever pending_intercept.kind isn't kNone.
Outcome answer_intercept(vcpu_vmx &vmx);
// The instruction that a client let execute in the guest, if there is one, is intercepted again.
void end_native_step(vcpu_vmx &vmx);
// An instruction was carried out in the guest's place, if RIP isn't this any more: with the monitor
// trap flag that is a step, too.
Outcome report_emulated_step(vcpu_vmx &vmx, u64 rip_before, Outcome outcome);

} // namespace minivmx
