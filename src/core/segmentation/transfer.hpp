// SPDX-License-Identifier: GPL-2.0-only
// Far transfers: JMP, CALL, RET and IRET to another code segment, directly, through gates, and to
// another privilege level. SDM Vol. 2A and 2B, their pages; Vol. 3A, 5.8.
//
// Each returns false with the reason in s, and leaves everything as it was; or the vCPU is where
// the transfer goes, but for what finish_jump() does.
#pragma once

#include <minivmx/task_switch.hpp>

#include "load.hpp"
#include "stack.hpp"

namespace minivmx {

// What ends a transfer.
enum class TransferEnd : u8 {
    kThere,
    kFault, // or not memory: s says
    kTask,  // the target is a task: `task` says which
};

struct FarTransfer : SystemAccess {
    u8 operand_size; // 2, 4 or 8
    u64 next_rip;    // behind the instruction
    TaskSwitchInfo task{};

    FarTransfer(vcpu_vmx &v, u8 size, u64 next)
        : SystemAccess{v}, operand_size{size}, next_rip{next}
    {}
};

TransferEnd jump_far(FarTransfer &s, u16 selector, u64 offset);
TransferEnd call_far(FarTransfer &s, u16 selector, u64 offset);
// release: how many bytes of parameters go, too.
[[nodiscard]] bool return_far(FarTransfer &s, u32 release);
TransferEnd return_from_interrupt(FarTransfer &s);

// ---- What they share with the delivery of events -----------------------------

// A code segment to be loaded, and where in it.
struct CodeTarget {
    u16 selector;
    Descriptor descriptor;
    u64 rip;
    u8 cpl;

    bool is_64(const SystemAccess &s) const { return s.state.long_mode && descriptor.long_code(); }
};
// Fetches the descriptor; a null selector and one beyond its table are faults.
[[nodiscard]] bool find_code(SystemAccess &s, u16 selector, u64 rip, CodeTarget &target);
// The checks that come last: RIP is in the segment, and the segment isn't both of 32 and of 64
// bits. Marks it accessed.
[[nodiscard]] bool ready_code(SystemAccess &s, CodeTarget &target);
// CS, with the new CPL in its selector, and RIP.
void enter_code(vcpu_vmx &vmx, const CodeTarget &target);

// The stack for more privileged code, out of the task's state: SDM Vol. 3A, 8.2.1, 8.7.
// stack_table: the IST's number in a gate of IA-32e mode, or 0.
[[nodiscard]] bool inner_stack(SystemAccess &s, u8 cpl, u8 stack_table, Stack &stack);

} // namespace minivmx
