// SPDX-License-Identifier: GPL-2.0-only
// A living vCPU's control words with the steps behind them: for its client, and for debugfs.
#include <minivmx/explain.hpp>
#include <minivmx/vmcs_setup.hpp>

namespace minivmx {

namespace {

template <usize N>
void copy_text(char (&to)[N], const char *from)
{
    TextBuilder(to, N).put(from);
}

void fill_step(minivmx_control_step &to, ControlField field, const RuleEvent &event, Stage stage)
{
    const BitStep step{event.rule, event.set, stage, event.parameter};
    to = {};
    to.word = static_cast<u8>(field);
    to.stage = static_cast<u8>(stage);
    to.set = event.set;
    to.bits = event.bits;
    copy_text(to.rule, rule_info(event.rule).id);
    copy_text(to.function, step_where(field, step));
    TextBuilder reason(to.reason, sizeof(to.reason));
    put_step_reason(reason, hardware, field, step);
}

// Appends the word's steps as far as there is room; `count` becomes how many there would be.
void put_steps(const WordHistory &word, minivmx_control_step *steps, u32 room, u32 &count)
{
    unsigned number = 0;
    for (const RuleEvent &event : word.events()) {
        const Stage stage = word.stage_of(number++);
        if (count < room)
            fill_step(steps[count], word.field(), event, stage);
        count++;
    }
}

// The ABI's numbers are ours.
static_assert(static_cast<unsigned>(ControlField::kPin) == MINIVMX_WORD_PIN);
static_assert(static_cast<unsigned>(ControlField::kPrimary) == MINIVMX_WORD_PRIMARY);
static_assert(static_cast<unsigned>(ControlField::kSecondary) == MINIVMX_WORD_SECONDARY);
static_assert(static_cast<unsigned>(ControlField::kTertiary) == MINIVMX_WORD_TERTIARY);
static_assert(static_cast<unsigned>(ControlField::kExit) == MINIVMX_WORD_EXIT);
static_assert(static_cast<unsigned>(ControlField::kExitSecondary) == MINIVMX_WORD_EXIT_SECONDARY);
static_assert(static_cast<unsigned>(ControlField::kEntry) == MINIVMX_WORD_ENTRY);
static_assert(kControlFieldCount == MINIVMX_WORDS);
static_assert(static_cast<unsigned>(Stage::kNegotiation) == MINIVMX_STAGE_NEGOTIATION);
static_assert(static_cast<unsigned>(Stage::kCreation) == MINIVMX_STAGE_VCPU);
static_assert(static_cast<unsigned>(Stage::kRunning) == MINIVMX_STAGE_RUNNING);

} // namespace

} // namespace minivmx

using namespace minivmx;

extern "C" {

int core_get_controls(core_vcpu *vcpu, minivmx_controls *controls, minivmx_control_step *steps)
{
    const vcpu_vmx &vmx = to_vmx(vcpu);
    const VcpuControlInputs in = vcpu_control_inputs(vmx);
    const ControlWords words = vcpu_control_words(vmx);
    const u32 room = controls->count;

    controls->count = 0;
    for (unsigned i = 0; i < kControlFieldCount; i++) {
        const ControlField field = static_cast<ControlField>(i);
        const AllowedSettings allowed = true_allowed_settings(hardware.host.msr, field);
        WordHistory word(hardware, field, in);
        word.observe(words.word[i]);
        controls->words[i] = words.word[i];
        controls->negotiated[i] = word.negotiated();
        controls->allowed0[i] = allowed.allowed0;
        controls->allowed1[i] = allowed.allowed1;
        put_steps(word, steps, room, controls->count);
    }
    return controls->count > room ? -E2BIG : 0;
}

void core_vcpu_print_controls(const core_vcpu *vcpu, host_line_function line, void *context)
{
    const vcpu_vmx &vmx = *static_cast<const vcpu_vmx *>(vcpu);
    const LineSink out{line, context};
    print_vcpu_controls(hardware, vcpu_control_inputs(vmx), vcpu_control_words(vmx), out);
}

} // extern "C"
