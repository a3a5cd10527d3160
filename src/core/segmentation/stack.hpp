// SPDX-License-Identifier: GPL-2.0-only
// The stack as far transfers and events use it: several words at once. All of them are found before
// the first is written, so that a fault leaves no trace.
#pragma once

#include <minivmx/segment.hpp>

#include "system_access.hpp"

namespace minivmx {

// SS:rSP as it is, or as it is going to be.
struct Stack {
    SegmentRegister ss;
    u64 rsp;
    AddressState state; // whose rights the words are accessed with
    u16 error_selector; // of #SS: 0, or the selector of an inner stack (SDM Vol. 3A, 6.15)

    // How much of RSP counts: SDM Vol. 3A, 6.2.3, the B flag; 64-bit code uses all of it.
    u64 mask() const
    {
        return state.code_64 ? ~u64{0} : ss.rights & AR_DB ? u64{0xffffffff} : u64{0xffff};
    }
    // Of SP, the other bits of RSP stay: SDM Vol. 1, 3.4.1.1.
    void set(u64 value) { rsp = (mask() == 0xffff ? rsp & ~u64{0xffff} : 0) | (value & mask()); }
    u64 advanced(u64 bytes) const
    {
        Stack moved = *this;
        moved.set(rsp + bytes);
        return moved.rsp;
    }
};
Stack current_stack(vcpu_vmx &vmx);

// Words to be pushed, all of one size. The longest frames: that of an event out of virtual-8086
// mode (SDM Vol. 3B, 21.3.1), and a call gate's, with 31 parameters (Vol. 3A, 5.8.5).
struct StackFrame {
    static constexpr u32 kMaxWords = 4 + 31;
    Stack stack; // where the last word is
    u32 word;    // bytes
    u64 before;  // rSP before the first word
    u32 count = 0;
    u64 value[kMaxWords];

    // cppcheck-suppress uninitMemberVar ; count says how many are there
    StackFrame(const Stack &s, u32 size) : stack{s}, word{size}, before{s.rsp} {}
};
// Makes sure that there is room for it.
[[nodiscard]] bool push(SystemAccess &s, StackFrame &frame, u64 value);
// Writes the words, and nothing else.
[[nodiscard]] bool write_frame(SystemAccess &s, const StackFrame &frame);
// Takes a word off: stack.rsp moves, the vCPU's doesn't.
[[nodiscard]] bool pop(SystemAccess &s, Stack &stack, u32 size, u64 &value);

} // namespace minivmx
