// SPDX-License-Identifier: GPL-2.0-only
#include "close.hpp"

#include <algorithm>
#include <cstdio>
#include <string>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"
#include "vm.hpp"

namespace life {

namespace {

enum Hold { kDevice, kVm, kVcpu, kMapping, kHolds };
constexpr const char *kNames[] = {"device", "VM", "vCPU", "mapping"};

void release(Vm &vm, int hold)
{
    switch (hold) {
    case kDevice:
        close(vm.device);
        break;
    case kVm:
        close(vm.vm);
        break;
    case kVcpu:
        close(vm.vcpu);
        break;
    default:
        munmap(vm.run, vm.run_size);
    }
}

// In a process of its own, which ends with status 0 if everything was right.
void release_in_order(const char *device, const int (&order)[kHolds])
{
    constexpr uint32_t kSteps = 100;
    Vm vm(device);
    bool open[kHolds] = {true, true, true, true};
    for (int hold : order) {
        release(vm, hold);
        open[hold] = false;
        if (!open[kVcpu])
            continue;
        vm.start(kSteps);
        if (open[kMapping]) {
            while (!vm.enter()) {
            }
        } else
            vm.expect_right_registers();
    }
    // The memory outlives the VM: nothing may write to it now.
    for (size_t i = LOOP_PAGES; i < LOOP_MEMORY; i++)
        vm.memory[i] = 0;
    _exit(0);
}

} // namespace

int close_in_every_order(const char *device)
{
    int order[kHolds] = {kDevice, kVm, kVcpu, kMapping};
    int result = 0;
    do {
        std::string name;
        for (int hold : order)
            name += std::string(name.empty() ? "" : ", ") + kNames[hold];
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            release_in_order(device, order);
        int status = -1;
        waitpid(child, &status, 0);
        const bool ok = child > 0 && status == 0;
        printf(ok ? "ok - closed in the order %s\n" : "not ok - closed in the order %s\n",
               name.c_str());
        result |= !ok;
    } while (std::next_permutation(order, order + kHolds));
    return result;
}

} // namespace life
