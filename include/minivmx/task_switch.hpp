// SPDX-License-Identifier: GPL-2.0-only
// Task switches, which the CPU leaves to the hypervisor: SDM Vol. 3A, 8.3 "Task Switching", and
// Vol. 3C, 26.4.2 "Treatment of Task Switches".
#pragma once

#include <minivmx/outcome.hpp>
#include <minivmx/types.hpp>

namespace minivmx {

struct vcpu_vmx;

// What asks for a task switch: SDM Vol. 3C, 28.2.1, table 28-2.
enum class TaskSwitchSource : u8 { kCall, kIret, kJmp, kIdtGate };

// The exit qualification of a task switch, by the same table.
struct TaskSwitchInfo {
    u16 selector; // of the new task's TSS
    TaskSwitchSource source;

    static constexpr TaskSwitchInfo decode(u64 qualification)
    {
        return {static_cast<u16>(qualification),
                static_cast<TaskSwitchSource>(qualification >> 30 & 3)};
    }
    // The old task waits for the new one to return to it.
    constexpr bool nests() const
    {
        return source == TaskSwitchSource::kCall || source == TaskSwitchSource::kIdtGate;
    }
};

// EXIT_REASON_TASK_SWITCH. [sleep]
Outcome handle_task_switch(vcpu_vmx &vmx);

} // namespace minivmx
