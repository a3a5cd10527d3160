// SPDX-License-Identifier: GPL-2.0-only
//
// Ports, MSRs, exceptions, single steps and windows.
#include "intercept_test.hpp"

TEST(ports)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    const minivmx_port_range ports[] = {{0x10, 0x10, 0}, {0x80, 0x87, 0}};
    minivmx_intercepts asked = {};
    asked.port_count = 2;
    asked.ports = reinterpret_cast<uintptr_t>(ports);
    REQUIRE_OK(set_intercepts(g.vcpu, asked));
    kvm_regs r = fresh_regs();
    r.rax = 0x11223344;
    start(g, CODE(64, "out 0x10, ax; out 0x11, al; in al, 0x87; out 0x7f, eax; hlt"), r);
    EXPECT_QUESTION(g, 0, kPort, G_CODE);
    EXPECT_EQ(facts(g.vcpu).number, 0x10);
    EXPECT_EQ(facts(g.vcpu).is_write, 1);
    EXPECT_EQ(facts(g.vcpu).size, 2);
    EXPECT_EQ(facts(g.vcpu).value, 0x3344);
    EXPECT_OUT(g.vcpu, 0x10, 2, 0x3344);
    EXPECT_OUT(g.vcpu, 0x11, 1, 0x44); // no question
    EXPECT_QUESTION(g, 0, kPort, G_CODE + 5);
    EXPECT_EQ(facts(g.vcpu).is_write, 0);
    kvm_regs now = g.vcpu.regs();
    now.rax = 0x99; // the client's own answer to IN
    g.vcpu.set(now);
    answer_skip(g);
    EXPECT_QUESTION(g, 0, kPort, G_CODE + 7); // 7FH to 82H
    EXPECT_EQ(facts(g.vcpu).number, 0x7f);
    EXPECT_EQ(facts(g.vcpu).value, 0x99);
    answer_skip(g);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(msrs)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    constexpr uint32_t kFsBase = 0xc0000100, kKernelGsBase = 0xc0000102;
    const minivmx_msr_range msrs[] = {{kFsBase, kFsBase, MINIVMX_MSR_READ, 0},
                                      {kKernelGsBase, kKernelGsBase, MINIVMX_MSR_WRITE, 0}};
    minivmx_intercepts asked = {};
    asked.msr_count = 2;
    asked.msrs = reinterpret_cast<uintptr_t>(msrs);
    REQUIRE_OK(set_intercepts(g.vcpu, asked));
    kvm_regs r = fresh_regs();
    r.rax = 0x5000;
    r.rdx = 0x7f;
    r.rcx = kFsBase;
    start(g, CODE(64, "wrmsr; rdmsr; mov ecx, 0xc0000102; wrmsr; rdmsr; hlt; nop"), r);
    EXPECT_QUESTION(g, 0, kRdmsr, G_CODE + 2);
    EXPECT_EQ(facts(g.vcpu).number, kFsBase);
    EXPECT_EQ(facts(g.vcpu).is_write, 0);
    EXPECT_QUESTION(g, 0, kWrmsr, G_CODE + 9);
    EXPECT_EQ(facts(g.vcpu).number, kKernelGsBase);
    EXPECT_EQ(facts(g.vcpu).is_write, 1);
    EXPECT_EQ(facts(g.vcpu).value, 0x7f'0000'5000);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rax, 0x5000);
    EXPECT_EQ(g.vcpu.regs().rdx, 0x7f);
    EXPECT_EQ(g.log_count(), 0);
}

// ---- Exceptions ---------------------------------------------------------------------------------

namespace {

struct Raised {
    Blob code;
    uint32_t vector, error, length;
    uint64_t address;
    uint64_t returns; // relative to the code, as the handler sees it
};

} // namespace

TEST(exceptions)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    g.set_entry(G_FREE, 0);
    const Raised cases[] = {
        {CODE(64, "xor ecx, ecx; div ecx; hlt; nop"), 0, 0, 0, 0, 2},
        {CODE(64, "nop; nop; int3; hlt; nop"), 3, 0, 1, 0, 3},
        {CODE(64, "nop; nop; ud2; hlt; nop"), 6, 0, 0, 0, 2},
        {CODE(64, "nop; nop; mov eax, [0x30004]; hlt; nop"), 14, 0, 0, G_FREE + 4, 2},
        {CODE(64, "nop; nop; mov fs, ecx; hlt; nop"), 13, 0x4c, 0, 0, 2},
    };
    for (const Raised &c : cases) {
        kvm_regs r = fresh_regs();
        r.rcx = 0x4c; // an LDT's selector, and there is no LDT
        REQUIRE_OK(set_exceptions(g.vcpu, 1u << c.vector));
        auto raise = [&] {
            start(g, c.code, r);
            g.resume_at(G_CODE + c.code.size() - 2);
            EXPECT_QUESTION(g, 0, kExceptionOrNmi, G_CODE + 2);
        };
        raise();
        EXPECT_EQ(facts(g.vcpu).number, c.vector);
        EXPECT_EQ(facts(g.vcpu).value, c.error);
        EXPECT_EQ(facts(g.vcpu).length, c.length);
        EXPECT_EQ(facts(g.vcpu).address, c.address);
        EXPECT_EQ(g.log_count(), 0);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.log_count(), 1);
        EXPECT_EXCEPTION(g, 0, c.vector, c.error, G_CODE + c.returns);
        if (c.vector == 14)
            EXPECT_EQ(g.log(0).cr2, c.address);

        // Another one in its place: as a fault of the same instruction.
        raise();
        answer_inject(g, 17);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, 17, 0, G_CODE + 2);

        // Skipped: INT3 is done with, a fault comes again.
        raise();
        answer_skip(g);
        if (c.vector == 3)
            ENTER(g.vcpu, KVM_EXIT_HLT);
        else
            EXPECT_QUESTION(g, 0, kExceptionOrNmi, G_CODE + 2);
        EXPECT_EQ(g.log_count(), 0);
    }
}

// What the cause of a fault is mended for: the guest never knows.
TEST(mended_page_fault)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    const uint64_t entry = g.entry(G_FREE);
    g.set_entry(G_FREE, 0);
    g.memory.at<uint32_t>(G_FREE + 4) = 0xcafe;
    REQUIRE_OK(set_exceptions(g.vcpu, 1u << 14));
    start(g, CODE(64, "mov eax, [0x30004]; hlt; nop"));
    EXPECT_QUESTION(g, 0, kExceptionOrNmi, G_CODE);
    g.set_entry(G_FREE, entry);
    answer_skip(g);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rax, 0xcafe);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(single_step_trap_of_the_guest)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    // Bochs raises the trap also for a fetch that faults in EPT: the page is there by then.
    start(g, CODE(64, "hlt; nop; nop"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    REQUIRE_OK(set_exceptions(g.vcpu, 1u << 1));
    start(g, CODE(64, "nop; hlt; nop"), fresh_regs(0x102));
    EXPECT_QUESTION(g, 0, kExceptionOrNmi, G_CODE + 1);
    EXPECT_EQ(facts(g.vcpu).qualification & 1 << 14, 1 << 14); // BS, as DR6 will have it
    kvm_regs r = g.vcpu.regs();
    r.rflags &= ~0x100ULL;
    g.vcpu.set(r);
    answer_skip(g);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}

// A debugger's breakpoints are not the guest's exceptions.
TEST(beside_a_debugger)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    REQUIRE_OK(set_exceptions(g.vcpu, 1u << 3 | 1u << 1));
    kvm_guest_debug debug = {};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    REQUIRE_OK(call(g.vcpu, KVM_SET_GUEST_DEBUG, &debug));
    start(g, CODE(64, "int3; hlt; nop"));
    ENTER(g.vcpu, KVM_EXIT_DEBUG);
    debug.control = 0;
    REQUIRE_OK(call(g.vcpu, KVM_SET_GUEST_DEBUG, &debug));
    g.resume_at(G_CODE + 1);
    EXPECT_QUESTION(g, 0, kExceptionOrNmi, G_CODE);
    ENTER(g.vcpu, KVM_EXIT_HLT);

    // Single steps go on over what a client intercepts.
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_RDTSC));
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    start(g, CODE(64, "rdtsc; nop; hlt; nop"));
    REQUIRE_OK(call(g.vcpu, KVM_SET_GUEST_DEBUG, &debug));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_RDTSC, kRdtsc, G_CODE);
    ENTER(g.vcpu, KVM_EXIT_DEBUG);
    EXPECT_EQ(g.vcpu.run->debug.arch.pc, G_CODE + 2);
    ENTER(g.vcpu, KVM_EXIT_DEBUG);
    EXPECT_EQ(g.vcpu.run->debug.arch.pc, G_CODE + 3);
}

// ---- The monitor trap flag ----------------------------------------------------------------------

namespace {

// Bochs 2.7 offers the flag on its newest models, and has no exits by it.
void need_monitor_trap_flag(Guest &g)
{
    if (!can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_SINGLE_STEP))
        test::skip("no monitor trap flag");
    start(g, CODE(64, "nop; nop; hlt; nop"));
    REQUIRE_OK(g.vcpu.enter());
    if (g.vcpu.run->exit_reason == KVM_EXIT_HLT)
        test::skip("a monitor trap flag without exits");
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 1);
    REQUIRE_OK(set_intercepts(g.vcpu, 0)); // the question is not one any more
    ENTER(g.vcpu, KVM_EXIT_HLT);
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_SINGLE_STEP));
}

} // namespace

TEST(single_step)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    need_monitor_trap_flag(g);
    // CPUID and OUT exit, and are carried out outside of the guest; PUSHF shows no trap flag.
    start(g, CODE(64, "nop; xor eax, eax; cpuid; mov rax, cr0; pushf; pop rdx; out 0x10, al; nop; "
                      "hlt"));
    uint64_t at = G_CODE;
    for (unsigned length : {1, 2, 2, 3, 1, 1}) {
        at += length;
        EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, at);
    }
    EXPECT_EQ(g.vcpu.regs().rdx & 0x100, 0);
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, at + 2);
    REQUIRE_OK(set_intercepts(g.vcpu, 0));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 0);
}

TEST(a_step_ends_in_a_handler)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    need_monitor_trap_flag(g);
    start(g, CODE(64, "nop; hlt; nop"));
    g.resume_at(G_CODE + 1);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, G_CODE + 1);
    answer_inject(g, 17);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, G_STUBS + 17 * 16);
}

// What the hypervisor carries out in the guest's place is a step, too, whatever the flag does.
TEST(steps_of_emulated_instructions)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_SINGLE_STEP))
        test::skip("no monitor trap flag");
    start(g, CODE(64, "cpuid; cpuid; out 0x10, al; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, G_CODE + 2);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, G_CODE + 4);
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_SINGLE_STEP, kMonitorTrapFlag, G_CODE + 6);
}

// ---- Windows ------------------------------------------------------------------------------------

TEST(interrupt_window)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; sti; nop; nop; hlt; nop"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_INTERRUPT_WINDOW));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_INTERRUPT_WINDOW, kInterruptWindow, G_CODE + 3);
    ENTER(g.vcpu, KVM_EXIT_HLT); // once
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_INTERRUPT_WINDOW));
    start(g, CODE(64, "nop; hlt; nop"), fresh_regs(0x202));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_INTERRUPT_WINDOW, kInterruptWindow, G_CODE);
}

TEST(nmi_window)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    if (!can_set_intercepts(g.vcpu, MINIVMX_INTERCEPT_NMI_WINDOW))
        test::skip("no NMI window");
    start(g, CODE(64, "nop; hlt; nop"));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_NMI_WINDOW, kNmiWindow, G_CODE);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    // In the handler of an NMI there is none; IRET opens it.
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_NMI_WINDOW));
    start(g, CODE(64, "nop; hlt; nop"));
    REQUIRE_OK(call(g.vcpu, KVM_NMI));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_NMI_WINDOW, kNmiWindow, G_CODE);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 2);
}

// Interrupts of the kernel's controllers need the same window.
TEST(window_with_interrupts_of_the_kernel)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"),
            [](Vm &vm) { REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP)); });
    kvm_lapic_state lapic = {};
    REQUIRE_OK(call(g.vcpu, KVM_GET_LAPIC, &lapic));
    lapic.regs[0xf1] |= 1; // software enable
    REQUIRE_OK(call(g.vcpu, KVM_SET_LAPIC, &lapic));
    start(g, CODE(64, "nop; sti; nop; nop; out 0x10, al; hlt"));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_INTERRUPT_WINDOW));
    kvm_msi msi = {};
    msi.address_lo = 0xfee00000;
    msi.data = 0x30;
    EXPECT_EQ(call(g.vm, KVM_SIGNAL_MSI, &msi), 1);
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_INTERRUPT_WINDOW, kInterruptWindow, G_CODE + 3);
    EXPECT_EQ(g.log_count(), 0);
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 0x30);
}

TEST(hlt_with_interrupts_of_the_kernel)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"),
            [](Vm &vm) { REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP)); });
    kvm_lapic_state lapic = {};
    REQUIRE_OK(call(g.vcpu, KVM_GET_LAPIC, &lapic));
    lapic.regs[0xf1] |= 1;
    REQUIRE_OK(call(g.vcpu, KVM_SET_LAPIC, &lapic));
    REQUIRE_OK(set_intercepts(g.vcpu, MINIVMX_INTERCEPT_HLT));
    start(g, CODE(64, "hlt; out 0x10, al; hlt"), fresh_regs(0x202));
    EXPECT_QUESTION(g, MINIVMX_INTERCEPT_HLT, kHlt, G_CODE);
    kvm_msi msi = {};
    msi.address_lo = 0xfee00000;
    msi.data = 0x31;
    EXPECT_EQ(call(g.vm, KVM_SIGNAL_MSI, &msi), 1);
    ENTER(g.vcpu, KVM_EXIT_IO); // it slept, and was woken
    EXPECT_EQ(g.log_count(), 1);
}
