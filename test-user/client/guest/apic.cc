// SPDX-License-Identifier: GPL-2.0-only
//
// Guests with the interrupt controllers in the kernel: the local APIC's timer, priorities and
// interprocessor interrupts, HLT that stays in the kernel, and processors that start others.
#include <pthread.h>
#include <sys/time.h>

#include "guest_test.hpp"

namespace {

constexpr uint64_t kApicPage = 0xfee00000;

void with_irqchip(Vm &vm)
{
    REQUIRE_OK(call(vm, KVM_CREATE_IRQCHIP));
}

// A guest in IA-32e mode whose tables map the APIC's page, with interrupts off.
struct ApicGuest : Guest {
    explicit ApicGuest(Device &d) : Guest(d, Mode::kLong, CODE(64, "hlt"), with_irqchip)
    {
        map_apic();
    }
    void map_apic()
    {
        // Bits 38:30 of the address are those of G_MMIO, so that there is a page directory already.
        static_assert(kApicPage >> 30 == G_MMIO >> 30);
        memory.at<uint64_t>(G_TABLES + 0x4000 + 8 * (kApicPage >> 21 & 511)) =
            (kApicPage & ~0x1fffffULL) | guest::kPresent | guest::kWrite | guest::kLarge | 0x18;
    }
    // `start` copies code only.
    void begin(Blob code, uint64_t flags = 2) { start(*this, code, fresh_regs(flags)); }
};

#define ENABLE_APIC                                                                                \
    "mov ebx, 0xfee00000\n"                                                                        \
    "mov dword ptr [rbx+0xf0], 0x1ff\n"

uint32_t mp_state(const Vcpu &vcpu)
{
    kvm_mp_state state = {};
    REQUIRE_OK(call(vcpu, KVM_GET_MP_STATE, &state));
    return state.mp_state;
}

int set_mp_state(const Vcpu &vcpu, uint32_t value)
{
    kvm_mp_state state = {value};
    return call(vcpu, KVM_SET_MP_STATE, &state);
}

uint32_t apic_register(const Vcpu &vcpu, uint32_t offset)
{
    kvm_lapic_state state = {};
    REQUIRE_OK(call(vcpu, KVM_GET_LAPIC, &state));
    uint32_t value;
    memcpy(&value, state.regs + offset, 4);
    return value;
}

bool offers(Device &device, unsigned bit_of_1_ecx)
{
    kvm::Cpuid all;
    kvm::Cpuid::supported(device, all);
    for (uint32_t i = 0; i < all.list->nent; i++)
        if (all.list->entries[i].function == 1)
            return all.list->entries[i].ecx >> bit_of_1_ecx & 1;
    return false;
}

} // namespace

TEST_LIMIT(apic_timer_wakes_halt, 30)
{
    Device device;
    ApicGuest g(device);
    g.begin(CODE(64, ENABLE_APIC "mov dword ptr [rbx+0x3e0], 0xb\n"
                                 "mov dword ptr [rbx+0x320], 0x30\n"
                                 "mov dword ptr [rbx+0x380], 1000000\n"
                                 "sti; hlt\n"
                                 "mov dword ptr [rbx+0xb0], 0\n"
                                 "mov eax, [rbx+0x390]; out 0x10, eax\n"
                                 "mov eax, [rbx+0x30]; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 0);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 0x30);
    EXPECT_REPORT(g.vcpu, 0x50014);
    EXPECT_EQ(apic_register(g.vcpu, 0x380), 1000000);
    EXPECT_EQ(apic_register(g.vcpu, 0x110), 0);
    EXPECT_EQ(mp_state(g.vcpu), KVM_MP_STATE_RUNNABLE);
}

TEST_LIMIT(apic_timer_periodic, 30)
{
    Device device;
    ApicGuest g(device);
    // Five ticks while asleep, five while running.
    g.begin(CODE(64, ENABLE_APIC
                 "mov dword ptr [rbx+0x3e0], 0xb\n"
                 "mov dword ptr [rbx+0x320], 0x20030\n"
                 "mov dword ptr [rbx+0x380], 2000000\n"
                 "mov ecx, 5\n"
                 "1: sti; hlt; cli; mov dword ptr [rbx+0xb0], 0; dec ecx; jnz 1b\n"
                 "mov eax, [0x10000]; out 0x10, eax\n"
                 "sti; 2: mov dword ptr [rbx+0xb0], 0; cmp dword ptr [0x10000], 10; jb 2b\n"
                 "mov eax, [0x10000]; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 5);
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT(g.log_count() >= 10);
    EXPECT_EQ(g.log(9).vector, 0x30);
}

TEST_LIMIT(apic_tsc_deadline, 30)
{
    Device device;
    if (!offers(device, 24))
        return;
    ApicGuest g(device);
    g.begin(CODE(64,
                 ENABLE_APIC "mov dword ptr [rbx+0x320], 0x40031\n"
                             "mfence; rdtsc; add eax, 2000000; adc edx, 0; mov ecx, 0x6e0; wrmsr\n"
                             "sti; hlt; cli\n"
                             "mov dword ptr [rbx+0xb0], 0\n"
                             "mov ecx, 0x6e0; rdmsr; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 0);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 0x31);
}

TEST_LIMIT(apic_tpr_holds_interrupts_back, 30)
{
    Device device;
    ApicGuest g(device);
    g.begin(CODE(64, ENABLE_APIC
                 "mov eax, 5; mov cr8, rax; sti\n"
                 "mov dword ptr [rbx+0x300], 0x44035\n" // to itself
                 "nop; nop; mov eax, [0x10000]; out 0x10, eax\n"
                 "mov eax, [rbx+0x80]; out 0x10, eax\n"  // TPR
                 "mov eax, [rbx+0x210]; out 0x10, eax\n" // IRR 32-63
                 "mov eax, 2; mov cr8, rax; nop\n"
                 "mov eax, [0x10000]; out 0x10, eax\n"
                 "mov eax, [rbx+0xa0]; out 0x10, eax\n" // PPR
                 "mov dword ptr [rbx+0xb0], 0\n"
                 "mov eax, [rbx+0xa0]; out 0x10, eax; mov rax, cr8; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 0);
    EXPECT_REPORT(g.vcpu, 0x50);
    EXPECT_REPORT(g.vcpu, 1u << 21);
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_REPORT(g.vcpu, 0x30);
    EXPECT_REPORT(g.vcpu, 0x20);
    EXPECT_REPORT(g.vcpu, 2);
    EXPECT_EQ(g.vcpu.run->cr8, 2);
    EXPECT_EQ(g.vcpu.sregs().cr8, 2);
}

TEST_LIMIT(apic_priorities, 30)
{
    // Three at once: they come by their priority, each in the other's handler's wake.
    Device device;
    ApicGuest g(device);
    g.begin(CODE(64, ENABLE_APIC "mov dword ptr [rbx+0x300], 0x44032\n"
                                 "mov dword ptr [rbx+0x300], 0x44021\n"
                                 "mov dword ptr [rbx+0x300], 0x44035\n"
                                 "sti; nop; nop\n"
                                 "mov eax, [0x10000]; out 0x10, eax\n" // 0x35 is in service
                                 "mov dword ptr [rbx+0xb0], 0; nop\n"
                                 "mov eax, [0x10000]; out 0x10, eax\n"
                                 "mov dword ptr [rbx+0xb0], 0; nop\n"
                                 "mov eax, [0x10000]; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_REPORT(g.vcpu, 2);
    EXPECT_REPORT(g.vcpu, 3);
    EXPECT_EQ(g.log(0).vector, 0x35);
    EXPECT_EQ(g.log(1).vector, 0x32);
    EXPECT_EQ(g.log(2).vector, 0x21);
}

TEST_LIMIT(apic_nmi_to_itself, 30)
{
    Device device;
    ApicGuest g(device);
    g.begin(CODE(64, ENABLE_APIC "mov dword ptr [rbx+0x310], 0\n"
                                 "mov dword ptr [rbx+0x300], 0x4400\n"
                                 "nop; mov eax, [0x10000]; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_EQ(g.log(0).vector, 2);
}

TEST_LIMIT(apic_pic_through_lint0, 30)
{
    Device device;
    ApicGuest g(device);
    g.begin(CODE(64,
                 "mov al, 0x11; out 0x20, al; mov al, 0x30; out 0x21, al\n"
                 "mov al, 4; out 0x21, al; mov al, 1; out 0x21, al; mov al, 0xfe; out 0x21, al\n"
                 "mov eax, 77; out 0x10, eax; sti; hlt; cli\n"
                 "mov al, 0x20; out 0x20, al; mov eax, 78; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 77);
    for (const uint32_t level : {0u, 1u}) {
        kvm_irq_level line = {};
        line.irq = 0;
        line.level = level;
        REQUIRE_OK(call(g.vm, KVM_IRQ_LINE, &line));
    }
    EXPECT_REPORT(g.vcpu, 78);
    EXPECT_EQ(g.log_count(), 1);
    EXPECT_EQ(g.log(0).vector, 0x30);
}

TEST_LIMIT(apic_halt_ends_with_a_signal, 30)
{
    Device device;
    ApicGuest g(device);
    g.begin(CODE(64, "sti; 1: hlt; jmp 1b"));
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    REQUIRE_OK(sigaction(SIGALRM, &action, nullptr));
    for (int i = 0; i < 3; i++) {
        itimerval timer = {};
        timer.it_value.tv_usec = 30000;
        REQUIRE_OK(setitimer(ITIMER_REAL, &timer, nullptr));
        EXPECT_ERRNO(g.vcpu.enter(), EINTR);
        EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_INTR);
        EXPECT_EQ(mp_state(g.vcpu), KVM_MP_STATE_HALTED);
        EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 2);
    }
    g.vcpu.run->immediate_exit = 1;
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
}

TEST(apic_mp_states)
{
    Device device;
    ApicGuest g(device);
    Vcpu second(device, g.vm, 1);
    EXPECT_EQ(mp_state(g.vcpu), KVM_MP_STATE_RUNNABLE);
    EXPECT_EQ(mp_state(second), KVM_MP_STATE_UNINITIALIZED);
    second.run->immediate_exit = 1;
    EXPECT_ERRNO(second.enter(), EINTR);
    for (const uint32_t bad : {5u, 10u, 0x80000000u})
        EXPECT_ERRNO(set_mp_state(second, bad), EINVAL);
    for (const uint32_t good :
         {KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_UNINITIALIZED}) {
        REQUIRE_OK(set_mp_state(second, good));
        EXPECT_EQ(mp_state(second), good);
    }
    EXPECT_EQ(apic_register(second, 0x20), 1u << 24);
    EXPECT_EQ(apic_register(g.vcpu, 0x350), 0x700);
    EXPECT_EQ(apic_register(second, 0x350), 0x10000);
}

namespace {

struct Processor {
    Vcpu *vcpu;
    int result = 0, error = 0;
    pthread_t thread{};

    void start()
    {
        REQUIRE_EQ(pthread_create(
                       &thread, nullptr,
                       [](void *arg) -> void * {
                           static_cast<Processor *>(arg)->run();
                           return nullptr;
                       },
                       this),
                   0);
    }
    void run()
    {
        do {
            result = vcpu->enter();
            error = errno;
        } while (result == -1 && error == EAGAIN);
    }
};

} // namespace

TEST_LIMIT(apic_starts_another_processor, 60)
{
    // INIT and SIPI; the other one counts in real mode, then answers each IPI of the first with
    // one.
    Device device;
    ApicGuest g(device);
    Vcpu second(device, g.vm, 1);
    g.set_cpuid(second);
    g.copy(G_FREE, CODE(16, "mov ax, 0x1100; mov ds, ax; mov word ptr [0], 0x4242\n"
                            "mov eax, 99; out 0x10, eax; hlt"));
    Processor other{&second};
    other.start();
    g.begin(CODE(64, ENABLE_APIC "mov dword ptr [rbx+0x310], 0x01000000\n"
                                 "mov dword ptr [rbx+0x300], 0xc500\n"
                                 "mov dword ptr [rbx+0x310], 0x01000000\n"
                                 "mov dword ptr [rbx+0x300], 0x4630\n"
                                 "sti; 1: pause; cmp word ptr [0x11000], 0x4242; jne 1b\n"
                                 "mov eax, 1; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 1);
    pthread_join(other.thread, nullptr);
    EXPECT_EQ(other.result, 0);
    EXPECT_EQ(second.run->exit_reason, KVM_EXIT_IO);
    EXPECT_EQ(second.sregs().cs.selector, 0x3000);
    EXPECT_EQ(mp_state(second), KVM_MP_STATE_RUNNABLE);
}

TEST_LIMIT(apic_ipis_there_and_back, 60)
{
    // Each sleeps until the other's IPI comes: a lost one would hang both.
    constexpr uint32_t kTurns = 200;
    Device device;
    ApicGuest g(device);
    Vcpu second(device, g.vm, 1);
    g.set_cpuid(second);
    REQUIRE_OK(set_mp_state(second, KVM_MP_STATE_RUNNABLE));
    // RSI: the other's APIC ID in place; RDI: turns; RBP: whether to send first.
    g.begin(CODE(64, ENABLE_APIC "test ebp, ebp; jnz 2f\n"
                                 "1: sti; hlt; cli; mov dword ptr [rbx+0xb0], 0\n"
                                 "2: mov dword ptr [rbx+0x310], esi\n"
                                 "mov dword ptr [rbx+0x300], 0x4030\n"
                                 "dec edi; jnz 1b\n"
                                 "mov eax, 5; out 0x10, eax; hlt"));
    g.enter_mode(second, 2, G_STACK);
    kvm_regs first = g.vcpu.regs(), answer = second.regs();
    first.rsi = 1u << 24;
    first.rdi = answer.rdi = kTurns;
    first.rbp = 1;
    answer.rsi = 0;
    answer.rbp = 0;
    g.vcpu.set(first);
    second.set(answer);
    Processor other{&second};
    // The second enables its APIC before the first sends: it runs there once.
    kvm_lapic_state apic = {};
    REQUIRE_OK(call(second, KVM_GET_LAPIC, &apic));
    const uint32_t enabled = 0x1ff;
    memcpy(apic.regs + 0xf0, &enabled, 4);
    REQUIRE_OK(call(second, KVM_SET_LAPIC, &apic));
    other.start();
    EXPECT_REPORT(g.vcpu, 5);
    pthread_join(other.thread, nullptr);
    EXPECT_EQ(other.result, 0);
    EXPECT_EQ(second.run->exit_reason, KVM_EXIT_IO);
}

TEST_LIMIT(apic_x2apic, 30)
{
    Device device;
    if (!offers(device, 21))
        return;
    ApicGuest g(device);
    g.begin(CODE(64, "mov ecx, 0x1b; rdmsr; or eax, 0xc00; wrmsr\n"
                     "mov ecx, 0x80f; mov eax, 0x1ff; xor edx, edx; wrmsr\n"
                     "mov ecx, 0x808; mov eax, 0x30; wrmsr\n"
                     "mov rax, cr8; out 0x10, eax\n"
                     "mov ecx, 0x83f; mov eax, 0x35; wrmsr; sti; nop\n"
                     "mov eax, [0x10000]; out 0x10, eax\n" // class 3 is held back
                     "mov ecx, 0x808; xor eax, eax; wrmsr; nop\n"
                     "mov eax, [0x10000]; out 0x10, eax\n"
                     "mov ecx, 0x80b; xor eax, eax; wrmsr\n"
                     "mov ecx, 0x811; rdmsr; out 0x10, eax\n"
                     "mov ecx, 0x80d; rdmsr; out 0x10, eax; hlt"));
    EXPECT_REPORT(g.vcpu, 3);
    EXPECT_REPORT(g.vcpu, 0);
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_REPORT(g.vcpu, 0);
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_EQ(g.log(0).vector, 0x35);
}

TEST(apic_watchdog_by_the_pit)
{
    // LINT0 delivers NMIs: each tick of the PIT is one, although the PIC masks its line.
    Device device;
    ApicGuest g(device);
    kvm_pit_config config = {};
    REQUIRE_OK(call(g.vm, KVM_CREATE_PIT2, &config));
    g.begin(CODE(64, ENABLE_APIC "mov dword ptr [rbx+0x350], 0x400\n"
                                 "mov al, 0x34; out 0x43, al; xor eax, eax; out 0x40, al;"
                                 "mov al, 0x20; out 0x40, al; hlt; out 0x10, al; hlt"));
    ENTER(g.vcpu, KVM_EXIT_IO);
    EXPECT_EQ(g.vcpu.run->io.port, PORT_OUT);
    EXPECT(g.log_count() >= 1);
    EXPECT_EQ(g.log(0).vector, 2);
}
