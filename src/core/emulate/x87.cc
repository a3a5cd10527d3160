// SPDX-License-Identifier: GPL-2.0-only
// The x87 FPU's control instructions, which boot code asks with whether there is one. Its registers
// are the host's to read and write, like the vector registers.
#include "emulator.hpp"

namespace minivmx {

namespace {

bool exception_waits()
{
    constexpr u16 kErrorSummary = 1 << 7; // SDM Vol. 1, 8.1.3
    return (host_read_x87_status() & kErrorSummary) != 0;
}

// SDM Vol. 3A, 2.5, tables 2-2 and 9-3: EM and TS stop x87 instructions, MP and TS stop WAIT. FLDCW
// and WAIT raise an exception that waits. False: an exception is queued.
bool x87_allowed(Emulation &e)
{
    const Operation operation = e.insn().operation;
    const u64 cr0 = guest_cr0(e.vmx);
    const bool is_wait = operation == Operation::kWait;
    const u64 both = X86_CR0_MP | X86_CR0_TS;
    if (is_wait ? (cr0 & both) == both : (cr0 & (X86_CR0_EM | X86_CR0_TS)) != 0) {
        queue_exception(e.vmx, NM_VECTOR);
        return false;
    }
    if ((is_wait || operation == Operation::kFldcw) && exception_waits()) {
        queue_exception(e.vmx, MF_VECTOR);
        return false;
    }
    return true;
}

// False: see load_operand() and store_operand().
bool execute_allowed(Emulation &e)
{
    u64 control;
    switch (e.insn().operation) {
    case Operation::kFninit:
        host_init_x87();
        return true;
    case Operation::kFnclex:
        host_clear_x87_exceptions();
        return true;
    case Operation::kFnstcw:
        return store_operand(e, e.insn().destination, host_read_x87_control());
    case Operation::kFnstsw:
        return store_operand(e, e.insn().destination, host_read_x87_status());
    case Operation::kFldcw:
        if (!load_operand(e, e.insn().source, control))
            return false;
        host_write_x87_control(static_cast<u16>(control));
        return true;
    default: // kWait
        return true;
    }
}

} // namespace

void execute_x87(Emulation &e)
{
    if (x87_allowed(e) && execute_allowed(e))
        finish_instruction(e.vmx, e.insn().length);
}

} // namespace minivmx
