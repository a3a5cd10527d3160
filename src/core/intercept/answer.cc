// SPDX-License-Identifier: GPL-2.0-only
// The question to the client, and its answer.
#include <minivmx/intercept.hpp>
#include <minivmx/run.hpp>
#include <minivmx/vmcs_setup.hpp>

#include "detail.hpp"

namespace minivmx {

namespace {

using Facts = minivmx_exit_intercept;

// Exceptions with an error code: SDM Vol. 3A, 6.3.1, table 6-1.
constexpr u32 kWithErrorCode = bit32(DF_VECTOR) | bit32(TS_VECTOR) | bit32(NP_VECTOR) |
                               bit32(SS_VECTOR) | bit32(GP_VECTOR) | bit32(PF_VECTOR) |
                               bit32(AC_VECTOR) | bit32(CP_VECTOR);

Outcome ask_client(vcpu_vmx &vmx, const Facts &facts, InterceptWait kind)
{
    kvm_run &run = *vmx.area->run;
    run.exit_reason = MINIVMX_EXIT_INTERCEPT;
    *MINIVMX_INTERCEPT_FACTS(&run) = facts; // which has PROCEED as the answer
    vmx.pending_intercept = {
        .kind = kind, .length = static_cast<u8>(facts.length), .rip = read_rip(vmx)};
    return Outcome::to_user();
}

// A window was reported: the hypervisor's own use of it comes first, and the client's is over.
void close_window(vcpu_vmx &vmx, u64 control)
{
    constexpr u64 kWindows = MINIVMX_INTERCEPT_INTERRUPT_WINDOW | MINIVMX_INTERCEPT_NMI_WINDOW;
    if (!(control & kWindows))
        return;
    vmx.intercepted_controls &= ~control;
    (void)dispatch_exit(vmx); // which only closes it
}

// What the client wrote, which it may go on writing: each field is read once.
struct Answer {
    u32 what, vector, error_code;
    u64 payload;
};
Answer read_answer(const kvm_run &run)
{
    const auto *facts = reinterpret_cast<const volatile Facts *>(run.padding);
    return {facts->answer, facts->vector, facts->error_code, facts->payload};
}

bool is_valid(const Answer &answer)
{
    if (answer.what != MINIVMX_ANSWER_INJECT)
        return answer.what == MINIVMX_ANSWER_PROCEED || answer.what == MINIVMX_ANSWER_SKIP;
    if (answer.vector > 31 || !(MINIVMX_INTERCEPT_EXCEPTIONS & bit32(answer.vector)))
        return false;
    // SDM Vol. 3C, 27.2.1.3: bits 31:16 of an error code are 0.
    return answer.error_code >> 16 == 0 &&
           (!answer.error_code || kWithErrorCode & bit32(answer.vector));
}

void inject(vcpu_vmx &vmx, const Answer &answer, u8 length)
{
    const u8 vector = static_cast<u8>(answer.vector);
    if (kWithErrorCode & bit32(vector))
        queue_exception(vmx, vector, answer.error_code);
    else
        queue_exception(vmx, vector);
    ExceptionQueue &queued = vmx.exception;
    if (!queued.pending || queued.vector != vector)
        return; // it has become a double or triple fault
    queued.has_payload = vector == PF_VECTOR || vector == DB_VECTOR;
    queued.payload = answer.payload;
    // Software exceptions return behind their instruction.
    if ((vector == BP_VECTOR || vector == OF_VECTOR) && length) {
        queued.soft = true;
        vmx.event_instruction_length = length;
    }
}

Outcome carry_out(vcpu_vmx &vmx, const PendingIntercept &pending, const Answer &answer)
{
    const bool moved = read_rip(vmx) != pending.rip;
    if (answer.what == MINIVMX_ANSWER_INJECT) {
        inject(vmx, answer, moved ? 0 : pending.length);
        return Outcome::resume();
    }
    if (moved || pending.kind == InterceptWait::kEvent)
        return Outcome::resume();
    if (answer.what == MINIVMX_ANSWER_PROCEED)
        return let_it_happen(vmx);
    if (pending.kind == InterceptWait::kInstruction)
        finish_instruction(vmx, pending.length);
    return Outcome::resume();
}

} // namespace

Outcome report_emulated_step(vcpu_vmx &vmx, u64 rip_before, Outcome outcome)
{
    if (!outcome.resumes() || !(vmx.intercepted_controls & MINIVMX_INTERCEPT_SINGLE_STEP) ||
        read_rip(vmx) == rip_before)
        return outcome;
    Facts facts{};
    facts.control = MINIVMX_INTERCEPT_SINGLE_STEP;
    facts.exit_reason = EXIT_REASON_MONITOR_TRAP_FLAG;
    facts.address = linear_rip(vmx);
    facts.reg = MINIVMX_NO_REGISTER;
    return ask_client(vmx, facts, InterceptWait::kEvent);
}

Outcome handle_intercepted_exit(vcpu_vmx &vmx)
{
    if (vmx.pending_intercept.kind == InterceptWait::kNativeStep && !native_step_goes_on(vmx)) {
        end_native_step(vmx);
        // #UD that it raises itself is no question once more.
        if ((vmx.exit_reason & kExitReasonBasicMask) == EXIT_REASON_EXCEPTION_NMI &&
            (exit_intr_info(vmx) & INTR_INFO_VECTOR_MASK) == UD_VECTOR)
            return deliver_exception(vmx);
    }
    Facts facts;
    InterceptWait kind;
    if (describe_exit(vmx, facts, kind)) {
        close_window(vmx, facts.control);
        return ask_client(vmx, facts, kind);
    }
    const u64 rip = read_rip(vmx);
    return report_emulated_step(vmx, rip, let_it_happen(vmx));
}

Outcome answer_intercept(vcpu_vmx &vmx)
{
    if (vmx.pending_intercept.kind == InterceptWait::kNativeStep) {
        if (read_rip(vmx) != vmx.pending_intercept.rip)
            end_native_step(vmx);
        return Outcome::resume();
    }
    const Answer answer = read_answer(*vmx.area->run);
    if (!is_valid(answer))
        return Outcome::error(-EINVAL);
    const PendingIntercept pending = vmx.pending_intercept;
    vmx.pending_intercept = {};
    return carry_out(vmx, pending, answer);
}

} // namespace minivmx
