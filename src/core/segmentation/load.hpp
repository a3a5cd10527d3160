// SPDX-License-Identifier: GPL-2.0-only
// Loading segment registers: the checks, and what is loaded. SDM Vol. 3A, chapter 5, and 8.3, table
// 8-1 for tasks.
#pragma once

#include <minivmx/segment.hpp>

#include "system_access.hpp"

namespace minivmx {

// Which exception keeps a segment register from being loaded. `bad`: what a wrong segment raises,
// #TS in a task switch, #GP elsewhere.
inline constexpr u8 kNoFault = 0xff; // no exception has this number

// For a task that begins, or a return, to the privilege level `rpl`.
u8 check_return_code(const Descriptor &d, u8 rpl, u8 bad);
// For a jump or call at CPL: SDM Vol. 3A, 5.8.1.
u8 check_jump_code(const Descriptor &d, u8 rpl, u8 cpl);
// What goes into DS, ES, FS or GS.
u8 check_data(const Descriptor &d, u8 rpl, u8 cpl, u8 bad);
// For SS by MOV, POP, LSS, a return, or an inner stack (`bad` is #TS then).
u8 check_stack(const Descriptor &d, u8 rpl, u8 cpl, u8 bad);

// A segment of virtual-8086 mode: SDM Vol. 3B, 21.2.1.
SegmentRegister vm86_segment(u16 selector);
SegmentRegister null_segment(u16 selector, u8 dpl = 0);

// As MOV does in the mode that the vCPU is in; not CS. False: s.fault.
[[nodiscard]] bool load_segment_register(SystemAccess &s, Segment which, u16 selector);
bool in_vm86(vcpu_vmx &vmx);
// LDTR, by LLDT or a task that begins. What a wrong selector raises, and what an absent segment.
[[nodiscard]] bool load_ldt(SystemAccess &s, u16 selector, u8 bad, u8 absent);
// LTR.
[[nodiscard]] bool load_task_register(SystemAccess &s, u16 selector);

} // namespace minivmx
