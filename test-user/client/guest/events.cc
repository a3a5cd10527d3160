// SPDX-License-Identifier: GPL-2.0-only
//
// Interrupts, NMIs, their windows, and CR8.
#include "guest_test.hpp"

namespace {

constexpr uint32_t kVector = 0x30;

void interrupt(Vcpu &vcpu, uint32_t vector)
{
    kvm_interrupt i = {vector};
    REQUIRE_OK(call(vcpu, KVM_INTERRUPT, &i));
}

void nmi(Vcpu &vcpu)
{
    REQUIRE_OK(call(vcpu, KVM_NMI));
}

} // namespace

TEST(interrupt_each_mode)
{
    // Delivered before the next instruction, once.
    Device device;
    for (Mode mode : kAllModes) {
        Guest g(device, mode, CODES("nop; hlt; hlt").in(mode));
        start(g, CODES("nop; hlt; hlt").in(mode), fresh_regs(0x202));
        interrupt(g.vcpu, kVector);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, kVector, 0, G_CODE);
        EXPECT(g.log(0).flags & 0x200);
        EXPECT_EQ(g.log_count(), 1);
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EQ(g.log_count(), 1);
        fails_in(guest::name(mode));
    }
}

TEST(interrupt_wakes_from_halt)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "sti; hlt; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    // In the shadow of STI when HLT was executed; HLT itself has ended it.
    EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 1);
    EXPECT_EQ(g.vcpu.run->if_flag, 1);
    interrupt(g.vcpu, kVector);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, kVector, 0, G_CODE + 2);
}

TEST(interrupt_window)
{
    // IF = 0: not ready. With a request, userspace is told as soon as the guest can take one: after
    // the instruction behind STI.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "out 0x10, al; nop; sti; nop; nop; hlt"));
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 0);
    EXPECT_EQ(g.vcpu.run->if_flag, 0);
    g.vcpu.run->request_interrupt_window = 1;
    ENTER(g.vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
    EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 1);
    EXPECT_EQ(g.vcpu.run->if_flag, 1);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 2 + 1 + 1 + 1);
    g.vcpu.run->request_interrupt_window = 0;
    interrupt(g.vcpu, kVector);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, kVector, 0, G_CODE + 5);
}

TEST(interrupt_window_open_already)
{
    // A guest that can take an interrupt comes back at once, before it executes anything.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; hlt"), fresh_regs(0x202));
    g.vcpu.run->request_interrupt_window = 1;
    ENTER(g.vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE);
    EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 1);
    // And again, as long as it is asked for.
    ENTER(g.vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
    g.vcpu.run->request_interrupt_window = 0;
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(interrupt_window_withdrawn)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "out 0x10, al; out 0x10, al; sti; nop; nop; hlt"));
    g.vcpu.run->request_interrupt_window = 1;
    ENTER(g.vcpu, KVM_EXIT_IO);
    g.vcpu.run->request_interrupt_window = 0;
    ENTER(g.vcpu, KVM_EXIT_IO);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(interrupt_shadow_of_mov_ss)
{
    // The instruction behind a load of SS is not interrupted.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rax = SEL_DATA;
    // Once before: without EPT the first access of the GDT leaves the guest, and a VM entry with
    // STI blocking blocks nothing in Bochs.
    start(g, CODE(64, "mov ss, ax; out 0x10, al; sti; mov ss, ax; nop; nop; hlt"), r);
    ENTER(g.vcpu, KVM_EXIT_IO);
    g.vcpu.run->request_interrupt_window = 1;
    ENTER(g.vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
    uint64_t rip = g.vcpu.regs().rip;
    EXPECT(rip == G_CODE + 8 || rip == G_CODE + 7);
    g.vcpu.run->request_interrupt_window = 0;
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(interrupt_waits_for_page_fault)
{
    // The stack of the interrupt is on a page the host has not yet: the event survives the EPT
    // violation.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs(0x202);
    r.rsp = 0x160000;
    start(g, CODE(64, "nop; hlt"), r);
    REQUIRE_OK(madvise(g.memory.base + 0x150000, 0x20000, MADV_DONTNEED));
    interrupt(g.vcpu, kVector);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, kVector, 0, G_CODE);
    EXPECT_EQ(g.log_count(), 1);
}

TEST(interrupt_many)
{
    // One after the other, each through a window.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "sti; 1: out 0x10, al; jmp 1b"));
    g.vcpu.run->request_interrupt_window = 1;
    uint32_t sent = 0;
    for (int i = 0; i < 200 && sent < 20; i++) {
        REQUIRE_OK(g.vcpu.enter());
        if (g.vcpu.run->exit_reason == KVM_EXIT_IRQ_WINDOW_OPEN) {
            EXPECT_EQ(g.vcpu.run->ready_for_interrupt_injection, 1);
            interrupt(g.vcpu, kVector + sent % 16);
            sent++;
        } else
            REQUIRE_EQ(g.vcpu.run->exit_reason, KVM_EXIT_IO);
    }
    EXPECT_EQ(sent, 20);
    g.vcpu.run->request_interrupt_window = 0;
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_EQ(g.log_count(), 20);
    for (uint32_t i = 0; i < 20; i++)
        EXPECT_EQ(g.log(i).vector, kVector + i % 16);
}

TEST(cr8_in_kvm_run)
{
    // kvm_run.cr8 goes in at KVM_RUN and comes out at every exit.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "mov rbx, cr8; mov eax, 9; mov cr8, rax; out 0x10, al; mov rcx, cr8; hlt"));
    g.vcpu.run->cr8 = 5;
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_EQ(g.vcpu.regs().rbx, 5);
    EXPECT_EQ(g.vcpu.run->cr8, 9);
    EXPECT_EQ(g.vcpu.sregs().cr8, 9);
    g.vcpu.run->cr8 = 10;
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rcx, 10);
    EXPECT_EQ(g.vcpu.run->cr8, 10);
    // SET_SREGS sets it too, but kvm_run's is taken at the next run.
    kvm_sregs s = g.vcpu.sregs();
    EXPECT_EQ(s.cr8, 10);
}

TEST(cr8_lowered)
{
    // A lower CR8 may let an interrupt through, so userspace hears of it; a higher one or the same
    // does not matter.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "mov eax, 7; mov cr8, rax; mov cr8, rax; mov eax, 9; mov cr8, rax; mov eax, "
                      "3; mov cr8, rax\n"
                      "mov ebx, 0x77; hlt"));
    ENTER(g.vcpu, KVM_EXIT_SET_TPR);
    EXPECT_EQ(g.vcpu.run->cr8, 3);
    EXPECT_EQ(g.vcpu.regs().rbx, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rbx, 0x77);
}

TEST(nmi_each_mode)
{
    Device device;
    for (Mode mode : kAllModes) {
        Guest g(device, mode, CODES("nop; hlt; hlt").in(mode));
        nmi(g.vcpu); // IF = 0 does not matter
        ENTER(g.vcpu, KVM_EXIT_HLT);
        EXPECT_EXCEPTION(g, 0, 2, 0, G_CODE);
        EXPECT_EQ(g.log_count(), 1);
        fails_in(guest::name(mode));
    }
}

namespace {

// An NMI handler that tells userspace, twice, and returns; RBX counts the NMIs. Who waits for its
// end runs with IF = 1: without virtual NMIs the hypervisor tells it from interrupts being open
// again.
void install_nmi_handler(Guest &g)
{
    Blob handler = CODE(64, "inc rbx; out 0x20, al; nop; out 0x21, al; iretq");
    g.copy(0x150000, handler);
    g.set_gate(2, 0x150000);
}

} // namespace

TEST(nmi_held_until_iret)
{
    // An NMI that comes while another is being handled waits for its IRET (SDM Vol. 3A, 6.7.1).
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; nop; hlt"), fresh_regs(0x202));
    install_nmi_handler(g);
    nmi(g.vcpu);
    EXPECT_OUT(g.vcpu, 0x20, 1, 0);
    nmi(g.vcpu);
    EXPECT_OUT(g.vcpu, 0x21, 1, 0); // still in the first handler
    EXPECT_EQ(g.vcpu.regs().rbx, 1);
    EXPECT_OUT(g.vcpu, 0x20, 1, 0); // now the second
    EXPECT_EQ(g.vcpu.regs().rbx, 2);
    EXPECT_OUT(g.vcpu, 0x21, 1, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rbx, 2);
}

TEST(nmi_only_one_is_held)
{
    // Of several that come during a handler, one is remembered.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; nop; hlt"), fresh_regs(0x202));
    install_nmi_handler(g);
    nmi(g.vcpu);
    EXPECT_OUT(g.vcpu, 0x20, 1, 0);
    for (int i = 0; i < 4; i++)
        nmi(g.vcpu);
    EXPECT_OUT(g.vcpu, 0x21, 1, 0);
    EXPECT_OUT(g.vcpu, 0x20, 1, 0);
    EXPECT_OUT(g.vcpu, 0x21, 1, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rbx, 2);
}

TEST(nmi_two_before_running)
{
    // Two may be pending before the first is taken: one to be handled and one held.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; nop; hlt"), fresh_regs(0x202));
    install_nmi_handler(g);
    for (int i = 0; i < 5; i++)
        nmi(g.vcpu);
    for (int i = 0; i < 2; i++) {
        EXPECT_OUT(g.vcpu, 0x20, 1, 0);
        EXPECT_OUT(g.vcpu, 0x21, 1, 0);
    }
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.vcpu.regs().rbx, 2);
}

TEST(nmi_wakes_from_halt)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt; hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
    nmi(g.vcpu);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EXCEPTION(g, 0, 2, 0, G_CODE + 1);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 2);
}

TEST(nmi_and_interrupt)
{
    // Both pending: the NMI is first (SDM Vol. 3A, table 6-2), and the interrupt is not lost.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; nop; hlt"), fresh_regs(0x202));
    interrupt(g.vcpu, kVector);
    nmi(g.vcpu);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 2);
    uint32_t both = g.log(0).vector == 2 ? g.log(1).vector : g.log(0).vector;
    EXPECT(g.log(0).vector == 2 || g.log(1).vector == 2);
    EXPECT_EQ(both, kVector);
}

TEST(nmi_with_interrupt_shadow)
{
    // In the shadow of STI an NMI is held back for one instruction at most, and IF = 1 afterwards.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "sti; out 0x10, al; nop; hlt"));
    ENTER(g.vcpu, KVM_EXIT_IO);
    nmi(g.vcpu);
    ENTER(g.vcpu, KVM_EXIT_HLT);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 2);
    EXPECT(g.log(0).rip == G_CODE + 3 || g.log(0).rip == G_CODE + 4);
    EXPECT(g.log(0).flags & 0x200);
}

TEST(interrupt_during_nmi_handler)
{
    // The handler enables interrupts: they are taken, NMIs still are not.
    if (!kvm::module_parameter("vnmi"))
        test::skip("without virtual NMIs, open interrupts count as the handler's end");
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start(g, CODE(64, "nop; hlt"));
    Blob handler = CODE(64, "inc rbx; out 0x20, al; sti; nop; out 0x21, al; iretq");
    g.copy(0x150000, handler);
    g.set_gate(2, 0x150000);
    nmi(g.vcpu);
    EXPECT_OUT(g.vcpu, 0x20, 1, 0);
    nmi(g.vcpu);
    g.vcpu.run->request_interrupt_window = 1;
    ENTER(g.vcpu, KVM_EXIT_IRQ_WINDOW_OPEN);
    g.vcpu.run->request_interrupt_window = 0;
    EXPECT_EQ(g.vcpu.regs().rbx, 1);
    // Without taking one: the stub's IRET would end the NMI's blocking.
    EXPECT_OUT(g.vcpu, 0x21, 1, 0);
    EXPECT_EQ(g.vcpu.regs().rbx, 1);
    EXPECT_OUT(g.vcpu, 0x20, 1, 0);
    EXPECT_EQ(g.vcpu.regs().rbx, 2);
    EXPECT_OUT(g.vcpu, 0x21, 1, 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}
