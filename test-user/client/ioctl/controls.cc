// SPDX-License-Identifier: GPL-2.0-only
//
// MINIVMX_GET_CONTROLS: a vCPU's control words, and the steps that made them.
#include "ioctl_test.hpp"

#include <vector>

namespace {

struct Controls {
    minivmx_controls head = {};
    std::vector<minivmx_control_step> steps;
};

Controls get_controls(const kvm::Vcpu &vcpu)
{
    Controls c;
    c.steps.resize(512);
    c.head.count = static_cast<uint32_t>(c.steps.size());
    c.head.steps = reinterpret_cast<uintptr_t>(c.steps.data());
    REQUIRE_OK(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &c.head));
    REQUIRE(c.head.count <= c.steps.size());
    c.steps.resize(c.head.count);
    return c;
}

// The last step that touched this bit, or null.
const minivmx_control_step *last_step(const Controls &c, unsigned word, uint64_t bit)
{
    const minivmx_control_step *last = nullptr;
    for (const minivmx_control_step &step : c.steps)
        if (step.word == word && (step.bits & bit))
            last = &step;
    return last;
}

constexpr uint64_t kHltExiting = 1u << 7;

// What only minivmx has, KVM refuses like any ioctl that is not its own; there is no more to test.
void skip_on_kvm()
{
    if (!test::options.reference())
        return;
    kvm::Device device;
    kvm::Vm vm(device);
    kvm::Vcpu vcpu(device, vm);
    minivmx_controls head = {};
    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &head), EINVAL);
    test::skip("only minivmx explains its controls");
}

} // namespace

TEST(get_controls_arguments)
{
    skip_on_kvm();
    kvm::Device device;
    kvm::Vm vm(device);
    kvm::Vcpu vcpu(device, vm);
    const uint32_t all = get_controls(vcpu).head.count;

    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, nullptr), EFAULT);
    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, reinterpret_cast<void *>(kKernelAddress)),
                 EFAULT);
    minivmx_controls head = {};
    head.pad = 1;
    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &head), EINVAL);
    for (__u64 &reserved : head.reserved) {
        head = {};
        reserved = 1;
        EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &head), EINVAL);
    }
    head = {};
    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &head), E2BIG);
    EXPECT_EQ(head.count, all);
    EXPECT(head.words[MINIVMX_WORD_PRIMARY] != 0);
    head.count = all - 1;
    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &head), E2BIG);
    head.count = 0xffffffff;
    head.steps = reinterpret_cast<uintptr_t>(kUnmapped);
    EXPECT_ERRNO(kvm::call(vcpu, MINIVMX_GET_CONTROLS, &head), EFAULT);
    // Of another size, or read where it should be written: other ioctls, which nobody has.
    EXPECT_ERRNO(kvm::call(vcpu, _IOWR(MINIVMX_IO, 0x02, __u64), &head), EINVAL);
    EXPECT_ERRNO(kvm::call(vcpu, _IOR(MINIVMX_IO, 0x02, minivmx_controls), &head), EINVAL);
    expect_usable(device, vm);
}

// Taking each step from 0 gives the word; the CPU allows it.
TEST(control_steps_make_the_words)
{
    skip_on_kvm();
    kvm::Device device;
    kvm::Vm vm(device);
    kvm::Vcpu vcpu(device, vm);
    const Controls c = get_controls(vcpu);
    uint64_t words[MINIVMX_WORDS] = {};
    for (const minivmx_control_step &step : c.steps) {
        REQUIRE(step.word < MINIVMX_WORDS && step.stage <= MINIVMX_STAGE_RUNNING && step.set <= 1);
        EXPECT(step.bits != 0);
        EXPECT_EQ(words[step.word] & step.bits, step.set ? 0 : step.bits);
        words[step.word] ^= step.bits;
        EXPECT(step.rule[0] && step.function[0] && step.reason[0]);
        EXPECT(memchr(step.rule, 0, sizeof(step.rule)) != nullptr);
        EXPECT(memchr(step.function, 0, sizeof(step.function)) != nullptr);
        EXPECT(memchr(step.reason, 0, sizeof(step.reason)) != nullptr);
    }
    for (unsigned i = 0; i < MINIVMX_WORDS; i++) {
        EXPECT_EQ(words[i], c.head.words[i]);
        EXPECT_EQ(c.head.words[i] & ~c.head.allowed1[i], 0u);
        // A word that is not activated is not looked at: SDM Vol. 3C, 25.6.2.
        if (c.head.words[i] != 0)
            EXPECT_EQ(c.head.allowed0[i] & ~c.head.words[i], 0u);
    }
}

// What the VM's owner chose is the reason that is told.
TEST(control_steps_name_disabled_exits)
{
    skip_on_kvm();
    kvm::Device device;
    {
        kvm::Vm vm(device);
        kvm::Vcpu vcpu(device, vm);
        const Controls c = get_controls(vcpu);
        EXPECT(c.head.words[MINIVMX_WORD_PRIMARY] & kHltExiting);
        const minivmx_control_step *step = last_step(c, MINIVMX_WORD_PRIMARY, kHltExiting);
        REQUIRE(step != nullptr);
        EXPECT(strcmp(step->rule, "required") == 0);
        EXPECT_EQ(step->stage, MINIVMX_STAGE_NEGOTIATION);
    }
    kvm::Vm vm(device);
    kvm_enable_cap cap = {};
    cap.cap = KVM_CAP_X86_DISABLE_EXITS;
    cap.args[0] = KVM_X86_DISABLE_EXITS_HLT;
    REQUIRE_OK(kvm::call(vm, KVM_ENABLE_CAP, &cap));
    kvm::Vcpu vcpu(device, vm);
    const Controls c = get_controls(vcpu);
    EXPECT_EQ(c.head.words[MINIVMX_WORD_PRIMARY] & kHltExiting, 0u);
    EXPECT(c.head.negotiated[MINIVMX_WORD_PRIMARY] & kHltExiting);
    const minivmx_control_step *step = last_step(c, MINIVMX_WORD_PRIMARY, kHltExiting);
    REQUIRE(step != nullptr);
    EXPECT(strcmp(step->rule, "exit-disabled") == 0);
    EXPECT(strcmp(step->function, "vmx_exec_control") == 0);
    EXPECT_EQ(step->stage, MINIVMX_STAGE_VCPU);
    EXPECT_EQ(step->set, 0);
}

// A client that asks for an exit finds itself as the reason.
TEST(control_steps_name_intercepts)
{
    skip_on_kvm();
    constexpr uint64_t kRdtscExiting = 1u << 12;
    kvm::Device device;
    kvm::Vm vm(device);
    kvm::Vcpu vcpu(device, vm);
    EXPECT_EQ(get_controls(vcpu).head.words[MINIVMX_WORD_PRIMARY] & kRdtscExiting, 0u);
    minivmx_intercepts asked = {};
    asked.controls = MINIVMX_INTERCEPT_RDTSC;
    REQUIRE_OK(kvm::call(vcpu, MINIVMX_SET_INTERCEPTS, &asked));
    const Controls c = get_controls(vcpu);
    EXPECT(c.head.words[MINIVMX_WORD_PRIMARY] & kRdtscExiting);
    const minivmx_control_step *step = last_step(c, MINIVMX_WORD_PRIMARY, kRdtscExiting);
    REQUIRE(step != nullptr);
    EXPECT(strcmp(step->rule, "intercepted") == 0);
    EXPECT_EQ(step->set, 1);
}
