// SPDX-License-Identifier: GPL-2.0-only
// Real mode on a CPU without "unrestricted guest". VM entry insists on CR0.PE and CR0.PG there (SDM
// Vol. 3C, 24.8), so real mode runs as virtual-8086 mode, which is the same to most instructions;
// the others fault, and are emulated. And VM entry insists on segments that a guest between two
// modes doesn't have: as long as it doesn't, all of its instructions are emulated.
#pragma once

#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

// A segment register: the selector, and the descriptor behind it as the VMCS has it (SDM Vol.
// 3C, 25.4.1).
struct SegmentRegister {
    u64 base = 0;
    u32 limit = 0;
    u32 rights = 0;
    u16 selector = 0;
};

// What virtual-8086 mode hides of a guest that believes to be in real mode.
struct RealModeState {
    // By Segment; LDTR is the VMCS's. In virtual-8086 mode the guest changes selectors and bases
    // itself, so these two count only as long as the selector is still the VMCS's: see segment.hpp.
    SegmentRegister segments[8];
    u64 rflags;   // its RFLAGS.IOPL and VM are the guest's
    u64 tss_addr; // where the VMCS's TR leads
};

struct vcpu_vmx;
enum Segment : u8;

// The last byte of the task state that real mode needs in virtual-8086 mode: one of 32 bits, a map
// of interrupts that stay in the guest, a map of ports that the guest may access, a byte of ones.
// SDM Vol. 3B, 21.3 and 21.2.8; Vol. 1, 19.5.2.
inline constexpr u32 kTssSize = 104, kRedirectionMapSize = 32, kPortMapSize = 8192;
inline constexpr u32 kRealModeTssLimit = kTssSize + kRedirectionMapSize + kPortMapSize;

// CR0.PE goes off or on, without "unrestricted guest". CR0 and CR4 are the caller's to write.
void enter_virtual_8086(vcpu_vmx &vmx);
void leave_virtual_8086(vcpu_vmx &vmx);
// Whether the client has named a place for the task state; then the CPU finds it.
bool use_task_state(vcpu_vmx &vmx);
// The VMCS gets what rmode.segments has, as far as virtual-8086 mode can.
void write_virtual_8086_segment(vcpu_vmx &vmx, Segment which);

// A segment of real mode as VM entry wants it, as long as only the rights differ from those of
// virtual-8086 mode. Whatever else does, the guest's state is not valid and nothing enters with it.
SegmentRegister as_virtual_8086(Segment which, SegmentRegister segment);

// Whether VM entry takes the guest's segments.
bool guest_state_valid(vcpu_vmx &vmx);
// Whether the next instruction has to be emulated because it doesn't. Costs nothing as long as
// nobody but the guest has changed a segment.
bool must_emulate(vcpu_vmx &vmx);
// Emulates, and delivers events, until VM entry takes the guest or vcpu_run() has something else to
// do. [sleep]
Outcome emulate_until_valid(vcpu_vmx &vmx);

// Whether events reach the guest by software: VM entry injects through an IDT, which real mode has
// none of, and into no invalid state.
bool delivers_by_software(vcpu_vmx &vmx);
// Where they do: another exception has come of it, or the guest can't be entered at all.
bool cannot_go_on(const vcpu_vmx &vmx);
// An exception that exited from virtual-8086 mode: whether it is one of those that real mode has,
// and what becomes of it. [sleep]
bool is_real_mode_exception(const vcpu_vmx &vmx, u8 vector);
Outcome handle_real_mode_exception(vcpu_vmx &vmx, u8 vector, u32 error_code);

} // namespace minivmx
