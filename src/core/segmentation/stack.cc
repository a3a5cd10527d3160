// SPDX-License-Identifier: GPL-2.0-only
#include "stack.hpp"

namespace minivmx {

Stack current_stack(vcpu_vmx &vmx)
{
    return {read_segment_register(vmx, kSs), read_rsp(vmx), address_state(vmx), 0};
}

namespace {

bool find_word(SystemAccess &s, const Stack &stack, u32 size, bool write, SystemRange &range)
{
    const Access access{.write = write};
    u64 linear;
    if (register_to_linear(stack.state, kSs, stack.ss, stack.rsp & stack.mask(), size, access,
                           linear, s.fault) != MemoryResult::kOk)
        return refuse(s, s.fault.vector, stack.error_selector);
    return find_range_as(s, stack.state, linear, size, access, range);
}

} // namespace

bool push(SystemAccess &s, StackFrame &frame, u64 value)
{
    SystemRange range;
    frame.stack.rsp = frame.stack.advanced(-u64{frame.word});
    frame.value[frame.count++] = value;
    return find_word(s, frame.stack, frame.word, true, range);
}

bool write_frame(SystemAccess &s, const StackFrame &frame)
{
    Stack at = frame.stack;
    at.rsp = frame.before;
    for (u32 i = 0; i < frame.count; i++) {
        SystemRange range;
        at.rsp = at.advanced(-u64{frame.word});
        if (!find_word(s, at, frame.word, true, range) || !write_range(s, range, &frame.value[i]))
            return false;
    }
    return true;
}

bool pop(SystemAccess &s, Stack &stack, u32 size, u64 &value)
{
    SystemRange range;
    value = 0;
    if (!find_word(s, stack, size, false, range) || !read_range(s, range, &value))
        return false;
    stack.rsp = stack.advanced(size);
    return true;
}

} // namespace minivmx
