// SPDX-License-Identifier: GPL-2.0-only
//
// life COMMAND [DEVICE [ARGUMENTS]]
//   run                        a VM whose guest computes for a moment; status 0 if the result is
//   right hold DEVICE FILE [CPU]     a VM whose guest runs, on CPU if given, until SIGTERM; FILE
//   holds how far it is. Status 0 if
//                              what it computed is right
//   idle DEVICE FILE           a VM whose vCPU has run and does not run now, until SIGTERM; then it
//   runs again close                      files of VMs closed in every order; prints a test line
//   for each
//
// What fails is said in one line, with errno's name, and the status is 1.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "close.hpp"
#include "vm.hpp"

using namespace life;

namespace {

constexpr uint32_t kShort = 5000;

void write_state(const char *path, uint32_t count)
{
    // One write to an open file never shows a reader half a number: it has one length.
    static int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char text[16];
    int length = snprintf(text, sizeof(text), "%010u\n", count);
    if (fd < 0 || pwrite(fd, text, static_cast<size_t>(length), 0) != length)
        die(path);
}

int run_shortly(const char *device)
{
    Vm vm(device);
    vm.start(kShort);
    while (!vm.enter()) {
    }
    if (vm.count() != kShort)
        give_up("the guest halted too early");
    vm.expect_right_registers();
    return 0;
}

volatile bool stopping;

void *run_thread(void *argument)
{
    auto *vm = static_cast<Vm *>(argument);
    while (!stopping)
        if (vm->enter())
            give_up("the guest halted");
    return nullptr;
}

void ignore(int) {}

void pin_to(pthread_attr_t &attributes, const char *number)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(atoi(number)), &set);
    if ((errno = pthread_attr_setaffinity_np(&attributes, sizeof(set), &set)))
        die("affinity");
}

void wait_for_sigterm(const Vm &vm, const char *path)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    const timespec interval = {0, 50'000'000};
    while (sigtimedwait(&set, nullptr, &interval) != SIGTERM)
        write_state(path, vm.count());
}

void block_sigterm()
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    struct sigaction action = {};
    action.sa_handler = ignore;
    sigaction(SIGUSR1, &action, nullptr);
}

int hold(const char *device, const char *path, const char *cpu)
{
    Vm vm(device);
    vm.start(0);
    vm.use_clock();
    block_sigterm();
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (cpu)
        pin_to(attributes, cpu);
    pthread_t thread;
    if ((errno = pthread_create(&thread, &attributes, run_thread, &vm)))
        die("pthread_create");
    wait_for_sigterm(vm, path);
    stopping = true;
    vm.run->immediate_exit = 1;
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, nullptr);
    vm.expect_right_registers();
    printf("life: the guest was%s stopped\n", vm.was_stopped() ? "" : " never");
    return 0;
}

int idle(const char *device, const char *path)
{
    Vm vm(device);
    vm.start(kShort);
    while (!vm.enter()) {
    }
    vm.expect_right_registers();
    block_sigterm();
    wait_for_sigterm(vm, path);
    vm.start(kShort);
    while (!vm.enter()) {
    }
    vm.expect_right_registers();
    return 0;
}

} // namespace

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    const char *device = argc > 2 ? argv[2] : "/dev/minivmx";
    if (!strcmp(command, "run"))
        return run_shortly(device);
    if (!strcmp(command, "hold") && argc > 3)
        return hold(device, argv[3], argc > 4 ? argv[4] : nullptr);
    if (!strcmp(command, "idle") && argc > 3)
        return idle(device, argv[3]);
    if (!strcmp(command, "close"))
        return close_in_every_order(device);
    fprintf(
        stderr,
        "usage: life run [DEVICE] | hold DEVICE FILE [CPU] | idle DEVICE FILE | close [DEVICE]\n");
    return 2;
}
