// SPDX-License-Identifier: GPL-2.0-only
//
// Signals, immediate_exit, and threads that leave KVM_RUN.
#include <pthread.h>
#include <sys/time.h>

#include "guest_test.hpp"

namespace {

volatile sig_atomic_t signals_seen;

void note_signal(int)
{
    signals_seen = signals_seen + 1;
}

void handle(int number)
{
    struct sigaction action = {};
    action.sa_handler = note_signal;
    REQUIRE_OK(sigaction(number, &action, nullptr));
}

// An endless loop that counts in RAX, with interrupts enabled.
void start_loop(Guest &g)
{
    start(g, CODE(64, "1: inc rax; jmp 1b"), fresh_regs(0x202));
}

void set_timer(int milliseconds)
{
    itimerval timer = {};
    timer.it_value.tv_usec = milliseconds * 1000;
    REQUIRE_OK(setitimer(ITIMER_REAL, &timer, nullptr));
}

int set_mask(const Vcpu &vcpu, uint64_t bits)
{
    struct {
        uint32_t len;
        uint8_t sigset[8];
    } mask = {8, {}};
    memcpy(mask.sigset, &bits, 8);
    return call(vcpu, KVM_SET_SIGNAL_MASK, &mask);
}

} // namespace

TEST(signal_interrupts_run)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start_loop(g);
    handle(SIGALRM);
    // On a slow machine one of them may come before the guest has moved.
    int moved = 0;
    for (int i = 0; moved < 5; i++) {
        uint64_t before = g.vcpu.regs().rax;
        set_timer(30);
        EXPECT_ERRNO(g.vcpu.enter(), EINTR);
        EXPECT_EQ(g.vcpu.run->exit_reason, KVM_EXIT_INTR);
        EXPECT_EQ(signals_seen, i + 1);
        moved += g.vcpu.regs().rax > before;
    }
}

TEST(signal_pending_before_run)
{
    // Nothing of the guest is executed.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start_loop(g);
    handle(SIGUSR1);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    REQUIRE_OK(sigprocmask(SIG_BLOCK, &set, nullptr));
    REQUIRE_OK(raise(SIGUSR1));
    // Unblocked during KVM_RUN only: it ends the run, and is still pending afterwards.
    REQUIRE_OK(set_mask(g.vcpu, 0));
    for (int i = 0; i < 3; i++) {
        EXPECT_ERRNO(g.vcpu.enter(), EINTR);
        EXPECT_EQ(g.vcpu.regs().rax, 0);
        EXPECT_EQ(signals_seen, 0);
    }
    REQUIRE_OK(sigpending(&set));
    EXPECT(sigismember(&set, SIGUSR1));
    REQUIRE_OK(sigprocmask(SIG_UNBLOCK, &set, nullptr));
    EXPECT_EQ(signals_seen, 1);
}

TEST(signal_mask_blocks)
{
    // The mask of KVM_SET_SIGNAL_MASK replaces the thread's during KVM_RUN, both ways.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "out 0x10, al; out 0x10, al; hlt"));
    handle(SIGUSR1);
    REQUIRE_OK(set_mask(g.vcpu, 1ULL << (SIGUSR1 - 1)));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    REQUIRE_OK(sigprocmask(SIG_BLOCK, &set, nullptr));
    REQUIRE_OK(raise(SIGUSR1));
    ENTER(g.vcpu, KVM_EXIT_IO);
    // Taken away again, the thread's own mask counts.
    REQUIRE_OK(call(g.vcpu, KVM_SET_SIGNAL_MASK, nullptr));
    ENTER(g.vcpu, KVM_EXIT_IO);
    REQUIRE_OK(set_mask(g.vcpu, 0));
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    EXPECT_EQ(signals_seen, 0);
    // SIGKILL and SIGSTOP can't be masked; asking for it is no error.
    EXPECT_ERRNO(set_mask(g.vcpu, ~0ULL), 0);
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(signal_then_io_is_completed)
{
    // An IN that userspace has answered is completed even when a signal ends the run at once; so is
    // an MMIO read.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    kvm_regs r = fresh_regs();
    r.rsi = G_MMIO;
    start(g, CODE(64, "in eax, 0x43; mov ebx, [rsi]; hlt"), r);
    EXPECT_IN(g.vcpu, 0x43, 4, 0x12345678);
    g.vcpu.run->immediate_exit = 1;
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    EXPECT_EQ(g.vcpu.regs().rax, 0x12345678);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 2);
    g.vcpu.run->immediate_exit = 0;
    EXPECT_MMIO_READ(g.vcpu, G_MMIO, 4, 0x87654321);
    g.vcpu.run->immediate_exit = 1;
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    EXPECT_EQ(g.vcpu.regs().rbx, 0x87654321);
    EXPECT_EQ(g.vcpu.regs().rip, G_CODE + 4);
    g.vcpu.run->immediate_exit = 0;
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(kick_from_another_thread)
{
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start_loop(g);
    handle(SIGUSR2);
    struct Kick {
        pthread_t target;
        Guest *guest;
    } kick = {pthread_self(), &g};
    pthread_t thread;
    auto body = [](void *arg) -> void * {
        auto *k = static_cast<Kick *>(arg);
        usleep(200000);                         // long enough for the guest to begin
        k->guest->vcpu.run->immediate_exit = 1; // as QEMU does: closes the gap before KVM_RUN
        pthread_kill(k->target, SIGUSR2);
        return nullptr;
    };
    REQUIRE_EQ(pthread_create(&thread, nullptr, body, &kick), 0);
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    pthread_join(thread, nullptr);
    EXPECT_EQ(signals_seen, 1);
    EXPECT(g.vcpu.regs().rax > 0);
}

TEST(other_ioctls_wait_for_run)
{
    // One thread at a time has the vCPU: GET_REGS of another thread waits for KVM_RUN's end.
    Device device;
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    start_loop(g);
    handle(SIGALRM);
    struct State {
        Guest *guest;
        volatile bool entering, asked;
        uint64_t rax;
    } state = {&g, false, false, 0};
    pthread_t thread;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    REQUIRE_OK(
        sigprocmask(SIG_BLOCK, &set, nullptr)); // the thread inherits it: the signal is this one's
    auto body = [](void *arg) -> void * {
        auto *s = static_cast<State *>(arg);
        do
            usleep(10000);
        while (!s->entering);
        s->asked = true;
        s->rax = s->guest->vcpu.regs().rax;
        return nullptr;
    };
    REQUIRE_EQ(pthread_create(&thread, nullptr, body, &state), 0);
    REQUIRE_OK(sigprocmask(SIG_UNBLOCK, &set, nullptr));
    set_timer(60);
    state.entering = true;
    EXPECT_ERRNO(g.vcpu.enter(), EINTR);
    EXPECT(state.asked);
    pthread_join(thread, nullptr);
    EXPECT(state.rax > 0);
    EXPECT_EQ(state.rax, g.vcpu.regs().rax); // where the run ended, not where it was when asked
}

TEST(kill_in_run)
{
    // A process that dies in the middle of KVM_RUN leaves nothing behind.
    Device device;
    for (int i = 0; i < 3; i++) {
        int ready[2];
        REQUIRE_OK(pipe(ready));
        pid_t child = fork();
        if (child == 0) {
            Guest g(device, Mode::kLong, CODE(64, "hlt"));
            start_loop(g);
            (void)!write(ready[1], "x", 1);
            g.vcpu.enter();
            _exit(1);
        }
        char byte;
        REQUIRE_OK(read(ready[0], &byte, 1));
        usleep(3000);
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    Guest g(device, Mode::kLong, CODE(64, "hlt"));
    ENTER(g.vcpu, KVM_EXIT_HLT);
}

TEST(exit_with_other_thread_in_run)
{
    // exit_group() while another thread runs the guest.
    Device device;
    pid_t child = fork();
    if (child == 0) {
        Guest g(device, Mode::kLong, CODE(64, "hlt"));
        start_loop(g);
        pthread_t thread;
        pthread_create(
            &thread, nullptr,
            [](void *arg) -> void * {
                static_cast<Guest *>(arg)->vcpu.enter();
                return nullptr;
            },
            &g);
        usleep(5000);
        _exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}
