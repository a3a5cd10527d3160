// SPDX-License-Identifier: GPL-2.0-only
#include "vm.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loop.h"

extern "C" const uint8_t loop_guest[], loop_guest_end[];

namespace life {

void die(const char *what)
{
    const char *name = strerrorname_np(errno);
    printf("life: %s: %s\n", what, name ? name : "?");
    fflush(stdout);
    _exit(1);
}

void give_up(const char *what)
{
    printf("life: %s\n", what);
    fflush(stdout);
    _exit(1);
}

int open_device(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        die(path);
    return fd;
}

Vm::Vm(const char *path)
{
    device = open_device(path);
    vm = ioctl(device, KVM_CREATE_VM, 0);
    if (vm < 0)
        die("KVM_CREATE_VM");
    void *area =
        mmap(nullptr, LOOP_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        die("mmap");
    memory = static_cast<uint8_t *>(area);
    memcpy(memory + LOOP_CODE, loop_guest, static_cast<size_t>(loop_guest_end - loop_guest));
    kvm_userspace_memory_region region = {0, 0, 0, LOOP_MEMORY, reinterpret_cast<uint64_t>(memory)};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
        die("KVM_SET_USER_MEMORY_REGION");
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0)
        die("KVM_CREATE_VCPU");
    run_size = static_cast<size_t>(ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0));
    area = mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (area == MAP_FAILED)
        die("mmap of the vCPU");
    run = static_cast<kvm_run *>(area);
}

void Vm::start(uint32_t steps) const
{
    kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
        die("KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    sregs.fs.base = LOOP_PAGES;
    sregs.fs.selector = LOOP_PAGES >> 4;
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs))
        die("KVM_SET_SREGS");
    kvm_regs regs = {};
    regs.rip = LOOP_CODE;
    // With interrupts off in the guest the emulator would keep the host's away, too.
    regs.rflags = 0x202;
    regs.rdx = steps;
    if (ioctl(vcpu, KVM_SET_REGS, &regs))
        die("KVM_SET_REGS");
}

void Vm::use_clock() const
{
    constexpr uint32_t kSystemTime = 0x4b564d01;
    struct {
        kvm_msrs header;
        kvm_msr_entry entry;
    } msrs = {};
    msrs.header.nmsrs = 1;
    msrs.entry.index = kSystemTime;
    msrs.entry.data = LOOP_CLOCK | 1;
    if (ioctl(vcpu, KVM_SET_MSRS, &msrs) != 1)
        die("KVM_SET_MSRS");
}

bool Vm::was_stopped() const
{
    // struct pvclock_vcpu_time_info: its flags, and PVCLOCK_GUEST_STOPPED.
    constexpr int kFlags = 29, kGuestStopped = 2;
    return __atomic_load_n(memory + LOOP_CLOCK + kFlags, __ATOMIC_RELAXED) & kGuestStopped;
}

uint32_t Vm::count() const
{
    return __atomic_load_n(reinterpret_cast<uint32_t *>(memory + LOOP_COUNT), __ATOMIC_RELAXED);
}

bool Vm::enter() const
{
    if (ioctl(vcpu, KVM_RUN, 0)) {
        if (errno == EINTR || errno == EAGAIN)
            return false;
        die("KVM_RUN");
    }
    if (run->exit_reason != KVM_EXIT_HLT) {
        printf("life: KVM_RUN: exit reason %u (%llx)\n", run->exit_reason,
               static_cast<unsigned long long>(run->hw.hardware_exit_reason));
        fflush(stdout);
        _exit(1);
    }
    return true;
}

void Vm::expect_right_registers() const
{
    kvm_regs regs;
    if (ioctl(vcpu, KVM_GET_REGS, &regs))
        die("KVM_GET_REGS");
    uint32_t value = 0;
    for (uint32_t i = 0; i < static_cast<uint32_t>(regs.rcx); i++)
        value = value * LOOP_FACTOR + LOOP_SUMMAND;
    // Between two instructions of a step EAX is ahead of ECX.
    const uint32_t eax = static_cast<uint32_t>(regs.rax);
    const uint32_t half = value * LOOP_FACTOR;
    if (eax != value && eax != half && eax != half + LOOP_SUMMAND)
        give_up("the guest computed something else");
}

} // namespace life
