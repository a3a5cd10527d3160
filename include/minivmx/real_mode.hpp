// SPDX-License-Identifier: GPL-2.0-only
// Real mode on a CPU without "unrestricted guest". VM entry insists on CR0.PE and CR0.PG there (SDM
// Vol. 3C, 24.8), so real mode runs as virtual-8086 mode, which is the same to most instructions;
// the others fault, and are emulated. And VM entry insists on segments that a guest between two
// modes doesn't have: as long as it doesn't, all of its instructions are emulated.
#pragma once

#include <minivmx/types.hpp>

namespace minivmx {

// A segment register: the selector, and the descriptor behind it as the VMCS has it (SDM Vol.
// 3C, 25.4.1).
struct SegmentRegister {
    u64 base;
    u32 limit;
    u32 rights;
    u16 selector;
};

// What virtual-8086 mode hides of a guest that believes to be in real mode.
struct RealModeState {
    // By Segment; LDTR is the VMCS's. In virtual-8086 mode the guest changes selectors and bases
    // itself, so these two count only as long as the selector is still the VMCS's: see segment.hpp.
    SegmentRegister segments[8];
    u64 rflags; // its RFLAGS.IOPL and VM are the guest's
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
// The VMCS gets what rmode.segments has, as far as virtual-8086 mode can.
void write_virtual_8086_segment(vcpu_vmx &vmx, Segment which);

// Whether VM entry takes the guest's segments.
bool guest_state_valid(vcpu_vmx &vmx);
// Whether the next instruction has to be emulated because it doesn't. Costs nothing as long as
// nobody but the guest has changed a segment.
bool must_emulate(vcpu_vmx &vmx);

} // namespace minivmx
