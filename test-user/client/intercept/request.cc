// SPDX-License-Identifier: GPL-2.0-only
//
// What is refused, and what the three answers do.
#include "intercept_test.hpp"

namespace {

constexpr uint64_t kNotMapped = 0x10; // an address that no process has

} // namespace

TEST(refused)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "rdtsc; hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));

    EXPECT_ERRNO(call(g.vcpu, MINIVMX_SET_INTERCEPTS, nullptr), EFAULT);
    EXPECT_ERRNO(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_ALL + 1), EINVAL);
    EXPECT_ERRNO(set_intercepts(g.vcpu, uint64_t{1} << 63), EINVAL);
    for (uint32_t vector : {2, 9, 15, 18, 22, 31})
        EXPECT_ERRNO(set_exceptions(g.vcpu, 1u << vector), EINVAL);

    minivmx_port_range ports[2] = {{0x60, 0x64, 0}, {0x64, 0x65, 0}};
    minivmx_msr_range msrs[2] = {{0x10, 0x12, 1, 0}, {0x12, 0x20, 3, 0}};
    minivmx_intercepts asked = {};
    asked.pad = 1;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL);
    asked.pad = 0;
    asked.reserved[0] = 1;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL);
    asked.reserved[0] = 0;
    asked.port_count = MINIVMX_MAX_INTERCEPT_RANGES + 1;
    asked.ports = reinterpret_cast<uintptr_t>(ports);
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL);
    asked.port_count = 0xffffffff;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL);
    asked.port_count = 2;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL); // they overlap
    asked.ports = kNotMapped;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EFAULT);
    asked.ports = ~uint64_t{0} - 7;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EFAULT);
    asked.port_count = 0;
    asked.msr_count = 2;
    asked.msrs = reinterpret_cast<uintptr_t>(msrs);
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL);
    msrs[1].flags = 4;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EINVAL);
    asked.msrs = kNotMapped;
    EXPECT_ERRNO(set_intercepts(g.vcpu, asked), EFAULT);

    // What was asked for first is still there.
    start(g, CODE(64, "rdtsc; hlt"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
}

TEST(another_ioctl_of_its_number_space)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    EXPECT_ERRNO(call(g.vcpu, _IOW(MINIVMX_IO, 0x7f, uint64_t)), EINVAL);
}

TEST(supported_as_the_cpu_says)
{
    // Each control that the CPU allows to be 1 can be had, and no other one.
    constexpr struct {
        uint64_t control;
        uint32_t word;
        unsigned bit;
    } kNeeds[] = {
        {MINIVMX_INTERCEPT_HLT, MINIVMX_WORD_PRIMARY, 7},
        {MINIVMX_INTERCEPT_INVLPG, MINIVMX_WORD_PRIMARY, 9},
        {MINIVMX_INTERCEPT_MWAIT, MINIVMX_WORD_PRIMARY, 10},
        {MINIVMX_INTERCEPT_RDPMC, MINIVMX_WORD_PRIMARY, 11},
        {MINIVMX_INTERCEPT_RDTSC, MINIVMX_WORD_PRIMARY, 12},
        {MINIVMX_INTERCEPT_CR3_LOAD, MINIVMX_WORD_PRIMARY, 15},
        {MINIVMX_INTERCEPT_CR3_STORE, MINIVMX_WORD_PRIMARY, 16},
        {MINIVMX_INTERCEPT_CR8_LOAD, MINIVMX_WORD_PRIMARY, 19},
        {MINIVMX_INTERCEPT_CR8_STORE, MINIVMX_WORD_PRIMARY, 20},
        {MINIVMX_INTERCEPT_NMI_WINDOW, MINIVMX_WORD_PRIMARY, 22},
        {MINIVMX_INTERCEPT_MOV_DR, MINIVMX_WORD_PRIMARY, 23},
        {MINIVMX_INTERCEPT_SINGLE_STEP, MINIVMX_WORD_PRIMARY, 27},
        {MINIVMX_INTERCEPT_MONITOR, MINIVMX_WORD_PRIMARY, 29},
        {MINIVMX_INTERCEPT_PAUSE, MINIVMX_WORD_PRIMARY, 30},
        {MINIVMX_INTERCEPT_DESCRIPTOR_TABLE, MINIVMX_WORD_SECONDARY, 2},
        {MINIVMX_INTERCEPT_WBINVD, MINIVMX_WORD_SECONDARY, 6},
        {MINIVMX_INTERCEPT_RDRAND, MINIVMX_WORD_SECONDARY, 11},
        {MINIVMX_INTERCEPT_RDSEED, MINIVMX_WORD_SECONDARY, 16},
        {MINIVMX_INTERCEPT_USER_WAIT, MINIVMX_WORD_SECONDARY, 26},
    };
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    static minivmx_control_step steps[512];
    minivmx_controls controls = {};
    controls.count = 512;
    controls.steps = reinterpret_cast<uintptr_t>(steps);
    REQUIRE_OK(call(g.vcpu, MINIVMX_GET_CONTROLS, &controls));
    for (const auto &need : kNeeds) {
        const bool has = controls.allowed1[need.word] >> need.bit & 1;
        if (can_set_intercepts(g.vcpu, need.control) != has)
            test::fail(__FILE__, __LINE__, "control 0x%llx (expected %s)",
                       static_cast<unsigned long long>(need.control),
                       has ? "success" : "EOPNOTSUPP");
    }
}

TEST(the_steps_of_a_word_say_who_asked)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    static minivmx_control_step steps[512];
    minivmx_controls controls = {};
    controls.count = 512;
    controls.steps = reinterpret_cast<uintptr_t>(steps);
    REQUIRE_OK(call(g.vcpu, MINIVMX_GET_CONTROLS, &controls));
    EXPECT_EQ(controls.words[MINIVMX_WORD_PRIMARY] >> 12 & 1, 1);
    bool found = false;
    for (uint32_t i = 0; i < controls.count; i++)
        found |= steps[i].word == MINIVMX_WORD_PRIMARY && steps[i].bits == 1 << 12 &&
                 steps[i].set && !strcmp(steps[i].rule, "intercepted");
    EXPECT_EQ(found, true);
}

TEST(proceed_skip_and_inject)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    const Blob code = CODE(64, "rdtsc; rdtsc; rdtsc; hlt; nop");
    start(g, code);
    g.resume_at(G_CODE + 6);

    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
    EXPECT_EQ(facts(g.vcpu).length, 2);
    const uint64_t told = facts(g.vcpu).value;
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE + 2);
    kvm_regs r = g.vcpu.regs();
    EXPECT_EQ((r.rdx << 32 | r.rax) >= told, true);
    EXPECT_EQ((r.rdx << 32 | r.rax) <= facts(g.vcpu).value, true);

    r.rax = 0x1234; // what the client wants the guest to read
    r.rdx = 0;
    g.vcpu.set(r);
    answer_skip(g);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE + 4);
    EXPECT_EQ(g.vcpu.regs().rax, 0x1234);

    answer_inject(g, 13, 0x50);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EXCEPTION(g, 0, 13, 0x50, G_CODE + 4);
    EXPECT_EQ(g.vcpu.regs().rax, 0x1234);
}

TEST(injected_page_fault)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    start(g, CODE(64, "rdtsc; hlt; nop"));
    g.resume_at(G_CODE + 2);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
    answer_inject(g, 14, 6, 0x123456000);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 14, 6, G_CODE);
    EXPECT_EQ(g.log(0).cr2, 0x123456000);
}

TEST(bad_answers)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    start(g, CODE(64, "rdtsc; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
    facts(g.vcpu).answer = 3;
    EXPECT_ERRNO(g.vcpu.enter(), EINVAL);
    for (uint32_t vector : {2u, 18u, 32u, 0xffffffffu}) {
        answer_inject(g, vector);
        EXPECT_ERRNO(g.vcpu.enter(), EINVAL);
    }
    answer_inject(g, 6, 1);
    EXPECT_ERRNO(g.vcpu.enter(), EINVAL);
    answer_inject(g, 13, 0x10000);
    EXPECT_ERRNO(g.vcpu.enter(), EINVAL);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE);
    answer_skip(g);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}

// To save the vCPU's state the answer is completed without entering the guest.
TEST(answer_with_immediate_exit)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    start(g, CODE(64, "rdtsc; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
    g.vcpu.run->immediate_exit = 1;
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 2);
    g.vcpu.run->immediate_exit = 0;
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(taken_back)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    start(g, CODE(64, "rdtsc; rdtsc; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
    REQUIRE_OK(set_intercepts(g.vcpu, 0));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 5);
}
