// SPDX-License-Identifier: GPL-2.0-only
// What the parts of a task switch share.
#pragma once

#include <minivmx/segment.hpp>
#include <minivmx/task_switch.hpp>

#include "../segmentation/system_access.hpp"

namespace minivmx {

// A task-state segment's layout. Both kinds have the same order of equally wide slots: the
// instruction pointer, the flags, eight general registers and the segment registers in the order of
// their encodings, the LDT. SDM Vol. 3A, 8.2.1, figure 8-2, and 8.6, figure 8-10.
struct TssFormat {
    u32 slot;     // bytes of a slot
    u32 ip;       // where the slots begin
    u32 segments; // how many segment registers it has
    u32 size;

    constexpr u32 ldt() const { return ip + (2 + 8 + segments) * slot; }
};
inline constexpr TssFormat kTss32 = {.slot = 4, .ip = 0x20, .segments = 6, .size = 0x68};
inline constexpr TssFormat kTss16 = {.slot = 2, .ip = 0x0e, .segments = 4, .size = 0x2c};
static_assert(kTss32.ldt() == 0x60 && kTss16.ldt() == 0x2a);
// Of the 32-bit one only.
inline constexpr u32 kTssCr3 = 0x1c, kTssTrap = 0x64;

inline constexpr const TssFormat &tss_format(u32 type)
{
    return type & 8 ? kTss32 : kTss16;
}

// One task switch. A fault is what the guest gets in place of what it wanted, in the task that it
// is in by then.
struct TaskSwitch : SystemAccess {
    TaskSwitchInfo info;
    bool traps = false; // the new task's TSS asks for a debug exception

    TaskSwitch(const SystemAccess &s, TaskSwitchInfo i) : SystemAccess{s}, info{i} {}
};

// By an instruction, or an event with this error code, or none: `next_ip` is where the old task
// goes on. False: s.fault, in whichever task the vCPU is by then.
[[nodiscard]] bool switch_to_task(SystemAccess &s, TaskSwitchInfo info, u64 next_ip,
                                  const u32 *error_code);

// The segment registers of a new task, by their numbers in Segment; those that its TSS lacks stay.
struct TaskSegments {
    u16 selector[6];
    u32 count;
    u16 ldt;
    bool vm86;

    u8 cpl() const { return vm86 ? 3 : selector[kCs] & kSelectorRpl; }
};
// Step 13 of SDM Vol. 3A, 8.3. A fault leaves what was not loaded by then without a segment.
[[nodiscard]] bool load_segments(TaskSwitch &t, const TaskSegments &segments);

} // namespace minivmx
