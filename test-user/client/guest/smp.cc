// SPDX-License-Identifier: GPL-2.0-only
//
// Several VMs and vCPUs at once, and vCPUs that move between CPUs.
#include <pthread.h>
#include <sched.h>

#include "guest_test.hpp"

namespace {

Blob halt()
{
    return CODE(64, "hlt");
}

int cpus()
{
    return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

void move_to(pid_t thread, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    REQUIRE_OK(sched_setaffinity(thread, sizeof(set), &set));
}

// A thread that runs a vCPU until HLT and adds up what it sends.
struct Runner {
    Vcpu *vcpu;
    uint64_t sum = 0, outs = 0;
    bool failed = false;
    pthread_t thread{};
    pid_t tid = 0;

    void start()
    {
        REQUIRE_EQ(pthread_create(
                       &thread, nullptr,
                       [](void *arg) -> void * {
                           static_cast<Runner *>(arg)->run();
                           return nullptr;
                       },
                       this),
                   0);
    }
    void run()
    {
        tid = gettid();
        for (;;) {
            if (vcpu->enter() != 0) {
                failed = true;
                test::fail(__FILE__, __LINE__, "KVM_RUN: %s", test::errno_name(errno));
                return;
            }
            if (vcpu->run->exit_reason == KVM_EXIT_HLT)
                return;
            if (vcpu->run->exit_reason != KVM_EXIT_IO) {
                failed = true;
                test::fail(__FILE__, __LINE__, "exit %u", vcpu->run->exit_reason);
                return;
            }
            uint32_t value;
            memcpy(&value, vcpu->io_data(), 4);
            sum += value;
            outs++;
        }
    }
};

} // namespace

TEST_LIMIT(smp_vms_and_vcpus, 60)
{
    // Three VMs of two vCPUs each. Each vCPU sends RBX 30 times and adds to its own and to a shared
    // word.
    constexpr int kVms = 3, kVcpus = 2;
    constexpr uint32_t kTurns = 30;
    Device device;
    Blob code = CODE(64, "1: mov eax, ebx; out 0x10, eax; add [rsi], ebx; lock add [rdi], ebx; dec "
                         "ecx; jnz 1b; hlt");
    std::vector<Guest *> guests;
    std::vector<Vcpu> seconds;
    std::vector<Runner> runners;
    for (int i = 0; i < kVms; i++) {
        auto *g = new Guest(device, Mode::kLong, code);
        guests.push_back(g);
        seconds.emplace_back(device, g->vm, 1);
        g->set_cpuid(seconds.back());
        g->enter_mode(seconds.back(), 2, G_STACK - 0x1000);
    }
    for (int i = 0; i < kVms; i++)
        for (int v = 0; v < kVcpus; v++) {
            Vcpu &vcpu =
                v == 0 ? guests[static_cast<size_t>(i)]->vcpu : seconds[static_cast<size_t>(i)];
            kvm_regs r = vcpu.regs();
            r.rbx = static_cast<uint64_t>(1 + i * 10 + v);
            r.rcx = kTurns;
            r.rsi = static_cast<uint64_t>(G_DATA + 64 * v);
            r.rdi = G_DATA + 1024;
            vcpu.set(r);
            runners.push_back(Runner{&vcpu});
        }
    for (Runner &runner : runners)
        runner.start();
    for (Runner &runner : runners)
        pthread_join(runner.thread, nullptr);
    for (size_t i = 0; i < kVms; i++) {
        uint32_t together = 0;
        for (size_t v = 0; v < kVcpus; v++) {
            uint32_t rbx = static_cast<uint32_t>(1 + i * 10 + v);
            EXPECT_EQ(runners[i * kVcpus + v].sum, uint64_t{rbx} * kTurns);
            EXPECT_EQ(runners[i * kVcpus + v].outs, kTurns);
            EXPECT_EQ(guests[i]->memory.at<uint32_t>(G_DATA + 64 * v), rbx * kTurns);
            together += rbx * kTurns;
        }
        EXPECT_EQ(guests[i]->memory.at<uint32_t>(G_DATA + 1024), together);
    }
}

TEST(smp_moved_between_runs)
{
    if (cpus() < 2)
        test::skip("one CPU");
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    g.enter_mode(g.vcpu);
    kvm_sregs s = g.vcpu.sregs();
    s.cr4 |= guest::kCr4Osfxsr;
    g.vcpu.set(s);
    kvm_regs r = fresh_regs();
    r.rsi = G_DATA;
    r.rax = 0x7654321;
    // Every turn: the TSC does not go back, and state in memory, XMM, DR and MSR is still there.
    start(
        g,
        CODE(
            64,
            "movq xmm7, rax; mov dr1, rax; mov ecx, 0xc0000102; xor edx, edx; wrmsr; xor ebp, ebp\n"
            "1: inc dword ptr [rsi]; rdtsc; shl rdx, 32; or rax, rdx; cmp rax, rbp; jb 2f; mov "
            "rbp, rax\n"
            "movq rax, xmm7; out 0x10, eax; mov rax, dr1; out 0x10, eax; rdmsr; out 0x10, eax; jmp "
            "1b\n"
            "2: hlt"),
        r);
    for (int i = 0; i < 20; i++) {
        move_to(0, i % 2);
        for (int part = 0; part < 3; part++) {
            EXPECT_REPORT(g.vcpu, 0x7654321);
            if (part == i % 3)
                move_to(0, (i + 1) % 2);
        }
        EXPECT_EQ(g.memory.at<uint32_t>(G_DATA), i + 1);
    }
}

TEST(smp_moved_while_running)
{
    if (cpus() < 2)
        test::skip("one CPU");
    Device device;
    Guest g(device, Mode::kLong, halt());
    // Counts until the client sets the word at G_DATA; the TSC must not go back.
    kvm_regs r = fresh_regs(0x202);
    r.rsi = G_DATA;
    start(g,
          CODE(64, "xor ebp, ebp\n"
                   "1: inc dword ptr [rsi + 8]; rdtsc; shl rdx, 32; or rax, rdx; cmp rax, rbp; jb "
                   "2f; mov rbp, rax\n"
                   "cmp dword ptr [rsi], 0; je 1b\n"
                   "mov eax, 1; out 0x10, eax; hlt\n"
                   "2: mov eax, 0x0bad; out 0x10, eax; hlt"),
          r);
    Runner runner{&g.vcpu};
    runner.start();
    volatile pid_t *tid = &runner.tid;
    while (!*tid)
        usleep(1000);
    volatile uint32_t *counter = &g.memory.at<uint32_t>(G_DATA + 8);
    for (int i = 0; i < 10; i++) {
        move_to(runner.tid, i % 2);
        uint32_t before = *counter;
        for (int wait = 0; wait < 1000 && *counter == before; wait++)
            usleep(1000);
        EXPECT(*counter != before);
    }
    g.memory.at<uint32_t>(G_DATA) = 1;
    pthread_join(runner.thread, nullptr);
    EXPECT_EQ(runner.sum, 1);
}

TEST(smp_memory_changes_while_running)
{
    // One vCPU counts in a page without exits, while the process takes the page away and gives it
    // back.
    Device device;
    Guest g(device, Mode::kLong, halt());
    kvm_regs r = fresh_regs(0x202);
    r.rsi = 0x140000;
    r.rdi = G_DATA;
    start(g,
          CODE(64, "1: inc dword ptr [rsi]; cmp dword ptr [rdi], 0; je 1b; mov eax, 1; out 0x10, "
                   "eax; hlt"),
          r);
    Runner runner{&g.vcpu};
    runner.start();
    volatile uint32_t *counter = &g.memory.at<uint32_t>(0x140000);
    for (int i = 0; i < 10; i++) {
        for (int wait = 0; wait < 1000 && *counter == 0; wait++)
            usleep(1000);
        EXPECT(*counter != 0);
        // The old page goes: from now on the guest must count in the new one.
        REQUIRE_OK(madvise(g.memory.base + 0x140000, kPage, MADV_DONTNEED));
        REQUIRE_OK(mprotect(g.memory.base + 0x141000, kPage, PROT_READ));
        REQUIRE_OK(mprotect(g.memory.base + 0x141000, kPage, PROT_READ | PROT_WRITE));
    }
    g.memory.at<uint32_t>(G_DATA) = 1;
    pthread_join(runner.thread, nullptr);
    EXPECT_EQ(runner.sum, 1);
}

TEST(smp_slot_changes_while_running)
{
    // A slot the guest does not use comes and goes while it runs.
    Device device;
    Guest g(device, Mode::kLong, halt());
    kvm_regs r = fresh_regs(0x202);
    r.rsi = G_DATA;
    start(g,
          CODE(64, "1: inc dword ptr [rsi + 8]; cmp dword ptr [rsi], 0; je 1b; mov eax, 1; out "
                   "0x10, eax; hlt"),
          r);
    Runner runner{&g.vcpu};
    runner.start();
    volatile uint32_t *counter = &g.memory.at<uint32_t>(G_DATA + 8);
    Memory other(kPage);
    for (int i = 0; i < 10; i++) {
        REQUIRE_OK(g.vm.set_slot(5, 0x10000000, kPage, other.base));
        REQUIRE_OK(g.vm.set_slot(5, 0x10000000, 0, nullptr));
        uint32_t before = *counter;
        for (int wait = 0; wait < 1000 && *counter == before; wait++)
            usleep(1000);
        EXPECT(*counter != before);
    }
    g.memory.at<uint32_t>(G_DATA) = 1;
    pthread_join(runner.thread, nullptr);
    EXPECT_EQ(runner.sum, 1);
}

TEST(smp_nmi_from_another_thread)
{
    // KVM_NMI needs the vCPU's lock; a signal gets it out of the guest, and the NMI is delivered on
    // the way back.
    Device device;
    Guest g(device, Mode::kLong, halt());
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    REQUIRE_OK(sigaction(SIGUSR1, &action, nullptr));
    kvm_regs r = fresh_regs(0x202);
    r.rsi = LOG_COUNT;
    start(g, CODE(64, "1: cmp dword ptr [rsi], 0; je 1b; mov eax, 1; out 0x10, eax; hlt"), r);
    struct Kick {
        pthread_t target;
        Guest *guest;
    } kick = {pthread_self(), &g};
    pthread_t thread;
    auto body = [](void *arg) -> void * {
        auto *k = static_cast<Kick *>(arg);
        usleep(20000);
        pthread_kill(k->target, SIGUSR1);
        return nullptr;
    };
    REQUIRE_EQ(pthread_create(&thread, nullptr, body, &kick), 0);
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    pthread_join(thread, nullptr);
    REQUIRE_OK(call(g.vcpu, KVM_NMI));
    EXPECT_REPORT(g.vcpu, 1);
    EXPECT_EQ(g.log(0).vector, 2);
}
